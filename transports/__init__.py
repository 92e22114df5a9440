"""The log behind the hub, chosen by URL. Standard library and one driver per file; never imports the hub."""

from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from transports.contract import (
    EARLIEST,
    Answer,
    Dated,
    Entry,
    ForwardsInStandby,
    History,
    HistoryTrimmed,
    IdempotencyConflict,
    InvalidTransport,
    Page,
    Position,
    Receipt,
    TopicIndex,
    Transport,
    TransportClosed,
    TransportError,
    TransportFull,
    TransportReplaced,
    TransportUnavailable,
    Update,
    Visibility,
    tuple_of,
)
from transports.grouping import awaited
from transports.presence import DEAD, Presence

__all__ = [
    "DEAD",
    "EARLIEST",
    "Answer",
    "Dated",
    "Entry",
    "ForwardsInStandby",
    "History",
    "HistoryTrimmed",
    "IdempotencyConflict",
    "InvalidTransport",
    "Page",
    "Position",
    "Presence",
    "Receipt",
    "TopicIndex",
    "Transport",
    "TransportClosed",
    "TransportError",
    "TransportFull",
    "TransportReplaced",
    "TransportUnavailable",
    "Update",
    "Visibility",
    "awaited",
    "open_transport",
    "tuple_of",
]


def open_transport(url: str) -> Transport:
    """The transport that the URL's scheme names, not yet opened.

    Schemes come from the entry points ``mercure_hub.transports``; a third party adds its own there, as the path of
    a `Transport` subclass. Raises `InvalidTransport`: unknown scheme, missing extra, wrong parameter.
    """
    scheme = url.partition("://")[0]
    found = {point.name: point for point in entry_points(group="mercure_hub.transports")}
    if "://" not in url:
        raise InvalidTransport(url, "it has no scheme; write memory:// or lmdb:///directory")
    if scheme not in found:
        raise InvalidTransport(url, _unknown(scheme, sorted(found)))
    try:
        transport: type[Transport] = found[scheme].load()
    except ModuleNotFoundError as error:
        raise InvalidTransport(
            url, f"the package {error.name!r} is missing; {_cure(found[scheme], error.name)}"
        ) from error
    return transport(url)


def _cure(point: EntryPoint, missing: str | None) -> str:
    """How to install what a transport needs: one of our extras, the package, or whatever a third party says."""
    package = point.dist.name if point.dist is not None else point.module
    if package != "mercure-hub":
        return f"it is needed by {package}, whose documentation says how to install it"
    extra = point.module.split(".")[1]
    extras = point.dist.metadata.get_all("Provides-Extra") if point.dist is not None else None
    wanted = f"'mercure-hub[{extra}]'" if extra in (extras or ()) else missing
    return f"pip install {wanted} brings it"


def _unknown(scheme: str, known: list[str]) -> str:
    hint = get_close_matches(scheme, known, n=1, cutoff=0.5)
    meant = f"did you mean {hint[0]}://? " if hint else ""
    return f"unknown scheme {scheme!r}; {meant}There are {', '.join(f'{name}://' for name in known)}"
