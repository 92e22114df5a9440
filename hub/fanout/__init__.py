"""From the log to every subscriber: dispatcher -> audiences -> streams -> wires.

In: batches of entries from `Transport.tail`. Out: bytes on connections; a slow reader gets its own pages of the log.
Start with `dispatcher`, then `audiences` (who gets what), `stream` (one subscriber) and `wire` (its connection).
"""
