"""From the log to every subscriber: dispatcher -> audiences -> streams -> wires.

In: batches of entries from `Transport.tail`. Out: bytes on connections; whoever is slow reads the log by itself.
Start with `dispatcher`, then `audiences` (who gets what), `stream` (one subscriber) and `wire` (its connection).
"""
