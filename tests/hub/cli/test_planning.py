"""The model of docs/scale.md: what it says grows with what it is asked, and it says where it ends."""

import pytest

from hub.cli.planning import BUSY, COSTS, Load, lines, plan

SMALL = Load(1000, 1, 500, 1.0)


@pytest.mark.parametrize("store", ["lmdb", "redis"])
def test_more_takes_more(store: str) -> None:
    """Twice the subscribers or the updates never take fewer processes, and each stays as busy as was allowed."""
    before = 0
    for factor in (1, 2, 4, 8, 16, 32, 64):
        made = plan(SMALL._replace(subscribers=1000 * factor, updates=factor), COSTS[store])
        assert made.processes is not None
        assert made.processes >= before
        assert sum(made.busy.values()) <= BUSY + 1e-9
        before = made.processes
    assert before > 10


def test_where_it_ends() -> None:
    """Where following the log takes all that a process may be busy, and where memory needs a second process."""
    costs = COSTS["redis"]
    most = BUSY * 1e6 / costs.follow
    assert plan(Load(1, most * 1.01, 0, 0.0), costs).processes is None
    assert plan(Load(1, most * 0.3, 0, 0.0), costs).processes is not None
    assert plan(Load(100_000, 100, 0, 1.0), COSTS["memory"]).processes is None
    assert lines(plan(Load(1, most * 1.01, 0, 0.0), costs), BUSY)[0].startswith("no number of processes")


def test_a_faster_core_takes_fewer() -> None:
    """In proportion."""
    load = Load(100_000, 20, 500, 1.0)
    slow, fast = (plan(load, COSTS["redis"], speed=speed).processes for speed in (1.0, 2.0))
    assert slow is not None
    assert fast is not None
    assert slow == pytest.approx(2 * fast, abs=1)
