"""The commands as processes: what containers run often, what a terminal shows, what `check` finds."""

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.e2e.processes import ROOT, Hubs, free_port, until
from tests.hub.auth.issuing import issuing
from tests.hub.cli.test_commands import run
from tests.transports.postgresql import Postgres

PROGRAM = [sys.executable, "-c", "from hub.cli.entry import main; main()"]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MERCURE_", "SERVER_NAME"))}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def done(*arguments: str, program: Sequence[str] = PROGRAM, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*program, *arguments]
    said = environment(**variables)
    return subprocess.run(command, env=said, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("variable", ["MERCURE_ADMIN_LISTEN", "MERCURE_LISTEN"])
async def test_the_short_way_of_a_probe(hubs: Hubs, variable: str) -> None:
    """The same answers and exit codes as by the long way: well, not well, nobody there; without importing the rest."""
    host, port = await hubs.start("memory://").listening()
    assert done("health", **{variable: f"{host}:{port}"}).stdout == '{"status":"ok"}\n'
    assert done("health", "--ready", **{variable: f"localhost:{port}"}).returncode == 0
    gone = done("health", **{variable: f"127.0.0.1:{free_port()}"})
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "does not answer (Connection refused)" in gone.stderr
    imports = [sys.executable, "-X", "importtime", *PROGRAM[1:]]
    said = done("health", program=imports, **{variable: f"{host}:{port}"})
    for module in ("click", "typing", "json", "hub.config", "asyncio", "http.client"):
        assert f" {module}\n" not in said.stderr, module


async def test_a_probe_of_a_hub_that_is_not_ready(hubs: Hubs) -> None:
    """Exit code 1, and the reason on stderr."""
    await hubs.start("lmdb://store").listening()
    host, port = await hubs.start("lmdb://store?lock_timeout=60s").listening()
    said = done("health", "--ready", MERCURE_LISTEN=f"{host}:{port}")
    assert (said.returncode, said.stdout) == (1, "")
    assert "the hub waits for its store" in said.stderr


def test_the_version_is_said_at_once() -> None:
    """By the short way as by the long one."""
    short, long = done("--version"), run("--version")
    assert short.stdout == long.stdout


def test_a_token_at_a_terminal_says_how_to_use_it() -> None:
    """A comment line on stderr, where somebody looks; never where a script reads."""
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "token", "--dev", "--publish", "*"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment()) as process:
        token, _ = process.communicate(timeout=30)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert token.count(b".") == 2
    assert shown.startswith("# curl -H 'Authorization: Bearer TOKEN' -d topic=")
    assert done("token", "--dev", "--publish", "*").stderr == ""


async def test_ctrl_c_prints_nothing_odd(hubs: Hubs) -> None:
    """Neither serve nor subscribe shows a traceback; their exit codes say what happened."""
    hub = hubs.start("memory://")
    host, port = await hub.listening()
    # Whoever runs the tests in the background of a shell has the signal ignored, and that is inherited.
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {PROGRAM[-1]}"
    command = [*PROGRAM[:-1], program, "subscribe", "--url", f"http://{host}:{port}", "--topic", "*"]
    reader = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: ASYNC220
    await until(lambda: connected(reader.pid, port))
    reader.send_signal(signal.SIGINT)
    _, said = reader.communicate(timeout=30)
    assert b"Traceback" not in said
    assert reader.returncode == 1
    hub.send(signal.SIGINT)
    assert await hub.ended() == 0
    assert hub.stderr == ""


def connected(pid: int, port: int) -> bool:
    """Whether a process has a connection of its own to that port (proc(5), net/tcp), established."""
    with suppress(FileNotFoundError):  # a descriptor that was closed meanwhile
        own = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
        lines = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
        return any(
            line[2].endswith(f":{port:04X}") and line[3] == "01" and f"socket:[{line[9]}]" in own for line in lines
        )
    return False


