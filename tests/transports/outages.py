"""What tests ask of a log whose server comes and goes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import pytest

from transports import Entry, InvalidTransport, Receipt, Transport, TransportUnavailable, open_transport
from transports.testing.suite import DEADLINE, an_update

Opened = Callable[[str], Awaitable[Transport]]


async def next_batch(transport: Transport, after: int) -> Sequence[Entry]:
    async with asyncio.timeout(DEADLINE), aclosing(transport.tail(after)) as tail:  # type: ignore[type-var]
        return await anext(tail)


async def refused(url: str) -> str:
    transport = open_transport(url)
    with pytest.raises(InvalidTransport) as caught:
        await transport.open()
    await transport.close()
    return str(caught.value)


async def unavailable(use: Awaitable[object]) -> TransportUnavailable:
    """What is raised, in less than twice the 2.5 seconds that a transport waits for its server."""
    with pytest.raises(TransportUnavailable) as caught:
        async with asyncio.timeout(4.5):
            await use
    return caught.value


async def recovered(transport: Transport, within: float = 1.0) -> Receipt:
    """So many seconds later an append has gone through."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await transport.append(an_update("back"))
            except TransportUnavailable:
                await asyncio.sleep(0.01)
