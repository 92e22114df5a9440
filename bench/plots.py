"""Pictures of a run, as SVG and PNG."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.bars import Figures
from bench.report import DIRECTORY, Place, section

COLOURS = {
    "memory": "#2563eb",
    "lmdb": "#0ea5e9",
    "redis": "#38bdf8",
    "postgresql": "#1e3a8a",
    "write() loop": "#6b7280",
    "Nchan": "#f59e0b",
    "sse-starlette": "#ef4444",
    "Go hub": "#16a34a",
    "Centrifugo": "#9333ea",
}
SIZE = (8, 4)

Values = Mapping[Place, dict[str, float]]
Series = Mapping[str, Sequence[float | None]]


def draw(figures: Figures) -> None:
    """Every picture for which there are figures."""
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "mercure-hub", "font.size": 9, "axes.spines.top": False})
    mpl.rcParams["axes.spines.right"] = False
    for name, picture in (
        ("cost", _cost),
        ("latency", _latency),
        ("memory", _memory),
        ("publishing", _publishing),
        ("growth", _growth),
    ):
        figure, axes = pyplot.subplots(1, 1 if name in {"cost", "memory"} else 2, figsize=SIZE, squeeze=False)
        picture(list(axes[0]), figures)
        figure.tight_layout()
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            figure.savefig(DIRECTORY / f"{name}.{suffix}", dpi=120, metadata=metadata)
        pyplot.close(figure)


def grouped(axes: Axes, groups: Sequence[str], series: Series) -> None:
    """Bars side by side, their values on them."""
    width = 0.85 / max(1, len(series))
    for number, (name, values) in enumerate(series.items()):
        places = [group + (number - (len(series) - 1) / 2) * width for group in range(len(groups))]
        drawn = axes.bar(places, [value or 0 for value in values], width, label=name, color=COLOURS.get(name))
        axes.bar_label(drawn, fmt="{:,.3g}", fontsize=7, padding=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.legend(frameon=False, fontsize=8)


def _servers(found: Values) -> list[str]:
    return list(dict.fromkeys(place[0] for place in found))


def _series(found: Values, groups: Sequence[Place], what: str) -> Series:
    """A server's values in each group; the rest of a place makes the group."""
    return {name: [found.get((name, *group), {}).get(what) for group in groups] for name in _servers(found)}


def _cost(axes: Sequence[Axes], figures: Figures) -> None:
    series = _series(section(figures, "fanout"), [("1000", "fast"), ("10000", "fast")], "cost")
    grouped(axes[0], ["1,000 subscribers", "10,000 subscribers"], series)
    axes[0].set_ylabel("CPU-µs for a delivered event")
    axes[0].set_title("Fan-out as fast as it goes: less is better")


def _latency(axes: Sequence[Axes], figures: Figures) -> None:
    found, rates = section(figures, "fanout"), ("10", "40", "200")
    for each, what in zip(axes, ("p50", "p99"), strict=True):
        for name, values in _series(found, [("1000", rate) for rate in rates], what).items():
            points = [(rate, value) for rate, value in zip(rates, values, strict=True) if value]
            each.plot(*zip(*points, strict=True), marker="o", label=name, color=COLOURS.get(name)) if points else None
        each.set_yscale("log")
        each.set_xlabel("updates a second, 1,000 subscribers")
        each.set_ylabel(f"{what}, ms")
    axes[0].set_title("From publish to event: less is better")
    axes[0].legend(frameon=False, fontsize=8)


def _memory(axes: Sequence[Axes], figures: Figures) -> None:
    found = section(figures, "idle")
    series = _series(found, [()], "resident")
    drawn = axes[0].barh(list(series), [values[0] or 0 for values in series.values()])
    for bar, name in zip(drawn, series, strict=True):
        bar.set_color(COLOURS.get(name.partition(",")[0], "#999999"))
    axes[0].bar_label(drawn, fmt="{:,.3g}", padding=2)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("KiB resident for an idle connection, of 10,000: less is better")


def _publishing(axes: Sequence[Axes], figures: Figures) -> None:
    found = {place: value for place, value in section(figures, "publish").items() if place[0] in COLOURS}
    numbers = ("1", "16", "64")
    titles = {"rate": "publishes a second: more is better", "cost": "CPU-µs for a publish: less is better"}
    for each, (what, title) in zip(axes, titles.items(), strict=True):
        for name, values in _series(found, [(number,) for number in numbers], what).items():
            each.plot(numbers, [value or 0 for value in values], marker="o", label=name, color=COLOURS.get(name))
        each.set_yscale("log")
        each.set_xlabel("publishers")
        each.set_title(title)
    axes[0].legend(frameon=False, fontsize=8)


def _growth(axes: Sequence[Axes], figures: Figures) -> None:
    found, sizes = section(figures, "fanout"), ("10", "1000", "10000")
    for name, values in _series(found, [(size, "fast") for size in sizes], "cost").items():
        axes[0].plot([int(size) for size in sizes], [value or 0 for value in values], marker="o", label=name)
        axes[0].lines[-1].set_color(COLOURS.get(name, "#999999"))
    axes[0].set_title("CPU-µs for a delivered event")
    axes[0].set_xlabel("subscribers of one topic")
    axes[0].legend(frameon=False, fontsize=8)
    audiences = section(figures, "audiences")
    counts = [int(place[0]) for place in audiences]
    for kind, colour in (("topics", COLOURS["memory"]), ("patterns", COLOURS["lmdb"])):
        axes[1].plot(counts, [values[kind] for values in audiences.values()], marker="o", color=colour, label=kind)
    axes[1].legend(frameon=False, fontsize=8)
    axes[1].set_ylim(bottom=0)
    axes[1].set_title("CPU-µs for a publish, below the sockets")
    axes[1].set_xlabel("subscribers, each with a topic or a URL Pattern of its own")
    for each in axes:
        each.set_xscale("log")
