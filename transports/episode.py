"""What is wrong is told in the log without filling it: when it begins and when it is over, or once in a while."""

import logging
import time
from collections.abc import Sequence


class Episode:
    """``reason``: what is wrong now; empty while nothing is."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.reason = ""

    def begin(self, reason: str) -> None:
        """Or go on, for the first reason."""
        if not self.reason:
            self.reason = reason
            self._logger.error("%s", reason)

    def end(self, sentence: str) -> None:
        """Nothing happens where nothing was wrong."""
        if self.reason:
            self.reason = ""
            self._logger.warning("%s", sentence)


CLOCKS = 5.0
"""Seconds that two clocks may differ before it is worth a word."""


def clocks_apart(seconds: float) -> Sequence[str]:
    """What an operator should know when the server's clock is so far ahead of this machine's."""
    if abs(seconds) < CLOCKS:
        return ()
    where = "ahead of" if seconds > 0 else "behind"
    return [f"the server's clock is {abs(seconds):.0f} s {where} this machine's, and ttl= counts by it"]


class Seldom:
    """For what happens again and again: `due` once in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._quiet_until = 0.0

    def due(self) -> bool:
        """Whether to tell it now; not again before the time is over."""
        now = time.monotonic()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + self._seconds
        return True
