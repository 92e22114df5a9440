"""Several processes on one port: a supervisor starts them, starts those anew that end, and takes all of them with it.

The workers are forked, before there is a thread, an event loop or an open store: LMDB's must never cross a fork. So
keys reach them in memory, and a new one is there in milliseconds.
All of them accept from the same listening sockets, which the supervisor holds too, so that what waits in a queue when
one dies is served by another.
"""

import logging
import mmap
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import NoReturn, Self

from hub.auth.keys import InvalidKey
from hub.auth.sources import rings_of
from hub.config.settings import Settings
from hub.config.sources import InvalidSetting
from hub.observe.counts import Counts, shared_memory
from hub.server import server
from hub.server.notify import Notify
from hub.server.reload import Reread, refuse
from hub.server.sockets import Listeners, listeners_of
from hub.server.tls import Certificate
from transports import InvalidTransport, Transport, open_transport

FIRST_PAUSE = 0.1
"""Seconds until an ended worker is replaced; twice as long each time that it ends again,"""
LONGEST_PAUSE = 30.0
"""seconds at most,"""
WELL = 30.0
"""until one has run for so many seconds."""
PID = 4
"""Bytes of a worker's pid, with which it says that it accepts."""

Work = Callable[[Listeners, server.Announce, socket.socket, int], int]
"""Listeners, what to call once it accepts, what becomes readable when the supervisor is dead, the worker's place -> the
exit code."""

logger = logging.getLogger(__name__)


def run(settings: Settings, around: server.Surroundings) -> int:
    """Serve with ``settings.workers`` processes until SIGTERM or SIGINT; the exit code.

    ``around.on_ready`` gets the URL once all of them accept connections.
    """
    if settings.workers == 1:
        return server.run(settings, around)
    if not hasattr(os, "fork"):
        return server.give_up(InvalidSetting("--workers: this system can't fork processes; leave it at 1"))
    server.prepare(settings)
    try:
        demand_shared(open_transport(settings.transport_url), settings.workers)
        certificate = server.certificate_for(settings)
        listeners = listeners_of(settings, around.sockets)
    except (InvalidTransport, InvalidSetting, OSError) as error:
        return server.give_up(error)
    work = WorkOfHub(settings, around.reread, certificate, shared_memory(settings.workers))
    with Supervisor(settings.workers, listeners, work, around.on_ready, work.read_again, around.notify) as supervisor:
        return supervisor.run()


@dataclass
class WorkOfHub:
    """What each worker does, with the settings as they were last read. ``memory``: where all of them count."""

    settings: Settings
    reread: Reread | None
    certificate: Certificate | None
    memory: mmap.mmap

    def __call__(self, listeners: Listeners, on_accepting: server.Announce, lifeline: socket.socket, place: int) -> int:
        try:
            hub, beside = server.made(self.settings, Counts(self.memory, place))
        except (InvalidTransport, InvalidKey, InvalidSetting) as error:
            return server.give_up(error)
        around = server.Surroundings(on_accepting, self.reread)
        return server.serve(hub, listeners, around, self.certificate, lifeline, beside)

    def read_again(self) -> bool:
        """For workers that are started later; False: they can't be, and those that run shall not try."""
        if self.reread is None:
            return False
        try:
            settings = self.reread()
            rings_of(settings)
            if self.certificate is not None:
                self.certificate.use(settings)
        except (InvalidSetting, InvalidKey) as error:
            refuse(error)
            return False
        self.settings = settings
        return True


def demand_shared(transport: Transport, workers: int) -> None:
    """Raises `InvalidTransport` where more than one process is wanted and only one can have the store."""
    if workers > 1 and not transport.shared:
        raise InvalidTransport(
            transport.url,
            f"{workers} workers can't share it; open an lmdb:// directory with lock=shared, use a redis:// or "
            "postgresql:// URL, or leave --workers at 1",
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

    def __init__(
        self,
        number: int,
        listeners: Listeners,
        work: Work,
        on_ready: server.Announce,
        on_read_again: Callable[[], bool] = lambda: False,
        notify: Notify | None = None,
    ) -> None:
        """``on_read_again``: called at SIGHUP; True: the workers are told too."""
        self._number, self._listeners, self._work, self._on_ready = number, listeners, work, on_ready
        self._on_read_again = on_read_again
        self._notify = notify or Notify()
        self._url = listeners[0].url
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
        for listener in self._listeners:
            listener.close()
        for each in (self._ours, self._theirs, self._woken, self._wake):
            each.close()

    def run(self) -> int:
        """Until all have ended, which a signal or a failure brings about; the exit code."""
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (*server.HANDLED, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLED)
        with selectors.PollSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ, self._signalled)
            selector.register(self._ours, selectors.EVENT_READ, self._accepting)
            while not self._ending or any(worker.pid for worker in self._workers):
                for worker in self._workers:
                    if not (self._ending or worker.pid) and worker.due <= time.monotonic():
                        self._start(worker)
                self._notify.alive()
                for key, _ in selector.select(self._patience()):
                    key.data()
        return self._code

    def _patience(self) -> float | None:
        due = [worker.due for worker in self._workers if not worker.pid]
        patience = max(0.0, min(due) - time.monotonic()) if due and not self._ending else inf
        patience = min(patience, self._notify.watchdog / 4 or inf)
        return None if patience == inf else patience

    def _start(self, worker: WorkerProcess) -> None:
        # A signal that comes before the worker has handlers of its own waits for them, instead of going to ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, server.HANDLED)
        try:
            worker.pid = os.fork()
            if not worker.pid:
                self._become_worker(next(at for at, each in enumerate(self._workers) if each is worker))
        except OSError:  # no memory, or no more processes allowed
            logger.exception("a worker can't be started")
            self._ended(worker, 1)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, server.HANDLED)
        worker.started = time.monotonic()

    def _become_worker(self, place: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self._ours, self._woken, self._wake):
                each.close()
            accepting = os.getpid().to_bytes(PID)
            code = self._work(self._listeners, lambda _url: self._theirs.sendall(accepting), self._theirs, place)
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
            self._on_ready(self._url)
            self._notify.ready()

    def _signalled(self) -> None:
        for number in self._woken.recv(4096):
            if number == signal.SIGUSR2:
                server.tell_of(signal.Signals(number))
            elif number in server.READ_AGAIN:
                if not self._ending and self._on_read_again():
                    self._send(signal.SIGHUP)
            elif number in server.ENDING:
                if number == signal.SIGQUIT:
                    server.tell_of(signal.Signals(number))
                # Ctrl-C reaches the workers too: theirs is the drain until it comes once more.
                if self._ending and number == signal.SIGINT:
                    self._send(signal.SIGINT)
                self._end(0)
        self._reap()

    def _end(self, code: int) -> None:
        if not self._ending:
            self._ending, self._code = True, code
            self._notify.stopping()
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
            if code not in (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGQUIT):
                self._code = self._code or 1
        elif code == server.INVALID or (never and not any(each.accepts for each in self._workers)):
            self._end(max(code, 1))
        else:
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
            logger.warning("worker %d %s; another one starts in %g s", pid, how, worker.pause)
