"""The same load on any other hub that speaks the protocol; its CPU cannot be seen from here."""

from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from bench import publishing
from bench.load import Load
from bench.report import Row, number, table
from bench.servers import Mercure

RATES = (10, 40, 200)
SECONDS = 2
PUBLISHES = 1000
UPDATES = 100


def against(url: str, token: str, subscribers: int) -> str:
    """Tables of fan-out, publishing and connecting. ValueError: the URL is not plain HTTP."""
    parts = plain_http(url)
    assert parts.hostname
    address = (parts.hostname, parts.port or 80)
    hub = Mercure(token, parts.path if parts.path.strip("/") else "/.well-known/mercure", host=parts.netloc)
    header = ("what", "a second", "p50 ms", "p99 ms", "max ms")
    return table(header, [*_fanned_out(address, hub, subscribers), *_published(address, hub)])


def plain_http(url: str) -> SplitResult:
    """The parts of a URL that can be loaded. ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// URL; the load generator speaks plain HTTP/1.1")
    return parts


def _fanned_out(address: tuple[str, int], hub: Mercure, subscribers: int) -> Iterator[Row]:
    with Load(address) as load:
        load.pool("publish", 1, hub.publish())
        took = load.open(subscribers, [hub.subscribe()])
        report = load.report()
        if report["refused"]:
            raise RuntimeError(f"{report['refused']} of {subscribers} subscribers were refused; is the token right?")
        connecting = report["connecting"]
        yield _row(f"{subscribers:,} connections", subscribers / took, connecting.p50, connecting.p99, connecting.max)
        for rate in (0, *RATES):
            count = rate * SECONDS or UPDATES
            load.start("publish", rate, count)
            whole = load.events(count * subscribers)
            report = load.report()
            late = report["latency"]
            pace = f"{rate} updates/s" if rate else "updates as fast as it goes"
            text = f"events to {subscribers:,}, {pace}" + ("" if whole else ", **some are missing**")
            yield _row(text, report["events"] / (report["last"] - report["began"]), late.p50, late.p99, late.max)


def _published(address: tuple[str, int], hub: Mercure) -> Iterator[Row]:
    with Load(address) as load:
        for publishers in (1, 16, 64):
            name = f"publish{publishers}"
            load.pool(name, publishers, hub.publish())
            rate, late = publishing.timed(load, PUBLISHES, name)
            yield _row(f"updates published, {publishers} at once", rate, late.p50, late.p99, late.max)


def _row(text: str, rate: float, *latency: float) -> Row:
    return (text, *map(number, (rate, *latency)))
