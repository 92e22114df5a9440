"""``postgresql://``: the log in a table of PostgreSQL, for many hosts, and for the application's own transactions.

In: updates, from hubs and from SQL. Out: entries, as every process that shares the database sees them.
Start with `transport`, then ``schema.sql`` (what the server does), `lines` (what is asked), `server` (the way there).
"""
