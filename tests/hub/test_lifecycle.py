"""Every move that a process may make, and none else."""

import asyncio
from itertools import product

import pytest

from hub.lifecycle import MOVES, Lifecycle, State

WAY = {
    State.OPENING: [],
    State.STORING: [State.STORING],
    State.SERVING: [State.STORING, State.SERVING],
    State.DRAINING: [State.DRAINING],
}
"""How each state is reached."""


def at(state: State) -> Lifecycle:
    lifecycle = Lifecycle()
    for each in WAY[state]:
        lifecycle.move(each)
    return lifecycle


@pytest.mark.parametrize(("begin", "end"), list(product(State, State)))
async def test_only_the_moves_of_the_table(begin: State, end: State) -> None:
    """A move that is not there is an assertion, and changes nothing."""
    lifecycle = at(begin)
    if end in MOVES[begin]:
        lifecycle.move(end)
        assert lifecycle.state is end
    else:
        with pytest.raises(AssertionError, match=f"from {begin.name} to {end.name}"):
            lifecycle.move(end)
        assert lifecycle.state is begin


@pytest.mark.parametrize("state", State)
async def test_the_end_may_begin_anywhere(state: State) -> None:
    """Once, however often it is asked; held requests are released, and not served."""
    lifecycle = at(state)
    waiting = asyncio.ensure_future(lifecycle.wait_until_serving(None))
    await asyncio.sleep(0)
    lifecycle.drain()
    lifecycle.drain()
    assert (lifecycle.draining, lifecycle.serving) == (True, False)
    assert await waiting is False


async def test_who_waits_for_a_state_is_let_go_when_it_is_reached() -> None:
    """Publishers once the store is ours, subscribers once everybody is served."""
    lifecycle = Lifecycle()
    storing = asyncio.ensure_future(lifecycle.wait_until_storing(None, 60))
    serving = asyncio.ensure_future(lifecycle.wait_until_serving(None))
    await asyncio.sleep(0)
    assert not lifecycle.holds_store
    lifecycle.move(State.STORING)
    await storing
    assert lifecycle.holds_store
    assert not serving.done()
    lifecycle.move(State.SERVING)
    assert await serving is True