async def test_publishing_without_much(hubs: Hubs, tmp_path: Path) -> None:
    """A hub without its path, data from a file or from standard input; the id is what is printed."""
    host, port = await hubs.start("memory://").listening()
    (tmp_path / "data").write_text("from a file\n")
    for arguments, stdin in ((("--data", f"@{tmp_path}/data"), ""), (("--data", "-"), "from stdin\n"), ((), "too\n")):
        command = [*PROGRAM, "publish", "--dev", "--url", f"http://{host}:{port}", "--topic", "x", *arguments]
        said = subprocess.run(  # noqa: ASYNC221 - the hub is another process
            command, input=stdin, env=environment(), capture_output=True, text=True, check=True, timeout=30
        )
        assert said.stdout.startswith("urn:uuid:")
        assert said.stdout.count("\n") == 1
    command = [*PROGRAM, "subscribe", "--url", f"http://{host}:{port}/", "--topic", "x", "--last-event-id", "earliest"]
    told = subprocess.run(  # noqa: ASYNC221
        [*command, "--count", "3", "--json"], env=environment(), capture_output=True, text=True, check=True, timeout=30
    )
    assert [line.rpartition('"data": ')[2] for line in told.stdout.splitlines()] == [
        *('"from a file\\n"}', '"from stdin"}', '"too"}')
    ]
    assert "cannot be read" in run("publish", "--dev", "--topic", "x", "--data", "@/none").stderr


async def test_check_finds_what_serve_would_meet(hubs: Hubs, tmp_path: Path) -> None:
    """A port that is taken, a store that is locked and by whom, files that are no certificate; exit code 2."""
    hub = hubs.start(f"lmdb://{tmp_path}/store")
    host, port = await hub.listening()
    store = f"lmdb://{tmp_path}/store"
    said = done("check", "--dev", "--listen", f"{host}:{port}", "--transport-url", store)
    assert said.returncode == 2
    assert f"FAILS cannot listen on {host}:{port}: Address already in use" in said.stdout
    assert f'FAILS store: "{store}": invalid transport: timeout: host {socket.gethostname()}, pid ' in said.stdout
    assert "the documentation's key is set, which everybody knows" in said.stdout
    flags = ("--tls-cert", str(tmp_path), "--tls-key", str(tmp_path), "--listen", "127.0.0.1:0")
    assert "FAILS the TLS file" in done("check", "--dev", "--transport-url", "memory://", *flags).stdout


def test_check_fetches_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JWK Set that can be had is told with its keys, one that can't fails."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    arguments = ("check", "--dev", "--transport-url", "memory://", "--listen", "127.0.0.1:0", "--publisher-jwks-url")
    with issuing(authority) as issuer:
        assert f"keys at {issuer.jwks_url}: 1\n" in run(*arguments, issuer.jwks_url).stdout
    said = run(*arguments, issuer.jwks_url)
    assert said.exit_code == 2
    assert f"FAILS keys at {issuer.jwks_url}: 0\n" in said.stdout


def test_check_knows_the_room(tmp_path: Path) -> None:
    """A volume that is smaller than the map is told; it stops nothing."""
    url = f"lmdb://{tmp_path}/store?map_size=1TiB"
    said = run("check", "--dev", "--listen", "127.0.0.1:0", "--transport-url", url)
    free = os.statvfs(tmp_path)
    assert ("less than the map_size of 1048576 MiB" in said.stdout) is (free.f_bavail * free.f_frsize < 1 << 40)
    assert said.exit_code == 0


async def test_check_prints_what_a_role_lacks(postgres: Postgres) -> None:
    """First the tables, then the grants, as SQL that somebody else runs; with them nothing fails."""
    await postgres.run_sql("CREATE ROLE lowly LOGIN")
    settings = ("--dev", "--transport-url", postgres.url("lowly"), "--listen", "127.0.0.1:0")
    for said in ("may not create the schema mercure", "may not use the schema mercure"):
        found = done("check", *settings)
        assert found.returncode == 2
        assert said in found.stdout
        await postgres.run_sql(found.stdout.partition("gives what is missing:\n\n")[2])
    assert done("check", *settings).returncode == 0
