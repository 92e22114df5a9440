"""What a client asks: every path, and what it answers.

In: requests (ASGI, or as a whole from `hub.server.http1`). Out: appends to the log, streams for `hub.fanout`, problems.
Start with `app`, where all parts are wired and all routes stand in one list; then `publish` and `subscribe`.
"""
