"""Lines to a store: what waits goes out together, and nobody is forgotten."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from transports import TransportError, TransportUnavailable
from transports.grouping import Told
from transports.line import Line


class Job(NamedTuple):
    future: Told[Any]
    size: int = 1


class Failing(Line[Job]):
    """Fails so many groups, then answers."""

    _outside = (ZeroDivisionError,)
    failures = 1

    async def _do(self, group: list[Job]) -> Sequence[Any]:
        self.failures -= 1
        if self.failures >= 0:
            raise ZeroDivisionError
        return ["done"] * len(group)

    async def _drop(self) -> None: ...

    def _translated(self, error: BaseException) -> TransportError:
        return TransportUnavailable(repr(error))


async def test_who_puts_the_next_job_when_told_of_a_failure_is_answered() -> None:
    """A publisher's next request, which waited behind the one that failed, is put while all who wait are told."""
    line, answers = Failing(1.0), list[Any]()

    def again(answer: Any) -> None:
        answers.append(answer)
        line.put(Job(Told(answers.append)))

    line.put(Job(Told(again)))
    async with asyncio.timeout(5):
        while len(answers) < 2:
            await asyncio.sleep(0)
    assert isinstance(answers[0], TransportUnavailable)
    assert answers[1] == "done"
    await line.finish()
