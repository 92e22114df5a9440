"""What README and docs say is what happens: every command in them is run, every output compared."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from html import unescape
from pathlib import Path
from threading import Timer

import httpx
import pytest
import yaml

from hub.generations import PATH
from tests.e2e.browser import Browser, chromium, said
from tests.e2e.processes import free_port
from tests.needs import needs
from tests.transports.postgresql import Postgres

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/how-to").glob("*.md"))]
DEADLINE = 20.0
END = "-- end of output --"
ROOT_COMMANDS = """\
make serve   # a hub to try on 127.0.0.1:3000; prints a curl that subscribes and one that publishes
make test    # the linters, the type checker and the tests
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


class Ports:
    """Stand for the documented ones, 3000 and 3001, which may be somebody's own hub's."""

    def __init__(self) -> None:
        self._first, self._second = free_port(), free_port()
        self.port = str(self._first)
        self.url = f"http://127.0.0.1:{self._first}{PATH}"

    def in_place(self, text: str) -> str:
        """The text as it is for these ports."""
        return text.replace("127.0.0.1:3000", f"127.0.0.1:{self._first}").replace(
            "127.0.0.1:3001", f"127.0.0.1:{self._second}"
        )

    @property
    def environment(self) -> dict[str, str]:
        """What makes commands without an address take the first."""
        return {"MERCURE_LISTEN": self.in_place("127.0.0.1:3000"), "MERCURE_HUB_URL": self.url}


@pytest.fixture
def ports() -> Ports:
    return Ports()


