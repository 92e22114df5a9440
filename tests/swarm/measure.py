"""One row: deploy, load, act, look."""

import json
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.cli.minting import Grant, Signing, mint
from tests.swarm.engine import Engine, Failed, say
from tests.swarm.images import ROOT
from tests.swarm.strategies import Strategy
from tests.swarm.witness import Container, Witness

SUBSCRIBERS = 50
KEY = "a key for the load test alone, long enough"
STEADY = 3.0
"""Seconds of load before and after what happens."""
PATIENCE = 200.0
TERMINAL = {"completed", "paused", "rollback_completed", "rollback_paused"}


@dataclass
class Run:
    """What one row brought. ``acts``: (from, to, what, how the update ended); ``disk``: when it stood still."""

    strategy: Strategy
    acts: list[tuple[float, float, str, str]]
    containers: list[Container]
    load: dict[str, Any]
    log: str
    disk: list[tuple[float, float]]


def until(condition: Any, what: str, seconds: float = PATIENCE) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)
    return found


class Measurement:
    """A stack of its own, removed at the end."""

    def __init__(self, engine: Engine, strategy: Strategy, base: str) -> None:
        self._engine, self._strategy, self._base = engine, strategy, base
        self._stack = strategy.name
        self._service = f"{self._stack}_hub"
        self._folder = engine.folder / "load" / self._stack
        self._acts: list[tuple[float, float, str, str]] = []

    def run(self) -> Run:
        say(f"{self._stack}: deploy")
        witness = Witness(self._engine, self._stack)
        try:
            self._deploy()
            load = self._start_load()
            witness.add_running()
            time.sleep(STEADY)
            self._act()
            time.sleep(STEADY if self._strategy.good else 5 * STEADY)
            (self._folder / "stop").touch()
            load.join(PATIENCE)
            log = self._engine.docker("service", "logs", "--no-trunc", self._service, both=True)
            result = json.loads((self._folder / "load.json").read_text())
        except Failed:
            say(self._engine.docker("stack", "ps", "--no-trunc", self._stack))
            raise
        finally:
            containers = witness.stop()
            self._remove()
        return Run(self._strategy, self._acts, containers, result, log, witness.disk)

    def _deploy(self) -> None:
        files = [part for each in self._strategy.files for part in ("--compose-file", str(ROOT / each))]
        variables = {
            "MERCURE_IMAGE": "hub:a",
            "VALKEY_IMAGE": "valkey",
            "POSTGRES_IMAGE": "postgres",
            "MERCURE_ANONYMOUS": "1",
        }
        self._engine.docker(
            "stack", "deploy", "--resolve-image", "never", *files, self._stack, env=variables | self._strategy.variables
        )
        if not self._strategy.health_check:  # an override can't take it away: lists in files are joined
            self._engine.docker(
                "service", "update", "--no-resolve-image", "--detach", "--no-healthcheck", self._service
            )
        until(self._running, f"{self._stack} is up")
        until(lambda: self._status().get("State") in TERMINAL | {None}, f"{self._stack} is as it shall be")

    def _running(self) -> bool:
        listed = self._engine.docker("stack", "services", "--format", "{{.Replicas}}", self._stack).split("\n")
        return all(each.split("/")[0] == each.split("/")[1].split()[0] for each in listed if "/" in each)

    def _start_load(self) -> threading.Thread:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        token = mint(Grant(("*",), (), 3600), Signing(KEY, "HS256"))
        process = self._engine.start(
            *("run", "--rm", "--name", f"{self._stack}-load", "--network", f"{self._stack}_mercure"),
            # A name that is gone for the moment is answered at once, as by a name server that knows of none.
            *("--dns", "127.0.0.1", "--dns-option", "timeout:1", "--dns-option", "attempts:1"),
            *("--env", f"TOKEN={token}", "--env", "PYTHONDONTWRITEBYTECODE=1"),
            *("--volume", f"{Path(__file__).parent}/load.py:/load.py:ro", "--volume", f"{self._folder}:/load"),
            *(self._base, "python3", "/load.py", "/load", str(SUBSCRIBERS), str(self._strategy.idle)),
        )
        assert process.stdout is not None
        if process.stdout.readline() != "READY\n":
            raise Failed(f"{self._stack}: the load did not start")
        waiting = threading.Thread(target=process.wait, daemon=True)
        waiting.start()
        return waiting

    def _act(self) -> None:
        act = self._strategy.act
        if act == "kill":
            self._timed("SIGKILL", self._kill)
        elif act == "break":
            self._timed("update to a broken image", lambda: self._update("hub:broken"))
        else:
            self._timed(
                "update",
                lambda: self._update(
                    "hub:b", restarting=act.removeprefix("restart ") if act.startswith("restart") else ""
                ),
            )
        if act == "update and back":
            time.sleep(1)
            self._timed("back", lambda: self._update("hub:a"))

    def _timed(self, what: str, act: Any) -> None:
        begun = time.time()
        state = act()
        self._acts.append((begun, time.time(), what, state))
        say(f"{self._stack}: {what}: {state} after {time.time() - begun:.1f} s")

    def _update(self, image: str, *, restarting: str = "") -> str:
        before = self._status().get("StartedAt")
        self._engine.docker("service", "update", "--detach", "--no-resolve-image", "--image", image, self._service)
        if restarting:
            self._engine.docker("service", "update", "--detach", "--force", f"{self._stack}_{restarting}")
        found: dict[str, str] = until(lambda: self._ended(before), f"{self._stack}: the update's end")
        return found["State"]

    def _status(self) -> dict[str, str]:
        shown = self._engine.docker("service", "inspect", "--format", "{{json .UpdateStatus}}", self._service)
        found: dict[str, str] = json.loads(shown) or {}
        return found

    def _ended(self, before: str | None) -> dict[str, str] | None:
        status = self._status()
        return status if status.get("State") in TERMINAL and status.get("StartedAt") != before else None

    def _kill(self) -> str:
        label = f"label=com.docker.swarm.service.name={self._service}"
        running = self._engine.docker("ps", "--quiet", "--filter", label).split()
        self._engine.docker("kill", "--signal", "KILL", next(filter(self._serves, running)))
        until(lambda: not self._running(), "the loss is noticed")
        until(self._running, "another hub is there")
        return "-"

    def _serves(self, container: str) -> bool:
        try:
            self._engine.docker("exec", container, "mercure-hub", "health", "--ready")
        except Failed:
            return False
        return True

    def _remove(self) -> None:
        for command in (("rm", "--force", f"{self._stack}-load"), ("stack", "rm", self._stack)):
            try:
                self._engine.docker(*command)
            except Failed as error:
                say(str(error))
        ours = ("--quiet", "--filter", f"name={self._stack}_")
        until(lambda: not self._engine.docker("ps", "--all", *ours), "the stack is gone")
        if volumes := self._engine.docker("volume", "ls", *ours).split():
            self._engine.docker("volume", "rm", "--force", *volumes)
