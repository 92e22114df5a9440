"""``SIGHUP``: keys, secrets in files, JWK Sets and certificates are read again, all of them or none."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.auth.keys import InvalidKey
from hub.config.settings import Settings
from hub.config.sources import InvalidSetting
from hub.server.tls import Certificate
from hub.web.hub import Hub

Reread = Callable[[], Settings]
"""The settings as flags, variables and files have them now. Raises `InvalidSetting`."""

logger = logging.getLogger(__name__)


@dataclass
class Reload:
    """One process's. Of the settings themselves only keys and certificates count; the others need a restart."""

    hub: Hub
    reread: Reread
    certificate: Certificate | None
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> None:
        """Do it, one after another. What fails is one line in the log, and everything stays as it is."""
        async with self._one:
            try:
                settings = self.reread()
                if self.certificate is not None:
                    self.certificate.check(settings)
                await self.hub.reload(settings)
                if self.certificate is not None:
                    self.certificate.use(settings)
            except (InvalidSetting, InvalidKey) as error:
                refuse(error)


def refuse(error: Exception) -> None:
    """Say that nothing has changed, and why."""
    logger.error("nothing was read again, keys and certificates stay as they are: %s", error)