class Shell:
    """A bash in an empty folder, which finds the hub's commands."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder), **environment},
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


@contextmanager
def shell_of(folder: Path, environment: Mapping[str, str]) -> Iterator[Shell]:
    needs("bash")
    shell = Shell(folder, environment)
    try:
        yield shell
    finally:
        shell.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_console_block_is_true(page: Path, tmp_path: Path, ports: Ports) -> None:
    """Each command of the page, in order, prints what the page shows; one that needs a database gets it."""
    found = blocks(page, "console")
    needs(*(["cc"] if page.name == "performance.md" else []))
    needs(*(each for each in ("curl", "redis-cli", "redis-server", "psql") if any(each in block for block in found)))
    with ExitStack() as stack:
        environment = ports.environment
        if any("DATABASE_URL" in block for block in found):
            environment["DATABASE_URL"] = stack.enter_context(Postgres("fsync=off")).url()
        shell = stack.enter_context(shell_of(tmp_path, environment))
        for block in map(ports.in_place, found):
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
    for page in (
        *PAGES,
        *sorted((ROOT / "docs/decisions").glob("*.md")),
        *sorted((ROOT / "examples").glob("**/*.md")),
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
    ):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def test_the_files_that_are_named_exist() -> None:
    """A page that names a file of the code names one that is there."""
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        for name in re.findall(r"`((?:hub|transports|tests|bench)/[\w/.-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_clause_names_a_test_that_is_there() -> None:
    """The page of the protocol points at tests, each row at one, and each exists."""
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    rows = [row for row in (ROOT / "docs/protocol.md").read_text().splitlines() if row.startswith("| ")]
    named = [re.findall(r"`(test_\w+)` \|$", row) for row in rows if not row.startswith("| clause")]
    assert len(named) > 50
    assert all(len(names) == 1 for names in named)
    assert {name for names in named for name in names} <= there


def test_the_python_examples_run(tmp_path: Path, ports: Ports) -> None:
    """The hub inside another application publishes and streams; the client does both from outside."""
    inside, outside = blocks(ROOT / "README.md", "python")
    (tmp_path / "app.py").write_text(inside)
    command = ["uvicorn", "app:app", "--port", ports.port, "--timeout-graceful-shutdown", "1"]
    with subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            while "running on" not in server.stderr.readline():
                assert server.poll() is None
            base = ports.url.removesuffix(PATH)
            first = httpx.put(f"{base}/books/1", json={"a": "inside"}, trust_env=False).json()["published"]
            got = hub(ports, "subscribe", "--last-event-id", "earliest", "--count", "1")
            assert got == f'id: {first}\ndata: {{"a": "inside"}}\n\n'.encode()
            done = subprocess.run(
                [sys.executable, "-c", ports.in_place(outside)], capture_output=True, text=True, check=True
            )
            assert re.fullmatch(r'urn:uuid:\S+\n\{"a": "inside"\}\n', done.stdout)
        finally:
            server.send_signal(signal.SIGTERM)
            server.stderr.read()


def hub(ports: Ports, *arguments: str) -> bytes:
    """What a command about the documented topic prints."""
    environment = {**os.environ, **ports.environment}
    command = [sys.executable, "-c", "from hub.cli.commands import main; main()", *arguments]
    topic = ["--topic", "https://example.com/books/1"]
    return subprocess.run(
        [*command, *topic], check=True, stdout=subprocess.PIPE, timeout=DEADLINE, env=environment
    ).stdout


def test_a_new_user_gets_an_update(tmp_path: Path, ports: Ports) -> None:
    """Clone, `make serve`, paste the two printed commands; Ctrl-C, `make serve` again: the old update is there."""
    needs("curl", "git")
    clone(tmp_path / "clone")
    with made(tmp_path / "clone", ports) as first:
        subscribe, publish = printed_commands(first)
        event_id = subscribed_and_published(shlex.split(subscribe), shlex.split(publish))
        interrupt(first)
    with made(tmp_path / "clone", ports) as second:
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


@contextmanager
def made(folder: Path, ports: Ports) -> Iterator[subprocess.Popen[str]]:
    """`make serve`, which ends with its children whatever happens."""
    # Not the arguments of the make that runs the tests.
    ours = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
    command, environment = ["make", "serve"], {**ours, **ports.environment}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as server:
        try:
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


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


JAVASCRIPT = [(page, block) for page in PAGES for block in blocks(page, "js")]


@pytest.fixture(scope="module")
def page() -> Iterator[tuple[Browser, str]]:
    """A page of a hub to try, and the hub's URL."""
    ports = Ports()
    environment = {**os.environ, **ports.environment}
    command = [sys.executable, "-c", "from hub.cli.commands import main; main()", "serve", "--dev"]
    with subprocess.Popen(
        [*command, "--transport-url", "memory://"], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            said(server, r"(is listening)")
            with chromium() as browser:
                browser.open(ports.url.removesuffix(PATH))
                yield browser, ports.url
        finally:
            server.terminate()


@pytest.mark.parametrize(("source", "block"), JAVASCRIPT, ids=[source.name for source, _ in JAVASCRIPT])
def test_every_script_runs(page: tuple[Browser, str], source: Path, block: str) -> None:
    """On a page of a hub, whose URL stands for the documented one."""
    browser, url = page
    script = re.sub(r"https?://(hub\.example\.com|127\.0\.0\.1:3000)/\.well-known/mercure", url, block)
    assert browser.run(f"return (async () => {{ {script}\n; return 'ran' }})()") == "ran"


def test_the_pictures_are_of_their_texts() -> None:
    """Each diagram is there, on a page, and shows every word of the text that it is made from (`make diagrams`)."""
    page = (ROOT / "docs/mechanisms.md").read_text()
    for text in sorted((ROOT / "docs/diagrams").glob("*.dot")):
        picture = text.with_suffix(".svg")
        assert f"(diagrams/{picture.name})" in page
        drawn = unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture.read_text())))
        for label in re.findall(r'label="([^"]*)"', text.read_text()):
            assert all(line in drawn for line in label.split("\\n")), (text.name, label)


def test_yaml_in_the_pages_is_yaml() -> None:
    """And names the bundle's variables."""
    (block,) = blocks(ROOT / "docs/how-to/symfony.md", "yaml")
    (hub_of_bundle,) = yaml.safe_load(block)["mercure"]["hubs"].values()
    assert hub_of_bundle["jwt"]["secret"] == "%env(MERCURE_JWT_SECRET)%"


def test_php_publishes(page: tuple[Browser, str]) -> None:
    """The functions of the how-to pages, with PHP itself; an error is an exception with the hub's sentence."""
    needs("php")
    _, url = page
    program = (ROOT / "examples/php/publish.php").read_text()
    key = "!ChangeThisMercureHubJWTSecretKey!"
    call = f"echo publish('{url}', '{key}', ['https://example.com/php', 'urn:b'], ['a' => 'é &'], true);"
    done = subprocess.run(["php"], input=program + call, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", done.stdout), done.stdout + done.stderr
    wrong = subprocess.run(["php"], input=program + call.replace(key, "x"), capture_output=True, text=True, check=False)
    assert "not published: " in wrong.stdout + wrong.stderr
