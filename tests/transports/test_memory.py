"""What the ring in memory promises beyond the contract: a bound in bytes."""

from pathlib import Path

import pytest

from transports import HistoryTrimmed
from transports.memory import ENTRY, LARGEST_DEFAULT, MemoryTransport, default_max_bytes
from transports.testing.suite import an_update, ids


async def test_history_is_bounded_in_bytes() -> None:
    """The oldest go until the rest fits, with all that names them; the newest stays, however large it is."""
    transport = MemoryTransport("memory://?max_bytes=1MB")
    await transport.open()
    for number in range(300):
        await transport.append(an_update(number, data="x" * 100_000, idempotency_key=str(number)))
    entries = await transport.read(0, 1000)
    assert ids(entries) == [f"urn:uuid:{number}" for number in range(300 - len(entries), 300)]
    assert len(entries) == 1_000_000 // (100_000 + ENTRY + 500)
    assert await transport.position_of("urn:uuid:0") is None
    assert not (await transport.append(an_update("again", idempotency_key="0"))).repeated
    with pytest.raises(HistoryTrimmed):
        await transport.read(10, 10)
    await transport.append(an_update("large", data="x" * 5_000_000))
    assert ids(await transport.read(0, 1000)) == ["urn:uuid:large"]
    for number in range(20):
        await transport.append(an_update(f"after {number}"))
    assert len(await transport.read(0, 1000)) == 20
    assert 20 * ENTRY < transport._bytes < 20 * 2 * ENTRY
    await transport.close()


async def test_both_bounds_hold() -> None:
    """By number and by bytes, in whatever order the sizes come, and around the ring many times."""
    transport = MemoryTransport("memory://?size=7&max_bytes=20kB")
    await transport.open()
    for number in range(200):
        await transport.append(an_update(number, data="x" * (number * 37 % 9000)))
        entries = await transport.read(0, 1000)
        assert 1 <= len(entries) <= 7
        assert [entry.position for entry in entries] == list(range(number + 2 - len(entries), number + 2))
        assert len(entries) == 1 or transport._bytes <= 20_000
        assert await transport.last() == (number + 1, f"urn:uuid:{number}")
    await transport.close()


def test_the_default_is_a_part_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the container's limit or of the machine's memory, whichever is less, and never more than 256 MiB."""
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("transports.memory.CGROUPS", (str(tmp_path / "none"), str(limit)))
    assert 0 < default_max_bytes() <= LARGEST_DEFAULT
    limit.write_text("134217728\n")
    assert default_max_bytes() == 13_421_772
    limit.write_text("max\n")
    assert default_max_bytes() > 13_421_772
