"""``last=1``, an extension: a stream that begins with the newest update of each topic, for a page's first paint."""

import asyncio
from collections.abc import Sequence

from hub.matching.matchers import Matcher, Matching
from hub.problems import Problem
from transports import Position, TopicIndex, Transport

MOST = 1000
"""Topics whose newest update is sent."""
LOOKED_AT = 10_000
"""Topics of history that are held against patterns."""
AT_ONCE = 200
"""Of them, before the event loop has its turn."""
TOGETHER = 50
"""Topics whose newest updates are in memory at once."""
LARGEST = 8 << 20
"""Bytes that are sent before the stream itself, which waits for its reader."""
DEPTH = 4
"""Of a topic's newest updates, how many are looked at for one that the subscriber may read."""


async def newest_updates(
    transport: Transport, matching: Matching, matchers: Sequence[Matcher], grants: Sequence[Matcher]
) -> tuple[bytes, Position]:
    """Their events, in the order of the log, and the cursor after which to go on: with neither a gap nor a double.

    The cursor is the log's end before anything is looked up. What is newer than that comes by the stream, so it is left
    out here. Raises `Problem` 413 and 501, and what the transport raises.
    """
    index = transport.index
    if index is None:
        raise Problem(501, "this hub's store does not find topics; last=1 needs index=topics in its URL, or memory://")
    cursor, _ = await transport.last()
    topics = await _topics(index, matching, matchers)
    if len(topics) > MOST:
        raise Problem(413, f"more than {MOST} topics match, and last=1 would send the newest update of each")
    chosen: dict[Position, bytes] = {}
    for at in range(0, len(topics), TOGETHER):
        for entries in (await index.newest_of(topics[at : at + TOGETHER], DEPTH)).values():
            readable = (e for e in entries if not e.update.private or matching.any(grants, e.update.topics))
            entry = next(readable, None)
            if entry is not None and entry.position <= cursor:
                chosen[entry.position] = entry.update.to_event()
        if sum(map(len, chosen.values())) > LARGEST:
            raise Problem(413, f"the newest updates of these topics have more than {LARGEST >> 20} MiB together")
    return b"".join(chosen[position] for position in sorted(chosen)), cursor


async def _topics(index: TopicIndex, matching: Matching, matchers: Sequence[Matcher]) -> list[str]:
    """Those of history that the matchers select. Raises `Problem` 413."""
    found = {matcher.pattern: None for matcher in matchers if matcher.is_exact}
    for matcher in matchers:
        if matcher.is_exact:
            continue
        listed = await index.topics(matcher.beginning, LOOKED_AT + 1)
        if len(listed) > LOOKED_AT:
            raise Problem(413, f"history has more than {LOOKED_AT} topics, too many for last=1 with this pattern")
        for at in range(0, len(listed), AT_ONCE):
            found |= dict.fromkeys(each for each in listed[at : at + AT_ONCE] if matching.matches(matcher, each))
            await asyncio.sleep(0)
    return list(found)
