"""Spans for OpenTelemetry: how long a publication, a subscription or a walk through history took, and how it ended.

Nothing of OpenTelemetry is imported unless traces are asked for; they need the extra ``otel``. Spans go to the
process's tracer provider: an application's own, or what ``mercure-hub serve`` sets up (`exported`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version

from hub.problems import Problem

NONE = "none"
"""In the place of an exporter: no traces."""
SERVICE = "mercure-hub"
"""The ``service.name`` of spans, unless ``OTEL_SERVICE_NAME`` says otherwise."""

Note = Callable[[str, str | int | bool], object]
"""Sets an attribute of a span. None is a topic, a token or data."""


class Traces:
    """None are made."""

    on = False

    def span(self, name: str, headers: Mapping[str, str] | None = None) -> AbstractContextManager[Note]:
        """A span as long as the block: the current one's child or, with a request's headers, its client's."""
        return _NO_SPAN


_NO_SPAN: AbstractContextManager[Note] = nullcontext(lambda _name, _value: None)


class OpenTelemetry(Traces):
    """Spans of the tracer provider that is set up in this process. Raises `ImportError` without the extra ``otel``."""

    on = True

    def __init__(self) -> None:
        from opentelemetry import propagate, trace

        self._trace, self._parent_of = trace, propagate.extract
        self._tracer = trace.get_tracer(SERVICE, version(SERVICE))

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str] | None = None) -> Iterator[Note]:
        kinds = self._trace.SpanKind
        with self._tracer.start_as_current_span(
            name,
            context=None if headers is None else self._parent_of(headers),
            kind=kinds.INTERNAL if headers is None else kinds.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span.set_attribute
            except Problem as problem:
                # A client's mistake is none of the server's (OpenTelemetry, "HTTP spans", "Status").
                span.set_attribute("http.response.status_code", problem.status)
                if problem.refusal is not None:
                    span.set_attribute("error.type", problem.refusal.reason.value)
                if problem.status >= 500:
                    span.set_status(self._trace.StatusCode.ERROR, problem.detail)
                raise
            except Exception as error:
                span.record_exception(error)
                span.set_status(self._trace.StatusCode.ERROR, type(error).__name__)
                raise


def traces_for(exporter: str) -> Traces:
    """``exporter``: see `exported`."""
    return Traces() if exporter == NONE else OpenTelemetry()


@contextmanager
def exported(exporter: str) -> Iterator[None]:
    """Send this process's spans to where ``OTEL_…`` says, for the time of the block; it has threads then.

    ``exporter``: ``none``, ``otlp`` or ``console`` (OpenTelemetry, "Environment Variable Specification").
    What waits to be sent at the end is sent, as long as ``OTEL_EXPORTER_OTLP_TIMEOUT`` allows.
    """
    if exporter == NONE:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    to: SpanExporter
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        to = OTLPSpanExporter()
    else:
        to = ConsoleSpanExporter()
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: SERVICE}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(to))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
