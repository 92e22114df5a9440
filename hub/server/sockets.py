"""What the hub listens on: bound sockets, and what is spoken on each of them."""

import errno
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from enum import Enum
from typing import NamedTuple

from hub.config.settings import Settings
from hub.config.values import EVERY_INTERFACE, UNIX, Address, shown_address

BACKLOG = 4096
"""Connections that may wait to be accepted: after a restart all clients come at once."""
SEND_BUFFER = 64 * 1024
"""Bytes of kernel memory that a stalled reader can bind; without it, it is 3–4 MB (the kernel doubles the value)."""
KEEPALIVE = (("TCP_KEEPIDLE", 40), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""Seconds until an idle peer is asked whether it is there, between two questions, and how many may stay unanswered.

By name: not every system has all of them.
"""
SILENCE = 4
"""How many times `dispatch_timeout` a peer may take to answer at all: a slow reader's kernel still does."""
LONGEST = 2**31 - 1
"""What the kernel takes for a number of milliseconds: 24 days."""
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""How a machine without IPv6 answers, or one whose IPv6 is switched off."""
_FREE_PORTS = 10
"""Tries to find a port that is free in both families; another error would only come again."""

logger = logging.getLogger(__name__)


class Spoken(Enum):
    """What is spoken on an address."""

    HTTP = "http"
    HTTPS = "https"
    ADMIN = "health, over http"


class Listener(NamedTuple):
    """A socket that is bound and not listening yet."""

    socket: socket.socket
    spoken: Spoken = Spoken.HTTP

    def close(self) -> None:
        self.socket.close()

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it, without a path."""
        if self.socket.family == getattr(socket, "AF_UNIX", None):
            return f"{UNIX}{self.socket.getsockname()}"
        host, port = self.socket.getsockname()[:2]
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        return f"{'https' if self.spoken is Spoken.HTTPS else 'http'}://{shown_address((local, port))}"


Listeners = Sequence[Listener]
"""The first one's URL is announced."""


def wanted(settings: Settings) -> Sequence[tuple[Address, Spoken]]:
    """The addresses that the settings name, and what is spoken there."""
    certificate = settings.tls_cert is not None
    spoken = [
        Spoken.HTTPS if (certificate if each.tls is None else each.tls) else Spoken.HTTP for each in settings.listen
    ]
    public = [(each.address, said) for each, said in zip(settings.listen, spoken, strict=True)]
    return public + [(address, Spoken.ADMIN) for address in settings.admin_listen]


def listeners_of(settings: Settings, given: Sequence[socket.socket] = ()) -> Listeners:
    """The sockets that the settings want. Raises OSError with a sentence.

    ``given``: those that whoever started us has bound already; they count instead of what ``listen`` says.
    """
    with ExitStack() as undo:
        spoken_there = Spoken.HTTP if settings.tls_cert is None else Spoken.HTTPS
        listeners = [Listener(each, spoken_there) for each in given]
        for address, spoken in wanted(settings):
            if given and spoken is not Spoken.ADMIN:
                continue
            for bound in bind(address, SILENCE * settings.dispatch_timeout):
                undo.callback(bound.close)
                listeners.append(Listener(bound, spoken))
        undo.pop_all()
    return listeners


def bind(address: Address, silence: float = 0) -> Sequence[socket.socket]:
    """Sockets for each family that the host has: a name may have several, `EVERY_INTERFACE` has IPv4 and IPv6.

    Each family has a socket of its own, so that clients are known by the addresses that an operator writes.
    ``silence``: seconds that a peer may leave what it is sent unanswered before its connection is broken (RFC 5482);
    0 leaves that to the kernel, which takes a quarter of an hour. Raises OSError with a sentence.
    """
    if address[0].startswith(UNIX):
        return [_bound_unix(address)]
    tries = _FREE_PORTS if address[1] == 0 else 1
    while True:
        tries -= 1
        try:
            return _bind_families(_hosts(address), address[1], silence)
        except OSError as error:
            if not tries or error.errno != errno.EADDRINUSE:
                raise cannot_listen(address, error) from error


def _bound_unix(address: Address) -> socket.socket:
    """A socket for the hub's own user and group; one that nobody listens on any more is removed."""
    if not hasattr(socket, "AF_UNIX"):
        raise cannot_listen(address, OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets"))
    path = address[0].removeprefix(UNIX)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except FileNotFoundError:
                pass
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(path)
        os.chmod(path, 0o660)
    except OSError as error:
        listener.close()
        raise cannot_listen(address, error) from error
    return listener


def _bind_families(
    hosts: Iterable[tuple[socket.AddressFamily, str]], port: int, silence: float
) -> Sequence[socket.socket]:
    """One socket for each host, all on one port; those of a family that is not here are left out. Raises OSError."""
    missing: OSError | None = None
    with ExitStack() as undo:
        bound: list[socket.socket] = []
        for family, host in hosts:
            try:
                found = bound[0].getsockname()[1] if bound else port
                bound.append(undo.enter_context(_bound(family, (host, found), silence)))
            except OSError as error:
                if error.errno not in _NO_FAMILY:
                    raise
                missing = error
                logger.debug("%s: this family of addresses is not here: %s", host, error.strerror)
        if not bound:
            raise missing or OSError(errno.EADDRNOTAVAIL, "it has no address")
        undo.pop_all()
    return bound


def _hosts(address: Address) -> Iterable[tuple[socket.AddressFamily, str]]:
    """IPv4 first: it is what a family of its own is missing for least often."""
    if address[0] == EVERY_INTERFACE:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 - what is asked for
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return sorted({(family, str(name[0])) for family, _, _, _, name in found})


def _bound(family: socket.AddressFamily, address: Address, silence: float) -> socket.socket:
    """Accepted sockets inherit all that is set here."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # Windows would give the port to several
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option, value in (*KEEPALIVE, ("TCP_USER_TIMEOUT", min(round(1000 * silence), LONGEST))):
            if hasattr(socket, option):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def cannot_listen(address: Address, error: OSError) -> OSError:
    return OSError(f"cannot listen on {shown_address(address)}: {error.strerror}; --listen takes another")
