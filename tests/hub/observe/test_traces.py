"""Traces: which spans there are, whose children they are, and what they say; without `traces` nothing is imported."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.hub.serving import TOPIC, WIRES, bearer, serving, token, until
from transports import TransportUnavailable

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""A ``traceparent`` (W3C Trace Context)."""


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """The process's own: OpenTelemetry takes one, once."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    yield exporter
    processor.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


async def test_a_publication_is_a_span_of_its_clients_trace(spans: InMemorySpanExporter) -> None:
    """``mercure.publish``: a server's span below the client's, with the update's id, and neither topic nor data."""
    async with serving(traces="otlp") as hub:
        headers = {**bearer(token(publish=["*"])), "traceparent": PARENT}
        answer = await hub.post({"topic": TOPIC, "data": "secret", "private": "on"}, headers=headers)
        (span,) = named(spans, "mercure.publish")
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == PARENT[3:-3]
    assert dict(span.attributes or {}) == {
        "http.response.status_code": 200,
        "mercure.update.id": answer.text,
        "mercure.update.private": True,
    }


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
async def test_history_is_read_within_the_subscription(wire: type, spans: InMemorySpanExporter) -> None:
    """``mercure.history`` is the child of ``mercure.subscribe``, and says how much was read until it was live."""
    async with serving(wire, traces="otlp") as hub:
        for number in range(3):
            await hub.publish(str(number))
        async with hub.subscribe(topic=TOPIC, lastEventID="earliest") as stream:
            await stream.take(3)
            await until(lambda: bool(named(spans, "mercure.history")))
        (history,), (subscription,) = named(spans, "mercure.history"), named(spans, "mercure.subscribe")
    assert history.parent is not None
    assert subscription.context is not None
    assert history.parent.span_id == subscription.context.span_id
    assert dict(history.attributes or {}) == {"mercure.history.entries": 3, "mercure.stream.phase": "live"}
    assert dict(subscription.attributes or {}) == {"http.response.status_code": 200, "mercure.matchers": 1}
    assert subscription.status.status_code is StatusCode.UNSET


async def test_a_refusal_has_its_reason(spans: InMemorySpanExporter) -> None:
    """The word of log and metric; a client's mistake is no error of the server's span."""
    async with serving(traces="otlp") as hub:
        await hub.post({"topic": TOPIC}, headers=bearer("no.token.at-all"))
        (span,) = named(spans, "mercure.publish")
    assert dict(span.attributes or {}) == {"http.response.status_code": 401, "error.type": "malformed"}
    assert span.status.status_code is StatusCode.UNSET


async def test_a_store_that_is_away_is_an_error(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 is the server's fault, and its span's."""
    async with serving(traces="otlp") as hub:

        def away(_update: object) -> object:
            raise TransportUnavailable("away")

        monkeypatch.setattr(type(hub.hub.transport), "submit", lambda _self, update, _answer: away(update))
        assert (await hub.post({"topic": TOPIC})).status_code == 503
        (span,) = named(spans, "mercure.publish")
    assert span.status.status_code is StatusCode.ERROR


async def test_without_traces_there_are_none(spans: InMemorySpanExporter) -> None:
    """Where they are not asked for, even an application's own provider gets none."""
    async with serving() as hub:
        await hub.publish()
    assert spans.get_finished_spans() == ()


def test_without_traces_nothing_is_imported() -> None:
    """A hub that makes no traces has no OpenTelemetry in its process."""
    code = (
        "import sys; from hub import Settings; from hub.web.hub import Hub; import hub.server.server\n"
        "Hub(Settings(transport_url='memory://', anonymous=True))\n"
        "print([each for each in sys.modules if each.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
