"""uvicorn in our hands: sockets, signals, standby, drain."""

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import uvicorn
import uvloop

from hub.auth.keys import InvalidKey
from hub.config.settings import Settings
from hub.config.values import EVERY_INTERFACE, Address, shown_address
from hub.server.http1 import HubProtocol
from hub.web.app import Hub, application
from transports import InvalidTransport
from transports.contract import LOCK_TIMEOUT
from transports.episode import Seldom

BACKLOG = 4096
"""Connections that may wait to be accepted: after a restart all clients come at once."""
SEND_BUFFER = 64 * 1024
"""Bytes of kernel memory that a stalled reader can bind; without it, it is 3–4 MB (the kernel doubles the value)."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 40), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds until an idle peer is asked whether it is there, between two questions, and how many may stay unanswered."""
SILENCE = 4
"""How many times `dispatch_timeout` a peer may take to answer at all: a slow reader's kernel still does."""
LONGEST = 2**31 - 1
"""What the kernel takes for a number of milliseconds: 24 days."""
ANSWERING = 2.0
"""Seconds that running requests may still take once the streams are closed."""
LOOK = 0.01
"""Seconds between two looks whether they are over; uvicorn's own end takes a tenth of a second at least."""
STANDBY_AFTER = LOCK_TIMEOUT + 0.5
"""Seconds that the store may take to open before we listen: a process that is going to fail must not look healthy."""
ENDING = (signal.SIGTERM, signal.SIGINT)
INVALID = 2
"""The exit code for what has to be set otherwise."""
COMPLAIN = 60.0
"""Seconds between two lines in the log about descriptors that have run out."""
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""How a machine without IPv6 answers, or one whose IPv6 is switched off."""
_FREE_PORTS = 10
"""Tries to find a port that is free in both families; another error would only come again."""

Listeners = Sequence[socket.socket]
"""Bound, and not listening yet; the first one's address is announced."""

logger = logging.getLogger(__name__)


class HubServer(uvicorn.Server):
    """Ends at once when told to, drains its streams, and exits with 0 after a clean end."""

    def __init__(
        self, hub: Hub, on_listening: Callable[[], None], protocol: type[asyncio.Protocol] = HubProtocol
    ) -> None:
        config = uvicorn.Config(
            application(hub),
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
        )
        super().__init__(config)
        self._hub = hub
        self._on_listening = on_listening
        self.stopping = asyncio.Event()
        self._descriptors = Descriptors()
        hub.on_failure = self.stopping.set

    def told_to_end(self, number: signal.Signals) -> None:
        """SIGTERM and SIGINT begin the drain; a SIGINT after that, Ctrl-C once more, is for not waiting for it."""
        if number == signal.SIGINT and self.stopping.is_set():
            self._hub.hurry()
        self.stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `_serve`'s business: they count before the server runs, and are not raised again at the end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    async def main_loop(self) -> None:
        while not self.stopping.is_set():
            await self.on_tick(0)  # the Date header
            self._descriptors.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._hub.drain(self._hub.settings.drain)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        end = asyncio.get_running_loop().time() + ANSWERING
        state = self.server_state
        while (state.connections or state.tasks) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)  # uvicorn tells nobody when they are over
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            # A reader that takes nothing would keep its connection, and the event loop, from ever closing.
            connection.transport.abort()
        for listening in sockets or ():
            listening.close()


class Descriptors:
    """Says in the log when the process can't open another connection, once in `COMPLAIN` seconds."""

    def __init__(self) -> None:
        self._complain = Seldom(COMPLAIN)

    def look(self) -> None:
        """Try to open one. The event loop itself drops what it can't accept in silence."""
        try:
            os.close(os.dup(2))
        except OSError:
            if self._complain.due():
                soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                logger.error(
                    "all %d descriptors are in use, new connections are dropped; raise the limit (ulimit -n,"
                    " LimitNOFILE= of systemd, --ulimit nofile= of docker), or run more replicas",
                    soft,
                )


