"""A hub as a process of the world: started, told to end, killed, and looked at once it has ended."""

import asyncio
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

from hub.config.settings import Settings
from hub.server.server import Surroundings, _serve
from hub.server.sockets import Listener as Listening
from hub.web.hub import Hub
from tests.simulation import network
from tests.simulation.clients import KEYS
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.run import Run

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


class Replica:
    """A hub as a process: started, told to end, killed; ``code`` is there once it has ended."""

    def __init__(self, run: "Run", name: str, place: int) -> None:
        self.run, self.name, self.place = run, name, place
        self.process = Process(run.world, name)
        self.process.skew = run.skews[place]
        self.listener = network.Listener(run.world, lambda: run.crowd.room)
        self.hub: Hub | None = None
        self.code: int | None = None
        self.ending = self.disturbed = False
        self.key_there = run.key
        """The key that it has read last."""
        self.process.loop.call_soon(self._begin)

    def _settings(self) -> Settings:
        self.key_there = self.run.key
        key = KEYS[self.run.key]
        settings = self.run.scenario.settings
        return Settings(
            transport_url=self.run.url, anonymous=True, publisher_jwt_key=key, subscriber_jwt_key=key, **settings
        )

    def _begin(self) -> None:
        self.hub = Hub(self._settings())
        aturn = Surroundings(reread=self._settings)
        serving = _serve(self.hub, [Listening(self.listener)], aturn, None, None, None)  # type: ignore[arg-type]
        self._serving = self.process.loop.create_task(serving)
        self._serving.add_done_callback(self._done)

    def _done(self, serving: asyncio.Task[int]) -> None:
        error = serving.exception()
        self.code = -1 if error is not None else serving.result()
        if error is not None:
            self.run.ledger.faults.append(f"{self.name}: its server raised {error!r}")
        self.run.world.later(0.001, self._gone)

    def _gone(self) -> None:
        if self.process.alive:
            self.run.tell(f"{self.name} has ended with {self.code}")
            if self.ending or self.code == 0:
                self._leave_nothing()
            self.process.end()
            self.run.hub_gone(self)

    def _leave_nothing(self) -> None:
        """What an orderly end must have let go of."""
        hub, left = self.hub, self.run.ledger.left
        assert hub is not None
        tasks = [each for each in asyncio.all_tasks(self.process.loop) if not each.done()]
        left += [f"{self.name} leaves a task: {each.get_coro()}" for each in tasks]
        left += [f"{self.name} leaves the descriptor {each}" for each in self.process.descriptors]
        left += [f"{self.name} leaves a thread" for _ in self.process.threads]
        if hub.streams.open or hub.streams.live:
            left.append(f"{self.name} leaves {len(hub.streams.open)} streams, {hub.streams.live} of them live")
        if list(hub.streams.audiences.sizes()):
            left.append(f"{self.name} leaves audiences")
        if hub.lifecycle.publishing:
            left.append(f"{self.name} leaves {hub.lifecycle.publishing} publications")

    def kill(self) -> None:
        self.disturbed = True
        if self.process.alive:
            self.process.end()
            self.run.hub_gone(self)

    def terminate(self) -> None:
        self.ending = True
        if self.process.loop.signal(SIGTERM):
            self.run.world.later(GRACE, self.kill)
        else:
            self.kill()

    def waits_for(self) -> str:
        """Where its tasks stand."""
        places = []
        for task in asyncio.all_tasks(self.process.loop):
            place: Any = task.get_coro()
            chain: list[str] = []
            while (frame := getattr(place, "cr_frame", None)) is not None:
                chain.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
                place = place.cr_await
            places.append(" > ".join(chain))
        return "; ".join(sorted(places))
