"""Who is there: active subscriptions, announced when they begin and end (Mercure, "Active Subscriptions").

In: streams that begin and end. Out: rows in the store's presence, events in its log.
Start with `active`; `documents` has the documents of both generations.
"""
