"""``lmdb://``: the log in one LMDB file, for one process or for all of one host.

In: updates, from the event loop. Out: entries, once they are on the disk.
Start with `transport` (the event loop's side), then `thread` (group commit) and `store` (what is written where).
"""
