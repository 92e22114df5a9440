"""An application of the operator's own on the hub's port: found, started and ended as uvicorn does."""

from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.lifespan.on import LifespanOn

from hub.config.sources import InvalidSetting


class Beside:
    """``name``: its module and object. Raises `InvalidSetting`: it is not there. What its module raises comes out."""

    def __init__(self, name: str) -> None:
        try:
            self.asgi = cast("ASGIApp", import_from_string(name))
        except ImportFromStringError as error:
            raise InvalidSetting(f"--app: {error}") from None
        self._lifespan = LifespanOn(uvicorn.Config(self.asgi, lifespan="auto", log_config=None))

    async def start(self) -> bool:
        """Its lifespan begins; False: it has failed, and the log says why."""
        await self._lifespan.startup()
        return not self._lifespan.should_exit

    async def end(self) -> None:
        """Its lifespan ends."""
        await self._lifespan.shutdown()
