"""What transport URLs say."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as some

from transports import InvalidTransport, open_transport
from transports.urls import count, duration, parameters, redact, size_in_bytes, split

PASSWORD = some.text(string.printable + "é\u2028", min_size=1).map(lambda text: f"<{text}>")
NAME = some.text(string.ascii_letters)


@given(some.sampled_from(["redis://", "rediss://", "x:/", "nonsense://"]), NAME, PASSWORD, NAME)
def test_redact(scheme: str, user: str, password: str, host: str) -> None:
    """A password is never shown, however badly it is escaped; its URL's scheme and host are."""
    shown = redact(f"{scheme}{user}:{password}@{host}:6379/0?x=1")
    assert password not in shown
    assert shown == f"{scheme}{user}:***@{host}:6379/0?x=1"


@given(some.sampled_from(["redis://", "redis:/", "lmdb://", "memory://", "none://", "redis:", ""]), PASSWORD, NAME)
def test_no_error_shows_a_password(scheme: str, password: str, host: str) -> None:
    """The error for a wrong URL does not hold its password."""
    with pytest.raises(InvalidTransport) as caught:
        open_transport(f"{scheme}user:{password}@{host}?unknown=1")
    assert password not in str(caught.value)
    assert password not in repr(caught.value)


@pytest.mark.parametrize("url", ["memory://", "lmdb:///data/hub?size=1", "redis://host:6379/0", "lmdb://a:b/c"])
def test_nothing_to_redact(url: str) -> None:
    """A URL without a password is shown as it is."""
    assert redact(url) == url


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1s", 1), ("40", 40), ("1.5m", 90), ("12h", 43200), ("7d", 604800), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number and ms, s, m, h or d; without a unit it is seconds."""
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1w", "1e3", "nan", "inf", "1s1", "1h 30m"])
def test_no_durations(text: str) -> None:
    """Anything else is refused by its text."""
    with pytest.raises(ValueError, match="is not a duration such as"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512MB", 512 * 10**6), ("1GiB", 1 << 30), ("2k", 2000), ("1TiB", 1 << 40), ("7 B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    """A size is bytes: MB is 10⁶, MiB is 2²⁰."""
    assert size_in_bytes(text) == size


@given(some.integers(min_value=0, max_value=10**6), some.sampled_from("KMGT"))
def test_binary_sizes(number: int, unit: str) -> None:
    """1024 of a binary unit are one of the next."""
    larger = {"K": "M", "M": "G", "G": "T", "T": None}[unit]
    if larger:
        assert size_in_bytes(f"{number * 1024}{unit}iB") == size_in_bytes(f"{number}{larger}iB")


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1.5GiB", "1PB", "1ib"])
def test_no_sizes(text: str) -> None:
    """Anything else is refused by its text."""
    with pytest.raises(ValueError, match="is not a size such as"):
        size_in_bytes(text)


@pytest.mark.parametrize("text", ["0", "-1", "", "1.0", "x", "²", "1" * 5000])
def test_no_counts(text: str) -> None:
    """A count is a whole number of at least 1."""
    with pytest.raises(ValueError, match=r"whole number|4300"):
        count(text)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sise=1", "unknown parameter 'sise'"),
        ("size=1&size=2", "'size' is given twice"),
        ("size=", "'size' has no value"),
    ],
)
def test_wrong_parameters(query: str, said: str) -> None:
    """A parameter that is unknown, repeated or empty is named."""
    with pytest.raises(ValueError, match=said):
        parameters(query, frozenset({"size"}))


def test_split_shows_nothing() -> None:
    """What can't be split is not quoted: it may hold a password."""
    with pytest.raises(ValueError, match="not a URL") as caught:
        split("redis://user:secret@ho℀st/")
    assert "secret" not in str(caught.value)
