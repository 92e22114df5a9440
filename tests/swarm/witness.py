"""What the node saw while a service was updated: containers that came and went, and who held the lock when."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.swarm.engine import Engine, Failed

POLL = 0.02
SLOW = 0.05
"""Seconds for a page to be on the disk, from which on the disk stands still."""


@dataclass
class Container:
    """One container of the hub's service. ``states``: (time, what) as Docker's events have them."""

    id: str
    name: str
    image: str
    address: str = ""
    states: list[tuple[float, str]] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it held the lock."""

    def at(self, what: str) -> float | None:
        return next((when for when, state in self.states if state == what), None)


class Witness:
    """Looks on in three threads from its beginning until `stop`. ``disk``: from when to when it stood still."""

    def __init__(self, engine: Engine, stack: str) -> None:
        self.containers: dict[str, Container] = {}
        self.disk: list[tuple[float, float]] = []
        self._engine, self._stack = engine, stack
        self._over = threading.Event()
        self._events = engine.start(
            "events",
            *("--filter", "type=container", "--filter", f"label=com.docker.swarm.service.name={stack}_hub"),
            *("--since", str(int(time.time()) - 1), "--format", "{{json .}}"),
        )
        looks = (self._follow, self._watch, self._write)
        self._threads = [threading.Thread(target=each, daemon=True) for each in looks]
        for each in self._threads:
            each.start()

    def stop(self) -> list[Container]:
        self._over.set()
        self._events.terminate()
        for each in self._threads:
            each.join()
        self._events.wait()
        if self._events.stdout is not None:
            self._events.stdout.close()
        return sorted(self.containers.values(), key=lambda each: each.states[0][0] if each.states else 0)

    def _follow(self) -> None:
        assert self._events.stdout is not None
        for line in self._events.stdout:
            event = json.loads(line)
            attributes, action = event["Actor"]["Attributes"], event["Action"]
            if action.startswith("exec_"):
                continue
            one = self._container(event["Actor"]["ID"], attributes["name"], attributes["image"])
            if action == "kill":
                action = f"signal {attributes['signal']}"
            elif action == "die":
                action = f"exit {attributes['exitCode']}"
            one.states.append((event["timeNano"] / 1e9, action))
            if action == "start":
                one.address = self._address(one.id) or one.address

    def add_running(self) -> None:
        """Those that were there before we looked."""
        label = f"label=com.docker.swarm.service.name={self._stack}_hub"
        for each in self._engine.docker("ps", "--quiet", "--no-trunc", "--filter", label).split():
            shown = self._engine.inspect("inspect", each)
            one = self._container(each, shown["Name"].lstrip("/"), shown["Config"]["Image"])
            one.address = self._address(each)

    def _container(self, container: str, name: str, image: str) -> Container:
        return self.containers.setdefault(container, Container(container, name, image.partition("@")[0]))

    def _address(self, container: str) -> str:
        try:
            networks: dict[str, Any] = self._engine.inspect("inspect", container)["NetworkSettings"]["Networks"]
        except Failed:
            return ""
        return next((each["IPAddress"] for name, each in networks.items() if name == f"{self._stack}_mercure"), "")

    def _watch(self) -> None:
        lock = self._engine.folder / "data/volumes" / f"{self._stack}_data" / "_data/hub/lock"
        since: dict[str, float] = {}
        while not self._over.wait(POLL):
            now, holders = time.time(), set(_holders(lock))
            for each in holders - since.keys():
                since[each] = now
            for each in since.keys() - holders:
                self._held(each, since.pop(each), now)
        for each, begun in since.items():
            self._held(each, begun, time.time())

    def _write(self) -> None:
        """What a hub waits for before it answers: a page of its own, on the same disk."""
        with (self._engine.folder / f"{self._stack}.probe").open("wb", buffering=0) as file:
            while not self._over.wait(POLL):
                begun = time.time()
                os.pwrite(file.fileno(), bytes(4096), 0)
                os.fdatasync(file.fileno())
                if (ended := time.time()) - begun > SLOW:
                    self.disk.append((begun, ended))

    def _held(self, container: str, begun: float, ended: float) -> None:
        if container in self.containers:
            self.containers[container].held.append((begun, ended))


def _holders(lock: Path) -> Iterator[str]:
    """The ids of the containers whose processes hold a flock on that file (proc(5): /proc/locks)."""
    try:
        inode = lock.stat().st_ino
    except OSError:
        return
    found = re.findall(
        rf"^\d+: FLOCK +\S+ +\S+ +(\d+) [0-9a-f:]+:{inode} ", Path("/proc/locks").read_text(), re.MULTILINE
    )
    for pid in found:
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            continue
        if of := re.search(r"/docker[/-]([0-9a-f]{64})", groups):
            yield of[1]
