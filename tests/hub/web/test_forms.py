"""Forms and queries, decoded as the standard library decodes them."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.web.forms import pairs

PIECES = ["topic", "data", "é", "%C3%A9", "%2F", "%zz", "%", "+", "=", "&", "==", "a%3Db", "\U0001f600", ";", " "]
PIECES += ["\n", "%\n", "%\r", "+%41", "%4"]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5).filter(lambda text: text.isprintable())).map("".join))
def test_as_the_standard_library_has_it(text: str) -> None:
    """Names and values are those of `parse_qsl`, for every text."""
    try:
        expected = parse_qsl(text, keep_blank_values=True, errors="strict", separator="&")
    except UnicodeDecodeError:
        return  # octets that are no UTF-8 by themselves may be, together with what follows
    assert pairs(text.encode(), 1000) == expected


@pytest.mark.parametrize("text", [b"a=%ff", b"\xff=a"])
def test_what_is_not_utf_8_is_refused(text: bytes) -> None:
    """Encoded or not."""
    with pytest.raises(UnicodeDecodeError):
        pairs(text, 10)


def test_too_many_pairs_are_refused_before_they_are_decoded() -> None:
    """The bound is on what is there, empty pairs as well."""
    assert len(pairs(b"&".join([b"a=b"] * 10), 10)) == 10
    with pytest.raises(OverflowError):
        pairs(b"&" * 10, 10)
