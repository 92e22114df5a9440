"""A few worlds of each store in every run of the tests; `make simulate` plays thousands."""

import re
import subprocess
import sys

from tests.simulation.mutants import MUTANTS, ROOT, planted
from tests.simulation.scenario import STORES, scenario_of

SEEDS = 24


def simulated(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_nothing_goes_wrong() -> None:
    """Whatever the first seeds do to hubs, on each kind of store, nothing that was promised is broken."""
    assert {scenario_of(seed).store for seed in range(1, SEEDS + 1)} == set(STORES)
    played = simulated(f"1-{SEEDS}")
    assert played.returncode == 0, played.stdout + played.stderr


def test_a_seed_is_always_the_same_world() -> None:
    """What went wrong once goes wrong again, callback by callback, whatever was played before in the same process."""
    alone, *others = (simulated(seeds, "--store", "redis", "--trace").stdout for seeds in ("3", "3", "1-3"))
    told = alone.splitlines()[:-1]
    assert len(told) > 20
    for other in others:
        assert other.splitlines()[:-1][-len(told) :] == told


def test_seeds_differ() -> None:
    """They come to all stores, and do different things there."""
    scenarios = [scenario_of(seed) for seed in range(200)]
    assert {each.store for each in scenarios} == set(STORES)
    assert len({each.events for each in scenarios}) == 200


def test_each_planted_bug_still_has_its_place() -> None:
    """What it replaces stands once in the product; `make mutants` looks how soon each is found."""
    for mutant in MUTANTS:
        text = (ROOT / mutant.path).read_text()
        assert mutant.mutated(text) != text


def test_what_goes_wrong_is_shrunk() -> None:
    """A planted bug is found by its rule; what is shown is less than the scenario was, and still breaks it."""
    (mutant,) = (each for each in MUTANTS if each.what.startswith("private updates"))
    with planted(mutant) as simulated:
        with simulated("1-100", "--until") as looking:
            found = re.match(r"seed (\d+): stranger: ", looking.communicate()[0])
        assert found
        with simulated(found[1]) as playing:
            said, _ = playing.communicate()
    assert playing.returncode == 1
    shown = said.partition(f"\n\nseed {found[1]}: ")[2]
    events = re.findall(r"^ *\d+\.\d{3} \w+\(", shown, re.MULTILINE)
    assert 1 <= len(events) < len(scenario_of(int(found[1])).events)
    assert re.search(r"^stranger: ", shown, re.MULTILINE)
