"""The metrics in Prometheus's text, or in OpenMetrics where the scraper prefers that: read, summed, and written.

The names are the Go hub's where it has one. No label holds a topic, an id or a token. ``docs/operations.md`` has the
table, which a test compares.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hub.observe.counts import BOUNDS, Counts, Ended, Failure, Role
from hub.problems import Reason

Labels = Callable[[Counts], Iterator[tuple[tuple[str, ...], float]]]


class Store(NamedTuple):
    """What is known of the store at the time of a scrape; None: the store can't tell."""

    up: bool
    entries: int | None = None
    bytes: int | None = None
    oldest_seconds: float | None = None
    waiting: int | None = None
    waiting_seconds: float | None = None


class _Described(NamedTuple):
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    values: Labels = lambda _counts: iter(())


def _one(name: str) -> Labels:
    return lambda counts: iter([((), float(counts.total(name)))])


DESCRIBED = (
    _Described(
        GaugeMetricFamily,
        "mercure_subscribers_connected",
        "Streams that are open now.",
        values=_one("subscribers"),
    ),
    _Described(
        CounterMetricFamily, "mercure_subscribers_total", "Streams that were opened.", values=_one("subscribers_total")
    ),
    _Described(CounterMetricFamily, "mercure_updates_total", "Updates that were stored.", values=_one("updates_total")),
    _Described(
        CounterMetricFamily,
        "mercure_updates_failed_total",
        "Updates that were not stored, by the reason.",
        ("reason",),
        lambda counts: iter([((each,), float(counts.total(f"failed_{each}"))) for each in Failure]),
    ),
    _Described(
        CounterMetricFamily,
        "mercure_auth_failures_total",
        "Requests that were refused, by who asked and the reason.",
        ("role", "reason"),
        lambda counts: iter(
            [((role, each), float(counts.total(f"refused_{role}_{each}"))) for role in Role for each in Reason]
        ),
    ),
    _Described(
        CounterMetricFamily,
        "mercure_streams_closed_total",
        "Streams that are over, by the reason.",
        ("reason",),
        lambda counts: iter([((each,), float(counts.total(f"ended_{each}"))) for each in Ended]),
    ),
    _Described(
        GaugeMetricFamily,
        "mercure_subscribers_behind",
        "Streams that read the log at their own pace, or wait for their readers.",
        values=_one("behind"),
    ),
)
HISTOGRAMS = (
    ("publish", "mercure_publish_duration_seconds", "From a whole request until its update is stored."),
    ("delivery", "mercure_delivery_lag_seconds", "From a batch of the log until all live streams have it."),
)
STORED = (
    ("entries", "mercure_history_entries", "Updates in the history."),
    ("bytes", "mercure_history_bytes", "Bytes that the history takes."),
    ("oldest_seconds", "mercure_history_oldest_seconds", "Age of the oldest update in the history."),
    ("waiting", "mercure_outbox_entries", "Updates that transactions published and no hub has moved to the log yet."),
    ("waiting_seconds", "mercure_outbox_oldest_seconds", "Age of the oldest update in the outbox."),
)
UP = ("mercure_store_up", "Whether an update would be stored now.")
BUILD = ("mercure_build_info", "The hub's version, and the scheme of its store.")
NAMES = (
    *(each.name for each in DESCRIBED),
    *(name for _, name, _ in (*HISTOGRAMS, *STORED)),
    UP[0],
    BUILD[0],
)
"""Every metric, as it is queried but for the endings of histograms."""


class _Collected(Collector):
    def __init__(self, counts: Counts, store: Store, version: str, scheme: str) -> None:
        self._counts, self._store = counts, store
        self._version, self._scheme = version, scheme

    def collect(self) -> Iterator[Metric]:
        for each in DESCRIBED:
            family = each.kind(each.name, each.meaning, labels=each.labels)
            for labels, value in each.values(self._counts):
                family.add_metric(labels, value)
            yield family
        for which, name, meaning in HISTOGRAMS:
            upto, total = self._counts.buckets(which)
            ends = [*map(str, BOUNDS), "+Inf"]
            yield HistogramMetricFamily(name, meaning, buckets=list(zip(ends, upto, strict=True)), sum_value=total)
        for attribute, name, meaning in STORED:
            value = getattr(self._store, attribute)
            if value is not None:
                yield GaugeMetricFamily(name, meaning, value)
        yield GaugeMetricFamily(*UP, float(self._store.up))
        build = GaugeMetricFamily(*BUILD, labels=("version", "transport"))
        build.add_metric((self._version, self._scheme), 1.0)
        yield build


def exposition(counts: Counts, store: Store, *, version: str, scheme: str, accept: str) -> tuple[bytes, str]:
    """The text, and its media type. ``accept``: the scraper's header."""
    registry = CollectorRegistry()
    registry.register(_Collected(counts, store, version, scheme))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
