"""What `serve` would meet: its addresses, its certificate, its keys, its store; each looked at as serve does."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from hub.auth.keys import InvalidKey
from hub.auth.sources import rings_of
from hub.config.settings import DEV_KEY, Settings
from hub.config.sources import InvalidSetting
from hub.server.server import certificate_for
from hub.server.sockets import listeners_of
from hub.server.workers import demand_shared
from transports import InvalidTransport, TransportError, open_transport


class Finding(NamedTuple):
    """``code``: 0 where nothing is wrong, else the exit code that serve would end with."""

    sentence: str
    code: int = 0


async def findings(settings: Settings) -> list[Finding]:
    """Everything that was looked at, whatever else is wrong."""
    return [*_addresses(settings), *(await _keys(settings)), *(await _store(settings))]


def _addresses(settings: Settings) -> Iterator[Finding]:
    try:
        certificate_for(settings)
        listeners = listeners_of(settings)
    except (InvalidSetting, OSError) as error:
        yield Finding(str(error), 2)
        return
    for each in listeners:
        each.close()
    yield Finding("addresses: free")


async def _keys(settings: Settings) -> list[Finding]:
    try:
        rings = rings_of(settings)
    except InvalidKey as error:
        return [Finding(f"keys: {error}", 2)]
    await asyncio.gather(*(each.fetch() for each in rings.remote))
    found = [Finding(f"keys at {each.url}: {len(each.keys)}", 0 if each.keys else 2) for each in rings.remote]
    for role, ring in (("publishers", rings.publisher), ("subscribers", rings.subscriber)):
        shown = ", ".join(f"{each.algorithm}{', so short that it can be guessed' * each.weak}" for each in ring.keys)
        found.append(Finding(f"keys of {role}: {shown or 'none'}"))
    if DEV_KEY in (settings.publisher_jwt_key, settings.subscriber_jwt_key):
        found.append(Finding("the documentation's key is set, which everybody knows"))
    return found


async def _store(settings: Settings) -> list[Finding]:
    try:
        transport = open_transport(settings.transport_url)
        demand_shared(transport, settings.workers)
        try:
            await transport.open()
            await transport.check()
            newest = (await transport.last())[1]
            remarks = await transport.remarks()
        finally:
            await transport.close()
    except InvalidTransport as error:
        remedy = f"\nWhoever may change it gives what is missing:\n\n{error.remedy}" if error.remedy else ""
        return [Finding(f"store: {error}{remedy}", 2)]
    except TransportError as error:
        return [Finding(f"store: {error}", 1)]
    return [*(Finding(f"store: {each}") for each in remarks), Finding(f"store: ok, its newest event is {newest}")]
