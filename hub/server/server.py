"""uvicorn in our hands: signals, standby, reload, drain."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from hub.auth.keys import InvalidKey
from hub.config.settings import Settings
from hub.config.sources import InvalidSetting
from hub.observe.counts import Counts
from hub.observe.logs import configure
from hub.observe.traces import exported
from hub.server.beside import Beside
from hub.server.http1 import HubProtocol
from hub.server.notify import Notify
from hub.server.reload import Reload, Reread
from hub.server.sockets import BACKLOG, Listeners, Spoken, cannot_listen, listeners_of, wanted
from hub.server.tls import Certificate
from hub.web.hub import Hub
from transports import InvalidTransport
from transports.contract import LOCK_TIMEOUT
from transports.episode import Seldom
from transports.urls import redact

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]
new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:  # neither is uvloop there
    from asyncio import new_event_loop

ANSWERING = 2.0
"""Seconds that running requests may still take once the streams are closed."""
LOOK = 0.01
"""Seconds between two looks whether they are over; uvicorn's own end takes a tenth of a second at least."""
STANDBY_AFTER = LOCK_TIMEOUT + 0.5
"""Seconds that the store may take to open before we listen: a process that is going to fail must not look healthy."""


def _there(*names: str) -> tuple[signal.Signals, ...]:
    """Those of the signals that this system has."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


ENDING = _there("SIGTERM", "SIGINT", "SIGQUIT")
INVALID = 2
"""The exit code for what has to be set otherwise."""
COMPLAIN = 60.0
"""Seconds between two lines in the log about descriptors that have run out."""
READ_AGAIN = _there("SIGHUP", "SIGUSR1")
"""SIGUSR1 is how Caddy, and with it the Go hub, is told."""

MEANINGLESS = _there("SIGUSR2")
HANDLED = (*ENDING, *READ_AGAIN, *MEANINGLESS)
"""They wait while a worker starts, until it has handlers of its own."""

Announce = Callable[[str], None]
"""Gets the URL of the first address, without a path."""


@dataclass(frozen=True)
class Surroundings:
    """Whoever starts a hub.

    ``on_ready``: called once it accepts connections. ``reread``: where SIGHUP gets the settings from; without it, it
    changes nothing. ``sockets``: bound by systemd. ``notify``: what systemd is told.
    """

    on_ready: Announce = lambda _url: None
    reread: Reread | None = None
    sockets: Sequence[socket.socket] = ()
    notify: Notify = field(default_factory=Notify)


logger = logging.getLogger(__name__)


class HubServer(uvicorn.Server):
    """Ends at once when told to, drains its streams, and exits with 0 after a clean end."""

    def __init__(
        self,
        hub: Hub,
        on_listening: Callable[[], None],
        protocol: type[asyncio.Protocol] = HubProtocol,
        others: Listeners = (),
        certificate: Certificate | None = None,
        notify: Notify | None = None,
    ) -> None:
        """``others``: what is listened on beside the plain sockets that `serve` gets."""
        super().__init__(_config(hub.asgi, protocol))
        self._hub = hub
        self._others = others
        self._certificate = certificate
        self._notify = notify or Notify()
        self._admin: list[asyncio.Server] = []
        self._on_listening = on_listening
        self.stopping = asyncio.Event()
        self._descriptors = Descriptors()
        hub.on_failure = self.stopping.set
        hub.limits.connections = lambda: len(self.server_state.connections)

    def told_to_end(self, number: signal.Signals) -> None:
        """SIGTERM and SIGINT begin the drain; a SIGINT after that, Ctrl-C once more, is for not waiting for it."""
        if number.name == "SIGQUIT":
            tell_of(number)
        elif not self.stopping.is_set():
            self._notify.stopping()
            logger.info("%s: the hub ends, its %d streams within %g s", number.name, *self._hub.ending())
        if number == signal.SIGINT and self.stopping.is_set():
            self._hub.hurry()
        self.stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `_serve`'s business: they count before the server runs, and are not raised again at the end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        admin = uvicorn.Server(_config(self._hub.admin_asgi, HubProtocol))
        for each in self._others:
            if each.spoken is Spoken.ADMIN:
                self._admin.append(await loop.create_server(_connections(admin), sock=each.socket, backlog=BACKLOG))
            else:
                context = self._certificate.context if self._certificate else None
                make = _connections(self)
                self.servers.append(await loop.create_server(make, sock=each.socket, ssl=context, backlog=BACKLOG))
        self._on_listening()
        state = "serves" if self._hub.lifecycle.serving else "stands by, and waits for its store"
        logger.info("the hub %s: %s", state, redact(self._hub.settings.transport_url))

    async def main_loop(self) -> None:
        while not self.stopping.is_set():
            await self.on_tick(0)  # the Date header
            self._descriptors.look()
            self._hub.tick()
            self._notify.alive()
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
        if self.server_state.tasks:
            logger.warning("%d requests were not answered within %g s of the end", len(state.tasks), ANSWERING)
            logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            # A reader that takes nothing would keep its connection, and the event loop, from ever closing.
            connection.transport.abort()
        for listening in (*(sockets or ()), *self._others):
            listening.close()
        # It has said to the end that the hub is not ready any more.
        for server in self._admin:
            server.close()


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """uvicorn takes a request that we have cancelled for a fault of the application, and shows where it stood."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _config(app: ASGIApp, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
    )


def _connections(server: uvicorn.Server) -> Callable[[], asyncio.Protocol]:
    """Makes the protocol of each connection, as uvicorn does for its own."""
    config = server.config
    if not config.loaded:
        config.load()

    def make() -> asyncio.Protocol:
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=server.server_state, app_state={}
        )
        return made

    return make


