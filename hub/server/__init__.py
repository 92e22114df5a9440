"""One process, or several: uvicorn in our hands.

In: settings and connections. Out: requests for `hub.web`, in the order of their connection, and a proper end.
Start with `server` (sockets, signals, standby, drain); `http1` is the protocol, `workers` the supervisor of several.
"""
