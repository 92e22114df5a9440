"""Tables, for the terminal and for the documentation."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.bars import Figures, Verdict, judged
from bench.machine import description
from bench.run import Results

Row = Sequence[str]
Place = tuple[str, ...]

BARS_BEGIN, BARS_END = "<!-- bars: written by make bench -->", "<!-- /bars -->"
DIRECTORY = Path(__file__).parents[1] / "docs" / "performance"

TITLES = {
    "connect": "CPU-µs for a connection up to its response head: without a token, with a known one, with its own",
    "idle": "KiB for an idle connection: resident in the server, and in the kernel's TCP buffers (both ends)",
    "publish": "Publishing without subscribers: a second, CPU-µs for each, and milliseconds until the answer",
    "latency": "From publish to delivery at 40 updates a second, and at half of what a server can do: milliseconds",
    "clients": "The library's ways to publish, against a durable store: a second, CPU-µs of the program for each",
    "replay": "Replay: events a second from the store, to 1 and to 50 subscribers",
    "herd": "10,000 that come back 500 updates behind: seconds until the last is live, milliseconds meanwhile",
    "lag": "10,000 subscribers, 20 updates a second: milliseconds",
    "audiences": "CPU-µs for a publish below the sockets, by the number of private audiences",
    "scale": "Processes on one store, 80 updates a second: CPU-µs of all of them for an update",
    "stores": "The logs alone, 64 appends at a time, on the disk but Redis': appends a second, CPU-µs of the process"
    " and milliseconds for each, entries read a second, and milliseconds until a tail has one, also from SQL",
    "workers": "Workers on one lmdb directory, on all cores, which the load shares; 1,000 subscribers, 64 publishers",
}
COLUMNS = {
    "rate": "a second",
    "cost": "CPU-µs",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "max": "max ms",
    "answered": "publisher's p99 ms",
    "lag": "`live` p99",
    "lag_max": "`live` max",
    "event": "event p99",
    "publish": "publish p99",
    "resident": "resident",
    "sockets": "sockets",
}
FAN_OUT = ("subscribers", "updates", "server", "CPU-µs an event", "p50 ms", "p99 ms", "max ms", "events/s", "load", "")
FAN_OUT_TITLE = "Fan-out: CPU of the server for each delivered event, how late it comes, how busy the load generator is"


def number(value: float) -> str:
    """Three digits that count, no more."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(header: Row, rows: Iterable[Row]) -> str:
    """Markdown, aligned so that it can be read as it is."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = [_line(line, widths) for line in lines]
    return "\n".join([shown[0], _line(["-" * width for width in widths], widths), *shown[1:], ""])


def _line(cells: Row, widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def bars(figures: Figures) -> str:
    """Every row of what must hold."""
    return table(("what", "bar", "stretch", "measured", ""), map(_bar, judged(figures)))


def _bar(verdict: Verdict) -> Row:
    bar, value = verdict
    sign = "≥" if bar.least else "≤"
    measured = "" if value is None else f"{number(value)} {bar.unit}"
    return bar.text, f"{sign} {number(bar.bar)} {bar.unit}", number(bar.stretch), measured, verdict.word


def section(figures: Figures, name: str) -> Mapping[Place, dict[str, float]]:
    """A section's figures by their place, which is what stands between its name and what they came to."""
    found: dict[Place, dict[str, float]] = {}
    for figure, value in figures.items():
        first, *place, what = figure.split("/")
        if first == name:
            found.setdefault(tuple(place), {})[what] = value
    return found


def _fan_out(figures: Figures) -> Iterator[Row]:
    found = section(figures, "fanout")
    for place in sorted(found, key=lambda place: (int(place[1]), place[2] != "fast", place[2].zfill(4))):
        server, subscribers, pace = place
        sample = found[place]
        note = "" if sample["kept_up"] else "saturated"
        note = note if sample["complete"] else "**events are missing**"
        shown = [number(sample[what]) for what in ("cost", "p50", "p99", "max", "rate")]
        updates = "as fast as it goes" if pace == "fast" else f"{pace}/s"
        yield f"{int(subscribers):,}", updates, server, *shown, f"{sample['busy']:.0%}", note


def _plain(figures: Figures, name: str) -> str:
    """A section with a line for each place."""
    found = section(figures, name)
    columns = list(dict.fromkeys(what for values in found.values() for what in values))
    depth = len(next(iter(found)))
    header = [*[""] * depth, *[COLUMNS.get(what, what) for what in columns]]
    rows = [
        [*place, *(number(values[what]) if what in values else "" for what in columns)]
        for place, values in found.items()
    ]
    return table(header, rows)


def details(figures: Figures) -> str:
    """Every section that was measured."""
    parts = []
    if rows := list(_fan_out(figures)):
        parts += [FAN_OUT_TITLE, table(FAN_OUT, rows)]
    for name, title in TITLES.items():
        if section(figures, name):
            parts += [title, _plain(figures, name)]
    return "\n\n".join(parts)


def summary(results: Results) -> str:
    """All of it."""
    wrong = [f"**Failed**: {name}: {why}\n" for name, why in results.failed.items()]
    if results.missing:
        wrong.append(f"Not installed here, so not measured: {', '.join(results.missing)}\n")
    return "\n".join([details(results.figures), bars(results.figures), *wrong])


def write(results: Results) -> None:
    """``results.md`` and ``results.json`` for the documentation, and the bars into its page."""
    machine = description()
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    note = "Written by `make bench`; [what it means](../performance.md).\n"
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["# Results of one run\n", note, f"{where}\n", summary(results)])
    (DIRECTORY / "results.md").write_text(text)
    content = {"machine": machine, "figures": results.figures, "failed": results.failed}
    (DIRECTORY / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    page = DIRECTORY.with_suffix(".md")
    page.write_text(spliced(page.read_text(), f"{bars(results.figures)}\n{where}\n"))


def spliced(page: str, text: str) -> str:
    """The page with other bars between its markers."""
    begin, _, rest = page.partition(BARS_BEGIN)
    _, _, after = rest.partition(BARS_END)
    return f"{begin}{BARS_BEGIN}\n{text}{BARS_END}{after}"
