"""The Go image's official recipes, with its name changed and nothing else: healthy, and updates get through.

What stands in ``recipes/`` are the facts of symfony/recipes, dunglas/symfony-docker, api-platform/api-platform, and of
the Go hub's documentation and Helm chart.
"""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.swarm.engine import Engine, Failed, say

RECIPES = sorted((Path(__file__).parent / "recipes").glob("*.yml"))
VISITOR = Path(__file__).parent / "visitor.py"
PLAIN_ONLY = ("symfony-bundle-http", "helm-chart")
"""Those that turn TLS off."""
HEALTHY_IN = 90.0
PYTHON = "/opt/mercure-hub/bin/python"


def broken_recipes(engine: Engine) -> list[str]:
    """Those that did not work, in words."""
    with ThreadPoolExecutor(2) as threads:
        return [found for found in threads.map(lambda recipe: _broken(engine, recipe), RECIPES) if found]


def _broken(engine: Engine, recipe: Path) -> str:
    """Start it, wait until its own probe is content, publish and read; make it anew, and find the history again."""
    project = _Project(engine, recipe)
    try:
        began = time.monotonic()
        project.up()
        project.wait_until_healthy()
        healthy = time.monotonic() - began
        updates = project.visit(0)
        project.up("--force-recreate")
        project.wait_until_healthy()
        project.visit(updates)
        say(f"{recipe.stem}: healthy after {healthy:.1f} s; {updates} updates published and read, twice")
    except (Failed, subprocess.SubprocessError, TimeoutError) as error:
        return f"{recipe.stem}: {error}\n{project.log()}"
    finally:
        project.compose("down", "--volumes", "--timeout", "15")
    return ""


class _Project:
    """One recipe under Docker Compose."""

    def __init__(self, engine: Engine, recipe: Path) -> None:
        self._engine, self._recipe = engine, recipe
        self._name = f"recipe-{recipe.stem}"
        plugin = subprocess.run(
            ["docker", "compose", "version"], env=engine.environment, capture_output=True, check=False
        )
        self._program = ["docker-compose"] if plugin.returncode else ["docker", "compose"]

    def compose(self, *arguments: str) -> str:
        command = [*self._program, "--project-name", self._name, "--file", str(self._recipe), *arguments]
        environment = self._engine.environment | {"HUB_IMAGE": "hub:a"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def up(self, *arguments: str) -> None:
        self.compose("up", "--detach", *arguments)

    def log(self) -> str:
        """What its hub has said, and its probe."""
        try:
            return self.compose("logs") + json.dumps(self._state().get("Health", {}))
        except (Failed, LookupError, ValueError) as error:
            return str(error)

    def _state(self) -> dict[str, object]:
        identifier = self.compose("ps", "--quiet").strip()
        state: dict[str, object] = self._engine.inspect("inspect", identifier)["State"]
        return state

    def wait_until_healthy(self) -> None:
        end = time.monotonic() + HEALTHY_IN
        while time.monotonic() < end:
            health = self._state().get("Health")
            if isinstance(health, dict) and health["Status"] == "healthy":
                return
            time.sleep(0.2)
        raise TimeoutError("it does not become healthy")

    def visit(self, earliest: int) -> int:
        """Publish and read at each of its addresses; how many updates that were."""
        service = self.compose("config", "--services").split()[0]
        schemes = ["http"] if self._recipe.stem in PLAIN_ONLY else ["http", "https"]
        urls = [f"{scheme}://{service}/.well-known/mercure" for scheme in schemes]
        container = ("--interactive", "--rm", "--network", f"{self._name}_default", "--entrypoint", PYTHON)
        self._engine.docker(
            "run", *container, "hub:a", "-", str(earliest), *urls, stdin=VISITOR.read_text(), timeout=120
        )
        return len(urls)
