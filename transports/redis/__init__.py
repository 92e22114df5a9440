"""``redis://`` and its relatives: the log in a stream of Redis or Valkey, for many hosts.

In: updates and questions. Out: entries, as every process that shares the stream sees them.
Start with `transport`, then `stream` (format, scripts), `pipeline` (one connection) and `routes` (the way there).
"""
