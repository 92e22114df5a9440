"""For the tests of programs that publish: a hub that only remembers, and a pytest fixture with a real one.

In: what a program publishes. Out: what it has published, or a URL.
Start with `FakeHub` in `fake`; `plugin` is loaded by pytest itself, and so imports nothing of a hub.

    from hub.testing import FakeHub
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from hub.testing.fake import FakeHub, Published

__all__ = ["FakeHub", "Published"]


def __getattr__(name: str) -> object:
    """Imported when they are asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hub.testing import fake

    found: object = getattr(fake, name)
    return found
