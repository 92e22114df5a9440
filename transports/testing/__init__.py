"""The contract of a transport as a test suite that anyone runs on a transport of his own; ``VERSION`` is the suite's.

    from transports.testing.suite import TransportContract   # SharedTransportContract: processes may share a URL

    class TestMine(TransportContract):
        durable = True                           # does history outlive `close`?

        @pytest.fixture
        def url(self, tmp_path):                 # a fresh one; "?size=N" must bound its history
            return f"mine://{tmp_path}/log"

In: a URL. Out: what of the contract does not hold. It needs pytest and pytest-asyncio. Start with `suite`; `peer` is
the second process that the shared suite talks to. ``docs/write-a-transport.md`` builds a small transport and runs it.
"""

VERSION = 2
"""Counted up when a test is added that a transport which passed before may fail."""
