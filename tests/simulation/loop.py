"""The event loop of one simulated process: asyncio's own, but for the clock, the kernel and whose turn it is."""

import asyncio
import heapq
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import Process


class SimulatedLoop(asyncio.BaseEventLoop):
    """First in, first out; `step` runs one callback."""

    # What the base class keeps: callbacks that are ready, and a heap of timers.
    _ready: deque[Any]
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _asyncgen_firstiter_hook: Any
    _asyncgen_finalizer_hook: Any

    def __init__(self, process: "Process") -> None:
        super().__init__()
        self.process = process
        self.handlers: dict[int, Callable[[], object]] = {}
        self._turn = 0

    def time(self) -> float:
        return self.process.world.now

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self.call_soon(callback, *args, context=context)

    def next_time(self) -> float:
        """When a timer is due."""
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        when: float = scheduled[0]._when if scheduled else inf
        return when

    def step(self) -> None:
        """One callback. As in a real loop timers are looked at once those that were ready have had their turn."""
        if not self._turn:
            now = self.time()
            while self.next_time() <= now:
                handle = heapq.heappop(self._scheduled)
                handle._scheduled = False
                self._ready.append(handle)
            self._turn = len(self._ready)
        self._turn -= 1
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        process = self.process
        if process.alive:
            process.world.faults.append(f"{process.name}: {context['message']}: {context.get('exception')!r}")

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        self.handlers[sig] = lambda: callback(*args)

    def signal(self, number: int) -> bool:
        """It comes to the process now; False: nobody handles it, so that it ends the process."""
        if number in self.handlers:
            self.call_soon(self.handlers[number])
        return number in self.handlers

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """At once: what runs beside the loop touches nothing of it."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def create_server(self, protocol_factory: Any, *args: Any, sock: Any = None, **options: Any) -> Any:
        return sock.serve(self.process, protocol_factory)

    async def create_unix_server(self, protocol_factory: Any, *args: Any, sock: Any = None, **options: Any) -> Any:
        return sock.serve(self.process, protocol_factory)

    async def create_unix_connection(self, protocol_factory: Any, *args: Any, sock: Any = None, **options: Any) -> Any:
        return sock.attach(self.process, protocol_factory())
