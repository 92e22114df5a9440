"""Which pages are meant by a list of origins."""

import pytest

from hub.config.values import origins
from hub.matching.origins import Origins

LISTED = Origins(origins("https://a.example https://*.b.example http://*.c.example:8080 null"))


@pytest.mark.parametrize(
    "origin",
    [
        *("https://a.example", "https://x.b.example", "https://x.y.b.example", "https://x-1.b.example", "null"),
        "http://x.c.example:8080",
    ],
)
def test_those_that_are_meant(origin: str) -> None:
    """An origin as it is; ``*.`` stands for one label or more."""
    assert origin in LISTED


@pytest.mark.parametrize(
    "origin",
    [
        *("", "http://a.example", "https://x.a.example", "https://a.example.evil.test", "https://evil-a.example"),
        *("https://b.example", "https://.b.example", "https://x.b.example.evil.test", "https://evilb.example"),
        *("https://evil.test/.b.example", "https://evil.test:1.b.example", "https://evil.test#.b.example"),
        *("https://user@x.b.example", "https://x..b.example", "https://x.b.example:8443", "http://x.b.example"),
        *("http://x.c.example", "https://x.c.example:8080", "https://evil.test\n.b.example", "HTTPS://x.b.example"),
    ],
)
def test_those_that_are_not(origin: str) -> None:
    """Another scheme, port or host, however near it looks."""
    assert origin not in LISTED


def test_every_origin() -> None:
    """``*`` alone is all of them; no origin is none."""
    assert "https://evil.test" in Origins(("*",))
    assert not Origins(())
    assert Origins(("*",))
