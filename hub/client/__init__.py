"""The other side, for any hub: `Client` and `AsyncClient` for programs, and what the command line needs of them.

In: the URL of a hub, and a token. Out: ids of what was published, events of what is subscribed to.
Start with `protocol`, where everything is decided; `clients` sends it with httpx, `client` with the standard library.

    from hub.client import AsyncClient
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from hub.client.clients import AsyncClient, Client, Event, Gap, Key, Refused, Unreachable, Update

__all__ = ["AsyncClient", "Client", "Event", "Gap", "Key", "Refused", "Unreachable", "Update"]


def __getattr__(name: str) -> object:
    """Imported when they are asked for: they need the extra ``client``, and the command line does not (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from hub.client import clients
    except ModuleNotFoundError as error:
        raise ImportError(f"{error.name} is missing: pip install 'mercure-hub[client]' brings it") from error
    found: object = getattr(clients, name)
    return found
