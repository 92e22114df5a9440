"""Tables, for the terminal and for the documentation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.bars import Figures, Verdict, judged
from bench.run import Results

Row = Sequence[str]


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
    return table(("what", "bar", "stretch", "measured", ""), map(_bar, judged(figures)))


def _bar(verdict: Verdict) -> Row:
    bar, value = verdict
    sign = "≥" if bar.least else "≤"
    measured = "" if value is None else f"{number(value)} {bar.unit}"
    return bar.text, f"{sign} {number(bar.bar)} {bar.unit}", number(bar.stretch), measured, verdict.word


def named(figures: Figures, section: str) -> Mapping[tuple[str, ...], dict[str, float]]:
    """The figures of a section: their places without its name and without what they came to, and that."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for name, value in figures.items():
        first, *place, what = name.split("/")
        if first == section:
            found.setdefault(tuple(place), {})[what] = value
    return found


def fan_out(figures: Figures) -> Iterator[Row]:
    for (server, subscribers, pace), found in named(figures, "fanout").items():
        updates = "as fast as it goes" if pace == "fast" else f"{pace}/s"
        note = "" if found["kept_up"] else "saturated"
        note = note if found["complete"] else "**events are missing**"
        times = [number(found[what]) for what in ("p50", "p99", "max")]
        yield f"{int(subscribers):,}", updates, server, number(found["cost"]), *times, number(found["rate"]), note


FAN_OUT = ("subscribers", "updates", "server", "CPU-µs an event", "p50 ms", "p99 ms", "max ms", "events/s", "")


def plain(figures: Figures, section: str) -> Iterator[Row]:
    """Each figure of a section on a line."""
    for name, value in figures.items():
        if name.startswith(f"{section}/"):
            yield name.partition("/")[2], number(value)


def summary(results: Results) -> str:
    """All of it."""
    figures = results.figures
    parts = [table(FAN_OUT, sorted(fan_out(figures), key=lambda row: (int(row[0].replace(",", "")), row[1])))]
    others = dict.fromkeys(name.partition("/")[0] for name in figures if not name.startswith("fanout/"))
    parts += [table((section, "value"), plain(figures, section)) for section in others]
    parts.append(bars(figures))
    parts += [f"**Failed**: {section}: {why}\n" for section, why in results.failed.items()]
    return "\n".join(parts)
