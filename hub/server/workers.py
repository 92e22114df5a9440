"""Several processes on one port: a supervisor starts them, starts those anew that end, and takes all of them with it.

The workers are forked, before there is a thread, an event loop or an open store: LMDB's must never cross a fork. So
keys reach them in memory, and a new one is there in milliseconds.
All of them accept from the same listening sockets, which the supervisor holds too, so that what waits in a queue when
one dies is served by another.
"""

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Self

from hub.auth.keys import InvalidKey
from hub.config.settings import Settings
from hub.config.values import Address
from hub.server import server
from hub.web.app import Hub
from transports import InvalidTransport, Transport, open_transport

FIRST_PAUSE = 0.1
"""Seconds until an ended worker is replaced; twice as long each time that it ends again,"""
LONGEST_PAUSE = 30.0
"""seconds at most,"""
WELL = 30.0
"""until one has run for so many seconds."""
PID = 4
"""Bytes of a worker's pid, with which it says that it accepts."""

Announce = Callable[[Address], None]
Work = Callable[[server.Listeners, Announce, socket.socket], int]
"""Listeners, what to call once it accepts, what becomes readable when the supervisor is dead -> the exit code."""

logger = logging.getLogger(__name__)


def run(settings: Settings, *, on_ready: Announce) -> int:
    """Serve with ``settings.workers`` processes until SIGTERM or SIGINT; the exit code.

    ``on_ready`` gets the address once all of them accept connections.
    """
    if settings.workers == 1:
        return server.run(settings, on_ready=on_ready)
    server.prepare("%(levelname)s %(process)d %(name)s: %(message)s")
    try:
        demand_shared(open_transport(settings.transport_url), settings.workers)
        listeners = server.listeners_of(settings)
    except (InvalidTransport, OSError) as error:
        return server.give_up(error)
    with Supervisor(settings.workers, listeners, _worker_of(settings), on_ready) as supervisor:
        return supervisor.run()


def _worker_of(settings: Settings) -> Work:
    def work(listeners: server.Listeners, on_accepting: Announce, lifeline: socket.socket) -> int:
        try:
            hub = Hub(settings)
        except (InvalidTransport, InvalidKey) as error:
            return server.give_up(error)
        return server.serve(hub, listeners, on_accepting, lifeline)

    return work


def demand_shared(transport: Transport, workers: int) -> None:
    """Raises `InvalidTransport` where more than one process is wanted and only one can have the store."""
    if workers > 1 and not transport.shared:
        raise InvalidTransport(
            transport.url,
            f"{workers} workers can't share it; open an lmdb:// directory with lock=shared, use a redis:// URL, "
            "or leave --workers at 1",
        )


@dataclass
class WorkerProcess:
    """The place of one process. ``pid`` 0: none runs, and ``due`` is when one is started (monotonic seconds)."""

    pid: int = 0
    accepts: bool = False
    started: float = 0.0
    due: float = 0.0
    pause: float = 0.0

    def put_off(self, now: float) -> None:
        """Start the next one after a pause, which grows as long as none of them runs well."""
        ran_well = self.accepts and now - self.started >= WELL
        self.pause = min(2 * self.pause, LONGEST_PAUSE) if self.pause and not ran_well else FIRST_PAUSE
        self.due = now + self.pause


class Supervisor:
    """Runs in the main thread, which has no event loop. ``on_ready``: all workers accept, for the first time.

    The first worker starts alone: what is wrong with the settings is said once. One that ends with 2, which is a wrong
    setting, ends all of them with this code. So does one that never got to accept while no other does: whatever started
    the supervisor can start it again, and sees that it fails. In every other case the worker is replaced.
    """

    def __init__(self, number: int, listeners: server.Listeners, work: Work, on_ready: Announce) -> None:
        self._number, self._listeners, self._work, self._on_ready = number, listeners, work, on_ready
        self._address: Address = listeners[0].getsockname()[:2]
        self._workers = [WorkerProcess()]
        self._announced = self._ending = False
        self._code = 0
        # The workers write to the second that they accept, and it is at its end for them when we are gone.
        self._ours, self._theirs = socket.socketpair()
        self._woken, self._wake = socket.socketpair()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for each in (*self._listeners, self._ours, self._theirs, self._woken, self._wake):
            each.close()

    def run(self) -> int:
        """Until all have ended, which a signal or a failure brings about; the exit code."""
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (*server.ENDING, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        with selectors.PollSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ, self._signalled)
            selector.register(self._ours, selectors.EVENT_READ, self._accepting)
            while not self._ending or any(worker.pid for worker in self._workers):
                for worker in self._workers:
                    if not (self._ending or worker.pid) and worker.due <= time.monotonic():
                        self._start(worker)
                for key, _ in selector.select(self._patience()):
                    key.data()
        return self._code

    def _patience(self) -> float | None:
        due = [worker.due for worker in self._workers if not worker.pid]
        return max(0.0, min(due) - time.monotonic()) if due and not self._ending else None

    def _start(self, worker: WorkerProcess) -> None:
        # A signal that comes before the worker has handlers of its own waits for them, instead of going to ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, server.ENDING)
        try:
            worker.pid = os.fork()
            if not worker.pid:
                self._become_worker()
        except OSError:  # no memory, or no more processes allowed
            logger.exception("a worker can't be started")
            self._ended(worker, 1)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, server.ENDING)
        worker.started = time.monotonic()

    def _become_worker(self) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self._ours, self._woken, self._wake):
                each.close()
            accepting = os.getpid().to_bytes(PID)
            code = self._work(self._listeners, lambda _address: self._theirs.sendall(accepting), self._theirs)
        except BaseException:
            logger.exception("the worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _accepting(self) -> None:
        pid = int.from_bytes(self._ours.recv(PID, socket.MSG_WAITALL))
        for worker in self._workers:
            worker.accepts = worker.accepts or worker.pid == pid
        if len(self._workers) < self._number:
            self._workers += [WorkerProcess() for _ in range(self._number - 1)]
        elif not self._announced and all(worker.accepts for worker in self._workers):
            self._announced = True
            self._on_ready(self._address)

    def _signalled(self) -> None:
        for number in self._woken.recv(4096):
            if number in server.ENDING:
                # Ctrl-C reaches the workers too: theirs is the drain until it comes once more.
                if self._ending and number == signal.SIGINT:
                    self._send(signal.SIGINT)
                self._end(0)
        self._reap()

    def _end(self, code: int) -> None:
        if not self._ending:
            self._ending, self._code = True, code
            for listener in self._listeners:
                listener.close()
            self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _reap(self) -> None:
        """Whatever has ended: as a container's first process the supervisor inherits strangers' children."""
        while any(worker.pid for worker in self._workers):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for worker in self._workers:
                if worker.pid == pid:
                    self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: WorkerProcess, code: int) -> None:
        pid, worker.pid = worker.pid, 0
        worker.put_off(time.monotonic())
        never, worker.accepts = not worker.accepts, False
        if self._ending:
            if code not in (0, -signal.SIGTERM, -signal.SIGINT):
                self._code = self._code or 1
        elif code == server.INVALID or (never and not any(each.accepts for each in self._workers)):
            self._end(max(code, 1))
        else:
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
            logger.warning("worker %d %s; another one starts in %g s", pid, how, worker.pause)
