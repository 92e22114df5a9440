"""Which pages may read a response (Fetch, "CORS protocol"): a middleware, and its headers where it is bypassed."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.fanout.wire import RawHeaders
from hub.matching.origins import Origins
from hub.problems import Problem

METHODS = ("GET", "HEAD", "POST", "QUERY")
MAX_AGE = 7200
"""Seconds that a browser may remember the answer to a preflight: the most that Chromium takes."""
MAX_ASKED = 64
"""Header names that a preflight may ask for; a page with tracing and a library or two asks for ten."""

_EXPOSED = b"Last-Event-ID, Link, Mercure-Last-Event-ID"
_NAMES = re.compile(r"[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}[ \t]*")


class Cors:
    """``origins``: those that may read responses, as `hub.config.values.origin` has them.

    ``*``: all, but none with its visitors' credentials.

    Pages of other origins get nothing, and the browser keeps what they asked for from them.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._allowed = Origins(origins)
        # Credentials for every origin would let any page read its visitors' updates (Mercure, "Subscription").
        permission = (b"origin", b"*") if self._allowed.every else (b"credentials", b"true")
        self._to_a_page = [
            (b"access-control-allow-" + permission[0], permission[1]),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application with preflights answered, and with `headers` on every response that has none of its own."""
        if not self._allowed:
            return app

        async def allowing(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            origin = _header(scope, b"origin")
            asks = scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method") is not None
            if asks and origin is not None and origin.decode("latin-1") in self._allowed:
                return await self._preflight(scope)(scope, receive, send)

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._add(message, scope)
                await send(message)

            return await app(scope, receive, send_with_headers)

        return allowing

    def headers(self, scope: Scope) -> RawHeaders:
        """What a response to that request needs, so that the page which asked may read it."""
        if not self._allowed:
            return []
        vary = (b"vary", b"Origin")
        origin = _header(scope, b"origin")
        if origin is None:
            return [vary]
        if self._allowed.every:
            return [*self._to_a_page, vary]
        if origin.decode("latin-1") in self._allowed:
            return [*self._to_a_page, (b"access-control-allow-origin", origin), vary]
        return [vary]

    def _add(self, message: Message, scope: Scope) -> None:
        headers = MutableHeaders(raw=list(message["headers"]))
        if "Access-Control-Allow-Origin" in headers:
            return  # public by itself: the metadata
        for name, value in self.headers(scope):
            if name == b"vary":
                headers.add_vary_header(value.decode())
            else:
                headers.raw.append((name, value))
        message["headers"] = headers.raw

    def _preflight(self, scope: Scope) -> ASGIApp:
        """Libraries and tracing add headers of their own (``traceparent``, ``x-requested-with``): any may be sent."""
        request = Headers(scope=scope)
        asked = request.get("Access-Control-Request-Headers", "")
        names = asked.split(",") if asked else []
        if len(names) > MAX_ASKED or not all(map(_NAMES.fullmatch, names)):
            return Problem(
                400, f"Access-Control-Request-Headers is a list of at most {MAX_ASKED} header names"
            ).response()
        response = Response(status_code=204)
        response.raw_headers += [each for each in self.headers(scope) if each[0] != b"vary"]
        response.headers["Vary"] = "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
        response.headers["Access-Control-Allow-Methods"] = ", ".join(METHODS)
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE)
        if names:
            response.headers["Access-Control-Allow-Headers"] = ", ".join(name.strip() for name in names)
        if request.get("Access-Control-Request-Private-Network") == "true":
            response.headers["Access-Control-Allow-Private-Network"] = "true"
        return response


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for each, value in scope["headers"] if each == name), None)
