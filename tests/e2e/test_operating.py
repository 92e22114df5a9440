"""What an operator sees of a running hub: metrics, stats and the log, of one process and of several."""

import asyncio
import json
import os
import re
from signal import SIGKILL, SIGTERM

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hub.generations import PATH
from tests.e2e.processes import (
    Address,
    Connection,
    Hub,
    Hubs,
    Publisher,
    free_port,
    get,
    receipts_of,
    running,
    subscribed,
    until,
)
from tests.e2e.test_workers import SHARED, children, replaced
from tests.hub.cli.test_commands import run
from tests.hub.serving import TOPIC, bearer


async def scraped(admin: Address) -> dict[str, float]:
    """Each metric's value, by its name and labels."""
    answer = await get(admin, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.body.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def start(hubs: Hubs, *arguments: str) -> tuple[Hub, Address]:
    port = free_port()
    return hubs.start(SHARED, "--admin-listen", f"127.0.0.1:{port}", "--drain", "100ms", *arguments), (
        "127.0.0.1",
        port,
    )


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_scrape_is_what_happened(hubs: Hubs, workers: int) -> None:
    """The sum over all workers equals the load's own counts, exactly, also after one of them was killed."""
    hub, admin = start(hubs, "--workers", str(workers), "--anonymous")
    address = await hub.listening()
    publishers = [Publisher(f"publisher {n}", [address]) for n in range(8)]
    async with subscribed(30, [address]) as subscribers:
        async with running(*(each.publish(50) for each in publishers)):
            await until(lambda: len(receipts_of(publishers)) == 400)
        await until(lambda: all(len(each.events) == 400 for each in subscribers))
        async with Connection.to(address) as connection:
            assert (await connection.publish("refused", None, bearer("no.token.here"))).status == 401
        found = await scraped(admin)
        assert found["mercure_updates_total"] == 400
        assert found["mercure_subscribers_connected"] == found["mercure_subscribers_total"] == 30
        assert found["mercure_publish_duration_seconds_count"] == 400
        assert found['mercure_updates_failed_total{reason="refused"}'] == 1
        assert found['mercure_auth_failures_total{reason="malformed",role="publisher"}'] == 1
        assert found["mercure_history_entries"] == 400
        assert found["mercure_store_up"] == 1
        assert found["mercure_delivery_lag_seconds_count"] > 0
    ended = 'mercure_streams_closed_total{reason="client"}'
    while (await scraped(admin))[ended] != 30:
        assert hub.running
    assert (await scraped(admin))["mercure_subscribers_connected"] == 0
    if workers > 1:
        victim = children(hub)[0]
        os.kill(victim, SIGKILL)
        await replaced(hub, victim)
        found = await scraped(admin)
        assert (found["mercure_updates_total"], found[ended]) == (400, 30)


async def test_metrics_are_not_for_clients(hubs: Hubs) -> None:
    """On the port that clients reach there are none, unless --metrics asks for them; and nothing else ever is."""
    hub, _ = start(hubs)
    address = await hub.listening()
    assert (await get(address, "/metrics")).status == 404
    other, _ = start(hubs, "--metrics")
    address = await other.listening()
    assert (await get(address, "/metrics")).status == 200
    assert (await get(address, "/stats")).status == 404


async def test_openmetrics_where_it_is_asked_for(hubs: Hubs) -> None:
    """A scraper that prefers OpenMetrics gets it, with its end."""
    hub, admin = start(hubs)
    await hub.listening()
    async with Connection.to(admin) as connection:
        answer = await connection.request("GET", "/metrics", {"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith("# EOF\n")


async def test_stats(hubs: Hubs) -> None:
    """How it is, as JSON and at a terminal; topics are told apart by hashes, unless they may be named."""
    for flags, named in (((), False), (("--stats-topics",), True)):
        hub, admin = start(hubs, "--anonymous", *flags)
        address = await hub.listening()
        async with subscribed(3, [address]), Connection.to(address) as connection:
            identifier = (await connection.publish("x")).body
            found = json.loads((await get(admin, "/stats")).body)
            assert found["subscribers"]["connected"] == 3
            assert found["history"]["newest"]["id"] == identifier
            assert found["totals"] == {"updates": 1, "subscribers": 3} or named
            (topic,) = found["topics"]
            assert (topic["topic"] == TOPIC, topic["subscribers"]) == (named, 3)
        shown = run("stats", "--listen", "{}:{}".format(*admin))
        assert shown.exit_code == 0, shown.stderr
        assert re.search(r"^history +\d+ updates, \d+\.\d MiB, newest urn:uuid:", shown.stdout, re.MULTILINE)
        assert json.loads(run("stats", "--json", "--listen", "{}:{}".format(*admin)).stdout)["state"] == "serving"
        hub.send(SIGTERM)
        assert await hub.ended() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_log_as_json(hubs: Hubs, workers: int) -> None:
    """Every line is an object with the Go hub's names: start, refusals, end."""
    flags = ("--log-format", "json", "--log-level", "info", "--workers", str(workers))
    hub, _ = start(hubs, *flags)
    address = await hub.listening()
    async with Connection.to(address) as connection:
        await connection.publish("x", None, bearer("no.token.here"))
    await until(lambda: "refused" in hub.stderr)
    hub.send(SIGTERM)
    assert await hub.ended() == 0
    lines = [json.loads(line) for line in hub.stderr.splitlines()]
    assert {"level", "ts", "logger", "msg"} <= set.intersection(*(set(line) for line in lines))
    messages = [line["msg"] for line in lines]
    for beginning in (
        "the store is open",
        "the hub serves",
        "refused publisher",
        "SIGTERM: the hub ends",
        "the hub has ended",
    ):
        assert any(each.startswith(beginning) for each in messages), beginning


async def test_the_access_log(hubs: Hubs) -> None:
    """A line for each request, with its status; a token in the query is not in it, and streams are streams."""
    hub, _ = start(hubs, "--access-log", "--log-level", "info", "--anonymous")
    address = await hub.listening()
    async with subscribed(1, [address]) as [subscriber], Connection.to(address) as connection:
        assert (await connection.publish("x")).status == 200
        await until(lambda: subscriber.data == ["x"])
        await connection.request("GET", f"{PATH}?topic=x&authorization=hunter2", {})
    await until(lambda: hub.stderr.count('"GET') == 2)
    assert re.search(rf'hub\.access: 127\.0\.0\.1 "POST {PATH}" 200 \d+\.\d ms\n', hub.stderr)
    assert f'"GET {PATH}?topic=x&authorization=REDACTED" 401' in hub.stderr
    assert "hunter2" not in hub.stderr
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO hub\.", hub.stderr)


@pytest.mark.parametrize("workers", [1, 2])
async def test_traces_reach_a_collector(hubs: Hubs, workers: int) -> None:
    """With OpenTelemetry's own variables, from every worker, the last ones at its end; the hub has its name."""
    received: list[ExportTraceServiceRequest] = []

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/traces HTTP/1.1")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length
        body = await reader.readexactly(int(length[1]))
        received.append(ExportTraceServiceRequest.FromString(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(collect, "127.0.0.1", 0) as collector:
        port = collector.sockets[0].getsockname()[1]
        environment = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        }
        hub = hubs.start("lmdb://traced?lock=shared", "--workers", str(workers), environment=environment)
        address = await hub.listening()
        async with Connection.to(address) as connection:
            assert (await connection.publish("x")).status == 200
        hub.send(SIGTERM)
        assert await hub.ended() == 0
    (sent,) = [each for request in received for each in request.resource_spans]
    attributes = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert (attributes["service.name"], attributes["deployment.environment"]) == ("mercure-hub", "test")
    assert [span.name for scope in sent.scope_spans for span in scope.spans] == ["mercure.publish"]


async def test_traces_that_nobody_collects(hubs: Hubs) -> None:
    """A collector that is away costs the start nothing, and the end no more than OpenTelemetry's time-out."""
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    hub = hubs.start("memory://", "--traces", "otlp", environment=away)
    async with Connection.to(await hub.listening()) as connection:
        assert (await connection.publish("x")).status == 200
    hub.send(SIGTERM)
    assert await hub.ended(5) == 0
