"""What README and docs say is what happens: every command in them is run, every output compared."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEADLINE = 20.0
END = "-- end of output --"
ROOT_COMMANDS = """\
make serve   # a hub to try on 127.0.0.1:3000; prints a curl that subscribes and one that publishes
make test    # the linters, the type checker and every test
"""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and the output it shows."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        yield command, output


def shown(output: str) -> str:
    """The pattern for an output, in which … stands for whatever differs from run to run."""
    return ".*".join(map(re.escape, output.split("…")))


class Shell:
    """A bash in an empty folder, which finds the hub's commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """What the command prints. One in the background is waited for until it says that it listens."""
        assert self._bash.stdin is not None
        # A status asked for in the next command is the documented command's, not our marker's.
        self._bash.stdin.write(f"{command}\n__status=$?; echo '{END}'; (exit $__status)\n")
        self._bash.stdin.flush()
        output = self._until_end(command)
        if background := re.search(r"serve .*>(\S+) &", command):
            self._listening(self._folder / background[1])
        return output

    def _until_end(self, command: str) -> str:
        assert self._bash.stdout is not None
        lines: list[str] = []
        patience = Timer(DEADLINE, self.kill)
        patience.start()
        while not (line := self._bash.stdout.readline()).endswith(f"{END}\n"):
            assert line, f"{command} did not end"
            lines.append(line)
        patience.cancel()
        return "".join([*lines, line.removesuffix(f"{END}\n")])

    def _listening(self, log: Path) -> None:
        deadline = time.monotonic() + DEADLINE
        while not log.exists() or "is listening" not in log.read_text():
            assert time.monotonic() < deadline, f"{log.name} does not say that it is listening"
            time.sleep(0.02)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGTERM)

    def close(self) -> None:
        """End the shell and whatever it still runs."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self.kill()
        self._bash.stdin.close()
        self._bash.stdout.read()
        self._bash.stdout.close()
        self._bash.wait(DEADLINE)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    free(3000, 3001)
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def free(*ports: int) -> None:
    """The documented ports are needed here."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_console_block_is_true(page: Path, shell: Shell) -> None:
    """Each command of the page, in order, prints what the page shows."""
    if page.name == "performance.md" and shutil.which("cc") is None:
        pytest.skip("the benchmark's load generator is a C program")
    for block in blocks(page, "console"):
        for command, output in steps(block):
            printed = shell.run(command)
            assert re.fullmatch(shown(output), printed), f"{command}\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_stands_outside_of_a_tested_block(page: Path) -> None:
    """The only other shell block has the two commands: `make serve` is run below, `make test` is this run."""
    assert blocks(page, "sh") == ([ROOT_COMMANDS] if page.name == "README.md" else [])
    assert not blocks(page, "(?:bash|shell)")


def test_the_links_point_at_something() -> None:
    """No page points at a file that is missing."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def test_the_python_example_runs(tmp_path: Path) -> None:
    """The hub inside another application publishes and streams."""
    free(3000)
    (example,) = blocks(ROOT / "README.md", "python")
    (tmp_path / "app.py").write_text(example)
    command = ["uvicorn", "app:app", "--port", "3000", "--timeout-graceful-shutdown", "1"]
    with subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            while "running on" not in server.stderr.readline():
                assert server.poll() is None
            assert hub("publish", "--dev", "--data", "inside")
            got = hub("subscribe", "--last-event-id", "earliest", "--count", "1")
            assert got.endswith(b"\ndata: inside\n\n")
        finally:
            server.send_signal(signal.SIGTERM)
            server.stderr.read()


def hub(*arguments: str) -> bytes:
    """What a command about the documented topic prints."""
    command = [sys.executable, "-c", "from hub.cli import main; main()", *arguments]
    topic = ["--topic", "https://example.com/books/1"]
    return subprocess.run([*command, *topic], check=True, stdout=subprocess.PIPE, timeout=DEADLINE).stdout


def test_a_new_user_gets_an_update(tmp_path: Path) -> None:
    """Clone, `make serve`, paste the two printed commands; Ctrl-C, `make serve` again: the old update is there."""
    free(3000)
    clone(tmp_path / "clone")
    with made(tmp_path / "clone") as first:
        subscribe, publish = printed_commands(first)
        event_id = subscribed_and_published(shlex.split(subscribe), shlex.split(publish))
        interrupt(first)
    with made(tmp_path / "clone") as second:
        old = [*shlex.split(printed_commands(second)[0]), "--max-time", "2"]
        old[-3] += "&last_event_id=earliest"
        assert event_id in subprocess.run(old, check=False, capture_output=True, timeout=DEADLINE).stdout
        interrupt(second)


def clone(target: Path) -> None:
    """What git would give a new user of the tree as it is."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)


def made(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(["make", "serve"], cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True)


def printed_commands(server: subprocess.Popen[str]) -> tuple[str, str]:
    """The two commands to paste."""
    assert server.stdout is not None
    commands: list[str] = []
    while len(commands) < 2:
        line = server.stdout.readline()
        assert line, "make serve ended"
        commands += [line.strip()] if line.startswith("  curl ") else []
    return commands[0], commands[1]


def subscribed_and_published(subscribe: list[str], publish: list[str]) -> bytes:
    """Run both; the id of the update, which the subscriber has got."""
    with subprocess.Popen(subscribe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b":\n"
        event_id = subprocess.run(publish, check=True, capture_output=True, timeout=DEADLINE).stdout
        got = [reader.stdout.readline() for _ in range(2)]
        assert got == [b"id: " + event_id + b"\n", b'data: {"status": "available"}\n']
        reader.terminate()
    return event_id


def interrupt(server: subprocess.Popen[str]) -> None:
    """Ctrl-C reaches make and the hub."""
    assert server.stdout is not None
    os.killpg(server.pid, signal.SIGINT)
    server.stdout.read()
    server.wait(DEADLINE)


def test_replicas() -> None:
    """`make replicas`: what is published on one hub arrives at the other; nothing is left running."""
    command = [sys.executable, "-m", "tests.replicas"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout
    published, arrived = re.findall(r"^(?:published on hub 1|arrived at hub 2): +(urn:uuid:\S+)$", said, re.MULTILINE)
    assert published == arrived
