"""The table in docs/rolling-updates.md, and a picture for each row."""

import re
from collections.abc import Iterator, Sequence

from tests.swarm.figures import Figures, figures
from tests.swarm.images import ROOT
from tests.swarm.measure import Run
from tests.swarm.picture import picture

PAGE = ROOT / "docs/rolling-updates.md"
FOLDER = ROOT / "docs/rolling-updates"
BETWEEN = re.compile(r"(?<=<!-- measured: make test-swarm -->\n).*?(?=<!-- end -->)", re.DOTALL)
COLUMNS = (
    "strategy",
    "the update's end",
    "publish gap",
    "one publisher's longest wait",
    "acknowledged, lost",
    "duplicates",
    "streams ended, cut",
    "longest without a stream",
    "subscribers cut off for good",
    "time to finish",
)


def write(runs: Sequence[Run]) -> None:
    """Replace the table, and all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for run in runs:
        (FOLDER / f"{run.strategy.name}.svg").write_text(picture(run))
    PAGE.write_text(BETWEEN.sub(lambda _: table(runs), PAGE.read_text()))


def table(runs: Sequence[Run]) -> str:
    return "\n".join(["", *_rows(runs), "", ""])


def _rows(runs: Sequence[Run]) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for run in runs:
        yield f"| {' | '.join(_cells(run, figures(run)))} |"


def _cells(run: Run, found: Figures) -> Iterator[str]:
    name = run.strategy.name
    yield f"[{run.strategy.title}](rolling-updates/{name}.svg)"
    yield _end(run, found)
    yield _seconds(found.gap)
    yield _seconds(found.one)
    yield f"{found.acknowledged}, **{found.lost}**"
    yield str(found.twice + found.stored_twice)
    yield f"{found.streams}, {found.unclean}"
    yield _seconds(found.back)
    yield str(found.cut_off)
    yield f"{found.finished:.0f} s"


def _end(run: Run, found: Figures) -> str:
    said = re.search(r"(mercure-hub: .*invalid .*)$", run.log, re.MULTILINE)
    state = "no update" if found.state == "-" else f"`{found.state}`"
    return f"{state}: `{said[1].strip()}`" if said and found.state != "completed" else state


def _seconds(time: float) -> str:
    return "for good" if time == float("inf") else f"{time:.1f} s" if time >= 1 else f"{time * 1000:.0f} ms"
