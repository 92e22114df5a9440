"""A time line of one row as SVG: each container's life, its lock, what it served; what nobody served in red."""

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from tests.swarm.measure import Run
from tests.swarm.witness import Container

WIDTH, LEFT, LANE, TOP = 920, 150, 62, 64
GAP = 0.25
"""Seconds without a 2xx from which on it is drawn."""
SAID = 1.0
"""Seconds from which on there is room to say how long."""
STEP = 0.1
COLOURS = {
    "runs": "#dfe3e8",
    "holds the lock": "#3b6fb6",
    "answers publishes": "#2e8b57",
    "has subscribers": "#b58bd6",
    "nobody does": "#d62828",
}


class Scale:
    """From the host's clock to pixels. 0 is where the first act begins."""

    def __init__(self, run: Run) -> None:
        self.zero = run.acts[0][0]
        self.begin = self.zero - 2
        self.end = max(until for _, until, *_ in run.acts) + 3

    def x(self, when: float) -> float:
        inside = min(max(when, self.begin), self.end)
        return LEFT + (inside - self.begin) / (self.end - self.begin) * (WIDTH - LEFT - 10)


def picture(run: Run) -> str:
    scale = Scale(run)
    seen = [each for each in run.containers if each.states and _life(each, scale)[1] >= scale.begin]
    height = TOP + LANE * len(seen) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="16" font-size="13" font-weight="bold">{escape(run.strategy.title.replace("`", ""))}</text>',
        *_legend(),
        *_axis(scale, height),
        *_gaps(run, scale, height),
        *(part for number, each in enumerate(seen) for part in _lane(run, scale, each, TOP + 8 + number * LANE)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend() -> Iterator[str]:
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 145
        yield f'<rect x="{x}" y="26" width="12" height="10" fill="{colour}"/><text x="{x + 16}" y="35">{name}</text>'


def _axis(scale: Scale, height: int) -> Iterator[str]:
    span = scale.end - scale.begin
    step = 5 if span < 60 else 10
    for second in range(0, int(scale.end - scale.zero) + 1, step):
        x = scale.x(scale.zero + second)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 24}" stroke="#eee"/>'
        yield f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" fill="#555">{second} s</text>'


def _gaps(run: Run, scale: Scale, height: int) -> Iterator[str]:
    for what_begins, _, what, _ in run.acts:
        x, bottom = scale.x(what_begins), height - 24
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="#555" stroke-dasharray="3 3"/>'
        yield f'<text x="{x + 3:.1f}" y="{TOP - 8}" fill="#555">{escape(what)}</text>'
    answered = sorted(entry["answered"] for entry in run.load["ledger"])
    for earlier, later in pairwise(answered):
        if later - earlier > GAP and later > scale.begin:
            yield _bar(scale, earlier, later, TOP, height - 24 - TOP, COLOURS["nobody does"], 0.35)
        if later - earlier > SAID and later > scale.begin:
            middle = scale.x((earlier + later) / 2)
            yield (
                f'<text x="{middle:.1f}" y="{height - 28}" text-anchor="middle" fill="{COLOURS["nobody does"]}">'
                f"{later - earlier:.1f} s</text>"
            )


def _lane(run: Run, scale: Scale, one: Container, y: int) -> Iterator[str]:
    begun, ended = _life(one, scale)
    yield f'<text x="10" y="{y + 16}">{escape(one.name.rpartition(".")[0] or one.name)}</text>'
    yield f'<text x="10" y="{y + 30}" fill="#555">{escape(one.image)}</text>'
    yield _bar(scale, begun, ended, y, LANE - 14, COLOURS["runs"])
    for held in one.held:
        yield _bar(scale, *held, y, 8, COLOURS["holds the lock"])
    served = Counter(int(each["answered"] / STEP) for each in run.load["ledger"] if each["address"] == one.address)
    most = max(served.values(), default=1)
    for slot, count in served.items():
        if scale.begin < slot * STEP < scale.end:
            high = 16 * count / most
            yield _bar(scale, slot * STEP, (slot + 1) * STEP, y + 26 - high, high, COLOURS["answers publishes"])
    yield from _subscribers(run, scale, one, y + LANE - 14)
    for when, state in one.states:
        if state.startswith(("signal", "exit", "health_status: healthy")) and scale.begin <= when <= scale.end:
            x = scale.x(when)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + LANE - 14}" stroke="#222"/>'
            said = {"signal 15": "SIGTERM", "signal 9": "SIGKILL"}.get(state, state.rpartition(": ")[2])
            below = y + LANE - 4 if not said.startswith("exit") else y + LANE - 34  # it may follow SIGTERM closely
            yield f'<text x="{x + 2:.1f}" y="{below}" font-size="9">{escape(said)}</text>'


def _subscribers(run: Run, scale: Scale, one: Container, base: int) -> Iterator[str]:
    open_ = [
        (connection["opened"], connection["closed"])
        for each in run.load["subscribers"] + run.load["idle"]
        for connection in each["connections"]
        if connection["address"] == one.address
    ]
    if not open_:
        return
    points, most = [], max(1, len(run.load["subscribers"]) + len(run.load["idle"]))
    slots = int((scale.end - scale.begin) / STEP)
    for slot in range(slots + 1):
        when = scale.begin + slot * STEP
        count = sum(begun <= when < ended for begun, ended in open_)
        points.append(f"{scale.x(when):.1f},{base - 18 * count / most:.1f}")
    corners = [f"{scale.x(scale.begin):.1f},{base}", *points, f"{scale.x(scale.end):.1f},{base}"]
    yield f'<polygon points="{" ".join(_without_repeats(corners))}" fill="{COLOURS["has subscribers"]}"/>'


def _without_repeats(points: Sequence[str]) -> list[str]:
    """Without those in the middle of a level stretch."""
    heights = [each.partition(",")[2] for each in points]
    ends = {0, len(points) - 1}
    return [
        each
        for number, each in enumerate(points)
        if number in ends or not heights[number - 1] == heights[number] == heights[number + 1]
    ]


def _life(one: Container, scale: Scale) -> tuple[float, float]:
    begun = one.at("start") or scale.begin
    ended = next((when for when, state in one.states if state.startswith("exit")), scale.end)
    return begun, ended


def _bar(scale: Scale, begun: float, ended: float, y: float, high: float, colour: str, opacity: float = 1) -> str:
    x, wide = scale.x(begun), max(0.5, scale.x(ended) - scale.x(begun))
    shade = "" if opacity == 1 else f' opacity="{opacity}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{colour}"{shade}/>'
