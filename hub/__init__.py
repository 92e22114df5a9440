"""A hub for the Mercure protocol. What a program uses is here; the rest is the hub's own.

    from hub import Hub, Settings, create_app

The rooms, each importing only what stands below it: `cli` (what a person types), `server` (a process), `web` (what a
client asks), `presence` (who is there), `fanout` (from the log to every subscriber), `auth` (what a request may do),
`matching`, `config` and `client`, then `lifecycle` and `problems`; below them all is the package `transports`, the log.
``docs/architecture.md`` has the map.
"""

TYPE_CHECKING = False
"""As type checkers take it; importing `typing` would cost every health check 10 ms."""

if TYPE_CHECKING:
    from hub.auth.grants import Grants
    from hub.config.settings import Settings
    from hub.problems import Problem
    from hub.web.hub import Hub, create_app
    from hub.web.subscribe import HistoryLost

__all__ = ["Grants", "HistoryLost", "Hub", "Problem", "Settings", "create_app"]

_PLACES = {
    "Grants": "hub.auth.grants",
    "HistoryLost": "hub.web.subscribe",
    "Hub": "hub.web.hub",
    "Problem": "hub.problems",
    "Settings": "hub.config.settings",
    "create_app": "hub.web.hub",
}


def __getattr__(name: str) -> object:
    """Imported when they are asked for: a container's health check starts often, and needs none of it (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    from importlib.util import find_spec
    from os.path import dirname

    transports = find_spec("transports")
    if transports is None or not transports.origin or dirname(dirname(transports.origin)) != dirname(dirname(__file__)):
        raise ImportError(
            f"'import transports' finds {transports and transports.origin}, which is not mercure-hub's:"
            " it stands before it on sys.path; move or rename it"
        )
    found: object = getattr(import_module(_PLACES[name]), name)
    return found
