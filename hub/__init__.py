"""A hub for the Mercure protocol. What a program uses is here; the rest is the hub's own.

    from hub import Settings, create_app

The rooms, each importing only what stands below it: `cli` (what a person types), `server` (a process), `web` (what a
client asks), `presence` (who is there), `fanout` (from the log to every subscriber), `auth` (what a request may do),
`matching`, `config` and `client`, then `lifecycle` and `problems`; below them all is the package `transports`, the log.
``docs/architecture.md`` has the map.
"""

TYPE_CHECKING = False
"""As type checkers take it; importing `typing` would cost every health check 10 ms."""

if TYPE_CHECKING:
    from hub.config.settings import Settings
    from hub.web.app import create_app

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> object:
    """Imported when they are asked for: a container's health check starts often, and needs none of it (PEP 562)."""
    if name == "Settings":
        from hub.config.settings import Settings

        return Settings
    if name == "create_app":
        from hub.web.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
