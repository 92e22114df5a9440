"""Why somebody was refused, told to the operator: one line for each reason and client a second, then a count."""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from hub.observe.counts import Counts, Role
from hub.problems import Problem, Reason

QUIET = 1.0
"""Seconds between two lines about the same reason and client."""
MAX_CLIENTS = 1024
"""Reasons and clients that are remembered; of others a line is written each time."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Line:
    until: float
    since: int = 0


@dataclass
class Refusals:
    """``tell_client``: whether the client is told the operator's sentence; for development alone."""

    counts: Counts
    tell_client: bool = False
    _written: OrderedDict[tuple[Reason, Role, str], _Line] = field(default_factory=OrderedDict)

    def tell(self, problem: Problem, role: Role, client: str) -> None:
        """Count it, and write a line, unless one like it was written within a second."""
        refusal = problem.refusal
        if refusal is None:
            return
        self.counts.refused(role, refusal.reason)
        if self.tell_client and refusal.sentence not in problem.detail:
            problem.detail = f"{problem.detail}: {refusal.sentence}"
        about, now = (refusal.reason, role, client), time.monotonic()
        line = self._written.get(about)
        if line is not None and now < line.until:
            line.since += 1
            return
        self._written[about] = _Line(now + QUIET)
        self._written.move_to_end(about)
        if len(self._written) > MAX_CLIENTS:
            self._written.popitem(last=False)
        facts = "".join(f", {name} {value}" for name, value in refusal.facts.items())
        before = f" ({line.since} times more before)" if line and line.since else ""
        logger.info("refused %s %s: %s: %s%s%s", role, client, refusal.reason, refusal.sentence, facts, before)

    def flush(self) -> None:
        """Write the counts whose second is over, and forget those about whom there is nothing to say."""
        now = time.monotonic()
        for (reason, role, client), line in [*self._written.items()]:
            if now >= line.until:
                del self._written[reason, role, client]
                if line.since:
                    logger.info("refused %s %s: %s, %d times more", role, client, reason, line.since)
