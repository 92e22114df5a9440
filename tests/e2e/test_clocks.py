"""Hubs whose wall clock is set while they work. What they measure time with, and the store's own clock, goes on."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.processes import (
    Hubs,
    Publisher,
    check_order,
    receipts_of,
    replay,
    running,
    subscribed,
    survived,
    until,
)
from tests.e2e.stores import STORES
from tests.needs import needs

LIBRARIES = "/usr/lib"
JUMPS = (3600, -3600, -7200, 0)
"""Seconds by which the clock is wrong, one after another."""


def faketime() -> Path:
    """The library that lies to a process about the time."""
    return next(Path(LIBRARIES).glob("*/faketime/libfaketimeMT.so.1"))


@pytest.mark.parametrize("kind", ["memory", "lmdb", *STORES])
async def test_clocks_that_jump(hubs: Hubs, tmp_path: Path, kind: str) -> None:
    """Hours forwards and back under load: no stream ends, and everything comes once and in order."""
    needs("faketime")
    library = faketime()
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with ExitStack() as stack:
        url = stack.enter_context(STORES[kind]()).url() if kind in STORES else f"{kind}://"
        hub = hubs.start(f"{url}store" if kind == "lmdb" else url, "--heartbeat", "200ms", environment=environment)
        address = await hub.listening()
        publishers = [Publisher(f"publisher {n}", [address]) for n in range(4)]
        async with subscribed(8, [address]) as witnesses, running(*(each.publish() for each in publishers)):
            for wrong in JUMPS:
                before = len(receipts_of(publishers))
                # Renamed into place: the library may read it at any moment.
                (tmp_path / "next").write_text(f"{wrong:+d}")
                (tmp_path / "next").rename(clock)
                await until(lambda: len(receipts_of(publishers)) > before + 50)  # noqa: B023 - awaited in the loop
            known = receipts_of(publishers)
            history = await replay(address, known)
            await until(lambda: all(len(each.events) >= len(history) for each in witnesses))
        check_order(history, known)
        for each in witnesses:
            first = history.index(each.events[0])
            assert each.events[: len(history) - first] == history[first:]
            assert each.ends == []
        assert hub.stderr == ""
    survived(f"{kind}: {len(JUMPS)} jumps, {len(known)} updates, no stream ended")