def tell_of(number: signal.Signals) -> None:
    """Say what comes of a signal that would end other programs without a word."""
    if number.name == "SIGQUIT":
        logger.warning("SIGQUIT: the hub ends, as at SIGTERM")
    else:
        logger.warning("SIGUSR2 means nothing to this hub; SIGHUP has it read its keys again, SIGTERM ends it")


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
                soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else -1
                logger.error(
                    "all %d descriptors are in use, new connections are dropped; raise the limit (ulimit -n,"
                    " LimitNOFILE= of systemd, --ulimit nofile= of docker), or run more replicas",
                    soft,
                )


def run(settings: Settings, surroundings: "Surroundings | None" = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    around = surroundings or Surroundings()
    prepare(settings)
    try:
        hub, beside = made(settings)
        certificate = certificate_for(settings)
        listeners = listeners_of(settings, around.sockets)
    except (InvalidTransport, InvalidKey, InvalidSetting, OSError) as error:
        return give_up(error)
    return serve(hub, listeners, around, certificate, beside=beside)


def made(settings: Settings, counts: Counts | None = None) -> tuple[Hub, Beside | None]:
    """The hub, and the application beside it. Raises `InvalidTransport`, `InvalidKey`, `InvalidSetting`."""
    hub = Hub(settings, counts)
    beside = Beside(settings.app) if settings.app is not None else None
    hub.beside = beside.asgi if beside is not None else None
    return hub, beside


def certificate_for(settings: Settings) -> Certificate | None:
    """None where nothing listens for TLS. Raises `InvalidSetting`."""
    return Certificate(settings) if any(spoken is Spoken.HTTPS for _, spoken in wanted(settings)) else None


def serve(
    hub: Hub,
    listeners: Listeners,
    around: Surroundings,
    certificate: Certificate | None = None,
    lifeline: socket.socket | None = None,
    beside: Beside | None = None,
) -> int:
    """Serve on sockets that are bound, as `run` does. When ``lifeline`` has come to its end, so does the hub."""
    with ExitStack() as stack:
        stack.enter_context(exported(hub.settings.traces))
        for listener in listeners:
            stack.callback(listener.close)
        runner = stack.enter_context(asyncio.Runner(loop_factory=new_event_loop))
        return runner.run(_serve(hub, listeners, around, certificate, lifeline, beside))


def give_up(error: Exception) -> int:
    """Say why, as the last line that an operator sees; the exit code."""
    print(f"mercure-hub: {error}", file=sys.stderr)  # noqa: T201
    return INVALID


def prepare(settings: Settings) -> None:
    """What a process that serves needs, before it opens anything."""
    configure(level=settings.log_level, form=settings.log_format, process=settings.workers > 1)
    # They would end the process: they wait until there is somebody to handle them.
    mask("SIG_BLOCK", (*READ_AGAIN, *MEANINGLESS, *_there("SIGQUIT")))
    if resource is None:
        return
    # A subscriber is a descriptor: use what the system allows.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def mask(how: str, signals: Sequence[signal.Signals]) -> None:
    """``pthread_sigmask``, where there is one. ``how``: ``SIG_BLOCK`` or ``SIG_UNBLOCK``."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), signals)


async def _serve(
    hub: Hub,
    listeners: Listeners,
    around: Surroundings,
    certificate: Certificate | None,
    lifeline: socket.socket | None,
    beside: Beside | None,
) -> int:
    if beside is not None and not await beside.start():
        return 1
    plain = [each.socket for each in listeners if each.spoken is Spoken.HTTP]
    others = [each for each in listeners if each.spoken is not Spoken.HTTP]

    def ready() -> None:
        around.on_ready(listeners[0].url)
        around.notify.ready()

    server = HubServer(hub, ready, HubProtocol, others, certificate, around.notify)
    _handle_signals(server, lifeline, Reload(hub, around.reread, certificate) if around.reread else None)
    opening = asyncio.ensure_future(hub.open())
    opening.add_done_callback(lambda task: server.stopping.set() if _failed(task) else None)
    stopping = asyncio.ensure_future(server.stopping.wait())
    await asyncio.wait({opening, stopping}, timeout=STANDBY_AFTER, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if not server.stopping.is_set():
        try:
            # Another process may have bound the same address, and begun to listen first.
            for listener in listeners:
                listener.socket.listen(BACKLOG)
        except OSError as error:
            code = give_up(cannot_listen(listener.socket.getsockname()[:2], error))
        else:
            # The store is still not open: standby. The hub is alive and holds requests until it is.
            await server.serve(sockets=plain)
    stopping.cancel()
    if beside is not None:
        await beside.end()
    return await _end(hub, opening) or code


def _handle_signals(server: HubServer, lifeline: socket.socket | None, reload: Reload | None) -> None:
    loop = asyncio.get_running_loop()

    def handle(number: signal.Signals, call: Callable[..., object], *arguments: object) -> None:
        try:
            loop.add_signal_handler(number, call, *arguments)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(call, *arguments))

    for number in ENDING:
        handle(number, server.told_to_end, number)
    reloads: set[asyncio.Task[None]] = set()

    def read_again() -> None:
        if reload is not None:
            task = asyncio.ensure_future(reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

    for number in READ_AGAIN:
        handle(number, read_again)
    for number in MEANINGLESS:
        handle(number, tell_of, number)
    # A supervisor blocks them until there is somebody to handle them.
    mask("SIG_UNBLOCK", HANDLED)

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
    logger.info("the hub has ended")
    return 1 if hub.failed else 0
