"""The hub as an ASGI application: what comes before the router, and what goes past ASGI altogether."""

import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.auth.authorization import GRANTED
from hub.auth.grants import Grants
from hub.fanout.wire import Direct
from hub.generations import PATH
from hub.problems import Problem
from hub.web.limits import crowded
from hub.web.metadata import METADATA_PATH
from hub.web.repeats import Repeats

logger = logging.getLogger(__name__)

_OF_THE_HUB = (PATH, METADATA_PATH)
"""Beginnings of the paths that are the protocol's: a probe may ask for the others under any name."""


Authorize = Callable[[HTTPConnection], Awaitable[Grants | None]]
"""What a request may do by the word of the application that the hub is a part of; None: by its token, as everywhere."""


class Application(Starlette):
    """``direct``: what our own server asks before it calls the application. ``repeats``: the heads that it knows.

    ``answers_on``: see `Hub.answers_on`.

    ``was_opened``: whether anybody has begun to open the hub: an application may forget its lifespan.
    """

    beside: ASGIApp | None = None
    authorize: Authorize | None = None
    direct: Direct
    repeats: Repeats
    answers_on: Callable[[Scope], bool]
    is_crowded: Callable[[], bool] | None
    """None: there is no limit."""
    was_opened: Callable[[], bool]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.beside is not None and all(each.matches(scope)[0] is Match.NONE for each in self.router.routes):
            await self.beside(scope, receive, send)  # neither the hub's limits nor its CORS are for it
            return
        if scope["type"] == "http" and scope["path"] == "*":
            # OPTIONS * asks about the server as a whole (RFC 9110 section 9.3.7), which no route is for.
            scope = {**scope, "path": PATH, "raw_path": PATH.encode()}
        if scope["type"] == "http" and scope["path"].startswith(_OF_THE_HUB) and not self.answers_on(scope):
            # RFC 9110 section 15.5.20.
            misdirected = Problem(421, "this hub does not answer on that host: it has other public URLs")
            await misdirected.response()(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(PATH) and not self.was_opened():
            logger.error("a request came to a hub that is not open: give your application hub.lifespan")
            await Problem(503, "the application has not opened its hub").response()(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and self.is_crowded and self.is_crowded():
            await crowded().response()(scope, receive, send)
        else:
            if self.authorize is not None and scope["type"] == "http" and scope["path"].startswith(_OF_THE_HUB):
                scope = {**scope, GRANTED: await self.authorize(HTTPConnection(scope))}
            await super().__call__(scope, receive, send)
