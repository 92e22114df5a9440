"""A hub for the Mercure protocol, as a command (`hub.cli`), a server (`hub.server`) or an ASGI application (`hub.app`).

# Layout

Each line imports only what stands below it.

- `cli`: the commands; `options`, `trying`, `claims`: their flags, what ``--dev`` prints, what tokens claim
- `server`: uvicorn in our hands; `client`, `events`: the other side, for the commands
- `app`: every part wired once, every route in one list
- `publish`, `subscribe`, `subscriptions`, `health`: the endpoints
- `dispatcher`: follows the log and pushes; `presence`: announces who comes and leaves
- `stream`: one subscriber, behind or live
- `audiences`: who gets what
- `wire`: how bytes reach one subscriber
- `authorization`: request -> token; `grants`: what it allows; `publication`: form -> update; `documents`: subscriptions
- `keys`, `matchers` (with `uritemplates`, `urlpatterns`): pure
- `lifecycle`, `settings` (with `values`, `directives`), `timers`
- `errors`: what a client is told
- `transports`: the log
"""
