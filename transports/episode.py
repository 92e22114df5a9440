"""What is wrong is told in the log without filling it: when it begins and when it is over, or once in a while."""

import logging
import time


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