def run(settings: Settings, *, on_ready: Callable[[Address], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. ``on_ready`` gets the address once it accepts connections."""
    prepare("%(levelname)s %(name)s: %(message)s")
    try:
        hub = Hub(settings)
        listeners = listeners_of(settings)
    except (InvalidTransport, InvalidKey, OSError) as error:
        return give_up(error)
    return serve(hub, listeners, on_ready or (lambda _address: None))


def serve(
    hub: Hub,
    listeners: Listeners,
    on_ready: Callable[[Address], None],
    lifeline: socket.socket | None = None,
) -> int:
    """Serve on sockets that are bound, as `run` does. When ``lifeline`` has come to its end, so does the hub."""
    with ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return runner.run(_serve(hub, listeners, on_ready, lifeline))


def give_up(error: Exception) -> int:
    """Say why, as the last line that an operator sees; the exit code."""
    print(f"mercure-hub: {error}", file=sys.stderr)  # noqa: T201
    return INVALID


def prepare(log_format: str) -> None:
    """What a process that serves needs, before it opens anything."""
    logging.basicConfig(level=logging.WARNING, format=log_format)
    # A subscriber is a descriptor: use what the system allows.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listeners_of(settings: Settings) -> Listeners:
    """The sockets that the settings want, bound. Raises OSError with a sentence."""
    with ExitStack() as undo:
        listeners = [
            undo.enter_context(listener)
            for address in settings.listen
            for listener in bind(address, SILENCE * settings.dispatch_timeout)
        ]
        undo.pop_all()
    return listeners


def bind(address: Address, silence: float = 0) -> Listeners:
    """Sockets for each family that the host has: a name may have several, `EVERY_INTERFACE` has IPv4 and IPv6.

    Each family has a socket of its own, so that clients are known by the addresses that an operator writes.
    ``silence``: seconds that a peer may leave what it is sent unanswered before its connection is broken (RFC 5482);
    0 leaves that to the kernel, which takes a quarter of an hour. Raises OSError with a sentence.
    """
    tries = _FREE_PORTS if address[1] == 0 else 1
    while True:
        tries -= 1
        try:
            return _bind_families(_hosts(address), address[1], silence)
        except OSError as error:
            if not tries or error.errno != errno.EADDRINUSE:
                raise _cannot_listen(address, error) from error


def _bind_families(hosts: Iterable[tuple[socket.AddressFamily, str]], port: int, silence: float) -> Listeners:
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
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for option, value in (*KEEPALIVE, (socket.TCP_USER_TIMEOUT, min(round(1000 * silence), LONGEST))):
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _cannot_listen(address: Address, error: OSError) -> OSError:
    return OSError(f"cannot listen on {shown_address(address)}: {error.strerror}; --listen takes another")


async def _serve(
    hub: Hub,
    listeners: Listeners,
    on_ready: Callable[[Address], None],
    lifeline: socket.socket | None,
) -> int:
    server = HubServer(hub, lambda: on_ready(listeners[0].getsockname()[:2]))
    _handle_signals(server, lifeline)
    opening = asyncio.ensure_future(hub.open())
    opening.add_done_callback(lambda task: server.stopping.set() if _failed(task) else None)
    stopping = asyncio.ensure_future(server.stopping.wait())
    await asyncio.wait({opening, stopping}, timeout=STANDBY_AFTER, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if not server.stopping.is_set():
        try:
            # Another process may have bound the same address, and begun to listen first.
            for listener in listeners:
                listener.listen(BACKLOG)
        except OSError as error:
            code = give_up(_cannot_listen(listener.getsockname()[:2], error))
        else:
            # The store is still not open: standby. The hub is alive and holds requests until it is.
            await server.serve(sockets=list(listeners))
    stopping.cancel()
    return await _end(hub, opening) or code


def _handle_signals(server: HubServer, lifeline: socket.socket | None) -> None:
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, server.told_to_end, number)
    # A supervisor blocks them until there is somebody to handle them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def abandoned(supervisor: socket.socket) -> None:
        loop.remove_reader(supervisor)
        server.told_to_end(signal.SIGTERM)

    if lifeline is not None:
        loop.add_reader(lifeline, abandoned, lifeline)


def _failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None


async def _end(hub: Hub, opening: asyncio.Task[None]) -> int:
    opening.cancel()
    with suppress(asyncio.CancelledError):
        try:
            await opening
        except InvalidTransport as error:
            await hub.close()
            return give_up(error)
    await hub.close()
    return 1 if hub.failed else 0
