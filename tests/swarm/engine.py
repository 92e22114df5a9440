"""A Docker engine of our own: private data, socket and process namespace. An engine that runs here is not touched."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

DEADLINE = 60.0
PREFERRED = ("nice", "--adjustment=-10")
"""What else the machine does must not look like a gap of the hub's. Where it is not allowed it is but a warning."""
HISTORY = 100
"""Ended tasks that Swarm keeps of each replica. With its 5, one can be forgotten while the service's log is read, which
then fails: a hub that can't start is started every few seconds."""
IN_ITS_OWN_NETWORK = 'test "$1" = host || ip link set lo up; shift; exec "$@"'


class Failed(Exception):
    """A command of Docker's ended with an error, which is the text."""


def say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


class Engine:
    """``dockerd`` in a process namespace: with its first process everything in it ends, containers too.

    It begins in the host's network, where an image can be built from packages, and `isolate` starts it anew in a
    network of its own, which leaves no bridge and no firewall rule behind.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mercure-swarm-", dir="/var/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "MERCURE_"))},
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(self.folder / "config"),
            # Without a plugin the newer builder is not there; the file needs neither.
            "DOCKER_BUILDKIT": "0",
        }

    def __enter__(self) -> Self:
        try:
            self._start("host")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def isolate(self) -> None:
        """A network of its own, and a Swarm of one node."""
        self._stop()
        self._start("own")
        self.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--task-history-limit", str(HISTORY))

    def _start(self, network: str) -> None:
        spaces = [
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            *(["--net"] if network == "own" else []),
        ]
        daemon = ["dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        daemon += ["--host", self.environment["DOCKER_HOST"], "--pidfile", f"{self.folder}/pid"]
        if network == "host":
            daemon += ["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*PREFERRED, "unshare", *spaces, "sh", "-c", IN_ITS_OWN_NETWORK, "sh", network, *daemon],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise Failed(f"dockerd does not start:\n{(self.folder / 'dockerd.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        return (
            subprocess.run(["docker", "version"], env=self.environment, capture_output=True, check=False).returncode
            == 0
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:  # dockerd, which ends its containers and unmounts their files
            os.kill(int(child), signal.SIGTERM)
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def docker(
        self,
        *arguments: str,
        stdin: Any = None,
        env: dict[str, str] | None = None,
        timeout: float = 600,
        both: bool = False,
    ) -> str:
        """What the command prints; ``both``: on stderr too, where a hub's last line is. Raises `Failed`."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment | (env or {}),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if done.returncode:
            raise Failed(f"docker {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return str(done.stdout) + (str(done.stderr) if both else "")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on: its output can be read as it comes."""
        return subprocess.Popen(["docker", *arguments], env=self.environment, stdout=subprocess.PIPE, text=True)

    def inspect(self, *arguments: str) -> Any:
        """The first that `docker … inspect` shows."""
        return json.loads(self.docker(*arguments))[0]
