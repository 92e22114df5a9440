"""A row of the log: what decides who gets an update, what else it has, and the event that goes out, ready-made.

    8 bytes   milliseconds since the epoch
    4, 4      where the address ends, where the event begins
    address   1 or 0 for private or not, then the topics as JSON: the same bytes for the same audiences
    rest      a JSON object of the other fields that are set
    event     what subscribers get; the data is taken out of it again

A replay decodes each address once for all rows that share it, and joins the events as they are.
"""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring as quoted
from struct import Struct
from typing import Any

from transports.contract import Page, Position, Update, Visibility

_HEAD = Struct(">QII")
_START = _HEAD.size
_DATA = b"\ndata: "
_FIELDS = ("type", "retry", "idempotency_key", "fingerprint")


def row_of(update: Update, milliseconds: int) -> bytes:
    """The row of an update."""
    address = f"{int(update.private)}[{','.join(map(quoted, update.topics))}]".encode()
    rest = _rest(update).encode()
    end = _START + len(address)
    return b"%b%b%b%b" % (_HEAD.pack(milliseconds, end, end + len(rest)), address, rest, update.to_event())


def _rest(update: Update) -> str:
    bare = "\r" not in update.data  # which an event has lost
    if bare and update[-len(_FIELDS) :] == (None,) * len(_FIELDS):
        return f'{{"id":{quoted(update.id)}}}'
    fields = {name: getattr(update, name) for name in ("id", *_FIELDS, *(() if bare else ("data",)))}
    return json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)


def milliseconds_of(row: bytes) -> int:
    """When it was appended."""
    return int.from_bytes(row[:8])


def rest_of(row: bytes) -> dict[str, Any]:
    """Its id, and what else it has but topics and data. ValueError, `struct.error`: it is damaged."""
    _, end, start = _HEAD.unpack_from(row)
    rest: dict[str, Any] = json.loads(row[end:start])
    return rest


def update_of(row: bytes) -> Update:
    """The reverse of `row_of`. ValueError, KeyError, TypeError, `struct.error`: it is damaged."""
    _, end, start = _HEAD.unpack_from(row)
    topics, private = _address(row[_START:end])
    rest: dict[str, Any] = json.loads(row[end:start])
    if "data" not in rest:
        rest["data"] = row[start:].partition(_DATA)[2][:-2].replace(_DATA, b"\n").decode()
    return Update(topics=topics, private=private, **rest)


def _address(text: bytes) -> Visibility:
    return Visibility(tuple(json.loads(text[1:])), text[:1] == b"1")


def visibility_of(row: bytes) -> Visibility:
    """Its topics, and whether it is private. ValueError, `struct.error`: it is damaged."""
    _, end, _ = _HEAD.unpack_from(row)
    return _address(row[_START:end])


def page_of(rows: Sequence[bytes], positions: Sequence[Position], reached: Position = 0) -> Page:
    """The events of rows. ValueError, `struct.error`: one is damaged."""
    heads = list(map(_HEAD.unpack_from, rows))
    texts = [row[_START:end] for row, (_, end, _) in zip(rows, heads, strict=True)]
    kinds = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return Page(
        positions,
        [row[start:] for row, (_, _, start) in zip(rows, heads, strict=True)],
        [_address(text) for text in kinds],
        [kinds[text] for text in texts],
        reached,
    )
