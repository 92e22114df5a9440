"""``python -m tests.simulation 1-2000``: plays seeds, and shows the shortest way in which one goes wrong."""

import argparse
import os
import sys
from collections import Counter
from time import monotonic

from tests.simulation.play import Outcome, outcomes
from tests.simulation.scenario import STORES, scenario_of
from tests.simulation.shrink import shrunk

SHOWN = 3
"""How many of the seeds that went wrong are shown."""
OFTEN = 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", help="a number, or the first and the last, as 1-2000")
    parser.add_argument("--store", choices=STORES, default="", help="this one, whatever the seed says")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--until", action="store_true", help="stop at the first that goes wrong, and do not shrink it")
    said = parser.parse_args()
    first, _, last = said.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began, played, steps, failed = monotonic(), 0, 0, list[Outcome]()
    for outcome in outcomes(scenario_of(seed, said.store) for seed in seeds):
        played, steps = played + 1, steps + outcome.steps
        if played % OFTEN == 0:
            print(f"{played} seeds, {steps} steps, {monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if said.trace:
            print("\n".join(outcome.told))
        if outcome.violations:
            failed.append(outcome)
            print(f"seed {outcome.seed}: {outcome.violations[0]}", flush=True)
            if said.until:
                return 1
    print(f"{played} seeds, {steps} steps, {monotonic() - began:.0f} s: {len(failed)} went wrong")
    kinds = Counter(each.rule for outcome in failed for each in outcome.violations)
    if kinds:
        print(", ".join(f"{rule} {count}" for rule, count in kinds.most_common()))
    for outcome in failed[:SHOWN]:
        print(shrunk(scenario_of(outcome.seed, said.store), outcome))
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
