"""What the metrics cost a publish: the hub beside one that counts nothing, in turn."""

import sys
from pathlib import Path

from bench.publishing import Publishing, compare
from bench.servers import KEY, Kind, mercure

UNCOUNTED = """
from hub.observe import counts
nothing = lambda *_: None
for name in ("opened", "ended", "failed"):
    setattr(counts.Counts, name, nothing)
counts.Histogram.observe = nothing
from hub.cli.commands import main
main()
"""
COUNTED = "from hub.cli.commands import main; main()"
PUBLISHERS = 64


def started_by(name: str, program: str) -> Kind:
    """``mercure-hub serve`` on ``memory://``, started by a program of ours."""

    def command(port: int, _folder: Path) -> list[str | Path]:
        flags = ["--log-level", "warning", "--listen", f"127.0.0.1:{port}", "--transport-url", "memory://"]
        return [sys.executable, "-c", program, "serve", *flags]

    environment = {"MERCURE_PUBLISHER_JWT_KEY": KEY, "MERCURE_SUBSCRIBER_JWT_KEY": KEY, "MERCURE_ANONYMOUS": "1"}
    return Kind(name, command, lambda: mercure().client(), environment)


def compared(restarts: int, repetitions: int) -> dict[str, Publishing]:
    """With metrics (``counted``) and without: the medians of one pair of processes.

    Where a process has its memory makes it some percent faster or slower than its like. So there are several pairs, and
    it is the one in the middle, by what the counting costs it.
    """
    kinds = [started_by("counted", COUNTED), started_by("uncounted", UNCOUNTED)]
    pairs = [compare(kinds, [PUBLISHERS], repetitions, piece=0.2) for _ in range(restarts)]
    pairs.sort(key=lambda pair: pair["counted", PUBLISHERS].cost / pair["uncounted", PUBLISHERS].cost)
    return {name: found for (name, _), found in pairs[restarts // 2].items()}
