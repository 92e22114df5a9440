"""``python -m bench.watching``: a minute of a hub's life as its metrics tell it, drawn as the Grafana dashboard does.

The load comes and goes: subscribers join, publishers speed up, some show a bad token, the hub is told to end at last.
"""

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import matplotlib as mpl
from matplotlib import pyplot

from bench.servers import KEY, PROGRAM, TOPIC, free_port, mercure

PICTURE = Path(__file__).parents[1] / "docs" / "operations.svg"
SECONDS = 60
SUBSCRIBERS = 400
PUBLISHERS = 8
BLUE, GREEN, GREY, AMBER = "#2563eb", "#16a34a", "#9ca3af", "#d97706"

Samples = list[tuple[float, Mapping[str, float]]]


async def main() -> None:
    """Run, scrape once a second, draw."""
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(PROGRAM), "serve", "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
        settings = ["--transport-url", f"lmdb://{folder}/hub", "--anonymous", "--log-level", "error", "--drain", "2s"]
        environment = {"MERCURE_PUBLISHER_JWT_KEY": KEY, "MERCURE_SUBSCRIBER_JWT_KEY": KEY}
        hub = subprocess.Popen([*command, *settings], env=environment, stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        began = time.monotonic()
        samples: Samples = []
        tasks = [asyncio.create_task(subscriber(port, began + 30 * n / SUBSCRIBERS)) for n in range(SUBSCRIBERS)]
        tasks += [asyncio.create_task(publisher(port, began, n)) for n in range(PUBLISHERS)]
        tasks.append(asyncio.create_task(stranger(port, began + 25)))
        while time.monotonic() < began + SECONDS:
            await asyncio.sleep(1)
            if found := await scrape(admin):
                samples.append((time.monotonic() - began, found))
        hub.send_signal(signal.SIGTERM)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        hub.wait(20)
    draw(samples)


async def scrape(port: int) -> Mapping[str, float]:
    """The metrics by name and labels; none while the hub is not there."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
    except OSError:
        return {}
    return {name: float(value) for name, value in re.findall(r"^(mercure\S+) (\S+)$", text, re.MULTILINE)}


async def subscriber(port: int, at: float) -> None:
    """One stream, from a moment on; each tenth reads slowly for a while."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /.well-known/mercure?topic={TOPIC} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
    while await reader.read(65536):
        continue


async def publisher(port: int, began: float, number: int) -> None:
    """Slowly at first, faster from the middle on."""
    await asyncio.sleep(1)
    bearer = f"Bearer {mercure().token}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        await send(reader, writer, bearer, f"{number}")
        await asyncio.sleep(0.2 if time.monotonic() < began + 30 else 0.05)


async def stranger(port: int, at: float) -> None:
    """Somebody whose token nobody has signed, for ten seconds."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    token = "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7fX0.AAAA"  # noqa: S105 - signed by nobody
    for _ in range(50):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await send(reader, writer, f"Bearer {token}", "no")
        writer.close()
        await asyncio.sleep(0.2)


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bearer: str, data: str) -> None:
    body = urlencode({"topic": TOPIC, "data": data * 100})
    head = f"POST /.well-known/mercure HTTP/1.1\r\nHost: hub\r\nAuthorization: {bearer}\r\n"
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    writer.write(f"{head}{form}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", answer)
    await reader.readexactly(int(length[1]) if length else 0)


def draw(samples: Samples) -> None:
    """Six of the dashboard's panels."""
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "mercure-hub", "font.size": 8, "axes.spines.top": False})
    mpl.rcParams.update({"axes.spines.right": False, "axes.edgecolor": GREY, "axes.titleweight": "bold"})
    figure, axes = pyplot.subplots(2, 3, figsize=(10, 5))
    times = [at for at, _ in samples]
    gauge = {name: [found.get(f"mercure_{name}", 0) for _, found in samples] for name in ("history_entries",)}
    people = [found.get("mercure_subscribers_connected", 0) for _, found in samples]
    panels = (
        ("Subscribers", [("connected", people, GREEN)]),
        ("Updates a second", [("stored", rate(samples, "mercure_updates_total"), BLUE)]),
        ("Refused a second", [("bad_signature", rate(samples, REFUSED), AMBER)]),
        ("Milliseconds to store an update", quantiles(samples, "mercure_publish_duration_seconds")),
        ("Milliseconds to deliver a batch", quantiles(samples, "mercure_delivery_lag_seconds")),
        ("Updates in the history", [("entries", gauge["history_entries"], BLUE)]),
    )
    for each, (title, lines) in zip(axes.flat, panels, strict=True):
        for label, values, colour in lines:
            each.plot(times, values, color=colour, label=label, linewidth=1.5)
        each.set_title(title, loc="left")
        each.set_ylim(bottom=0)
        each.legend(frameon=False, fontsize=7, loc="upper left")
    for each in axes[1]:
        each.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


REFUSED = 'mercure_auth_failures_total{reason="bad_signature",role="publisher"}'


def rate(samples: Samples, name: str) -> list[float]:
    """A second, between each scrape and the one before."""
    found = [0.0]
    for (before, first), (after, last) in pairwise(samples):
        found.append((last.get(name, 0) - first.get(name, 0)) / (after - before))
    return found


def quantiles(samples: Samples, name: str) -> Sequence[tuple[str, list[float], str]]:
    """p50 and p99 between each scrape and the one before, in milliseconds: the bucket's upper end."""
    return [(f"p{percent}", [1000 * each for each in quantile(samples, name, percent / 100)], colour)
            for percent, colour in ((50, BLUE), (99, AMBER))]  # fmt: skip


def quantile(samples: Samples, name: str, share: float) -> list[float]:
    ends = [re.search(r'le="([^"]+)"', each) for each in samples[-1][1] if each.startswith(f"{name}_bucket")]
    bounds = [each[1] for each in ends if each and each[1] != "+Inf"]
    found = [0.0]
    for (_, first), (_, last) in pairwise(samples):
        counts = {end: last.get(f'{name}_bucket{{le="{end}"}}', 0) - first.get(f'{name}_bucket{{le="{end}"}}', 0)
                  for end in [*bounds, "+Inf"]}  # fmt: skip
        wanted = share * counts["+Inf"]
        found.append(next((float(end) for end in bounds if wanted and counts[end] >= wanted), found[-1]))
    return found


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
