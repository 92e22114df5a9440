"""Group commit: what waits together goes out together, as far as one group may go.

While one group is under way the next one gathers. So a lone caller waits for nobody, and 64 that wait together cost a
store one commit, or a server one read.
"""

from asyncio import Future
from collections import deque
from typing import Any, Protocol, TypeVar

GROUP = 256
GROUP_BYTES = 8 << 20


class Waiting(Protocol):
    """A job, the future that its caller waits for, and its bytes."""

    @property
    def future(self) -> Future[Any]: ...
    @property
    def size(self) -> int: ...


J = TypeVar("J", bound=Waiting)


def next_group(waiting: deque[J]) -> list[J]:
    """Take the first of those who wait, in their order: at most `GROUP`, and none after `GROUP_BYTES`.

    A job whose future is done (cancelled, expired) is dropped.
    """
    group: list[J] = []
    size = 0
    while waiting and len(group) < GROUP and size < GROUP_BYTES:
        job = waiting.popleft()
        if not job.future.done():
            group.append(job)
            size += job.size
    return group


def settle(future: Future[Any], result: Any) -> None:
    """Deliver a result, or the exception that stands for it, to a caller that still waits."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
