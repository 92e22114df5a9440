"""What one hub does for all: what transactions have published goes to the log, and the index of topics is filled.

Theory of operation. ``mercure.publish`` writes a row to the outbox within whatever transaction calls it, and takes no
lock: NOTIFY would make all commits of the server that publish wait for each other, so nobody is told, and the hub
looks each `LOOK` seconds. Of all hubs one looks, the one whose session holds an advisory lock; when it dies, the server
ends its session, and another one has the lock within `SELDOM` seconds. That lock only saves work: what is moved is
moved in one transaction, under the log's own lock, by whoever does it. Where nothing was ever published that way the
hub looks each `SELDOM` seconds.
"""

import asyncio
import logging
import time
from typing import Any

from transports.contract import TransportClosed, TransportUnavailable
from transports.postgres.index import Filling
from transports.postgres.lines import Questions, Trim
from transports.postgres.schema import named

LOOK = 0.02
SELDOM = 1.0

LEAD = "SELECT pg_try_advisory_lock(hashtextextended('mercure.outbox', 0))"
USED = "SELECT is_called FROM mercure.outbox_number_seq"
MOVE = "SELECT moved, oldest FROM mercure.move($1, $2, $3)"

logger = logging.getLogger(__name__)


class Leading(Questions):
    """A connection whose session may hold the lock of the one that moves."""

    leads = False

    async def _begin(self, connection: Any) -> None:
        self.leads = False

    async def lead(self, schema: str) -> bool:
        """Whether this process is the one, as far as its connection is still that of the last question."""
        if not self.leads:
            self.leads = await self.value(named(LEAD, schema))
        return self.leads


async def lead(line: Leading, schema: str, trim: Trim, index: Filling) -> None:
    """Until the line is closed. An outage is waited out; the dispatcher, which meets it as well, tells of it."""
    leads, used, oldest, look_at = False, False, 0, 0.0
    while True:
        try:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + SELDOM
                leads = await line.lead(schema)
                used = used or await line.value(named(USED, schema))
                await index.look(line)
                if leads:
                    await index.fill(line)
            moved = 0
            if leads and used:
                ((moved, left),) = await line.ask(named(MOVE, schema), *trim, oldest)
                oldest = left or oldest
            await asyncio.sleep(0 if moved else LOOK if leads and used else SELDOM)
        except TransportClosed:
            return
        except TransportUnavailable as error:
            logger.debug("the outbox waits: %s", error)
            await asyncio.sleep(SELDOM)
