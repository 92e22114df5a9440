"""The other side: publish to any hub, and follow it.

In: a hub's URL and a token. Out: ids of updates, events.
Start with `client`; `sse_parser` reads streams.
"""
