"""Which pages may read a response (Fetch, "CORS protocol"): Starlette's middleware, and its effect without it."""

from collections.abc import Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Scope

from hub.wire import RawHeaders

_EXPOSED = ("Last-Event-ID", "Link", "Mercure-Last-Event-ID")


class Cors:
    """``origins``: those that may read responses; ``*``: all, but none with its visitors' credentials."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._allowed = frozenset(origin.encode() for origin in origins)
        self._any = "*" in origins
        # Credentials for every origin would let any page read its visitors' updates (Mercure, "Subscription").
        self._options: dict[str, Any] = {
            "allow_origins": list(origins),
            "allow_credentials": not self._any,
            "allow_methods": ["GET", "HEAD", "POST"],
            "allow_headers": ["Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            "expose_headers": _EXPOSED,
        }
        expose = (b"access-control-expose-headers", ", ".join(_EXPOSED).encode())
        permission = (b"origin", b"*") if self._any else (b"credentials", b"true")
        self._to_a_page = [(b"access-control-allow-" + permission[0], permission[1]), expose]

    def middleware(self) -> list[Middleware]:
        """For the application; none where no origin is allowed."""
        return [Middleware(CORSMiddleware, **self._options)] if self._allowed else []

    def around(self, app: ASGIApp) -> ASGIApp:
        """One application with that middleware."""
        return CORSMiddleware(app, **self._options) if self._allowed else app

    def headers(self, scope: Scope) -> RawHeaders:
        """What the middleware adds to the response of a request that is no preflight."""
        if not self._allowed:
            return []
        vary = (b"vary", b"Origin")
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin is None:
            return [vary]
        if origin in self._allowed and not self._any:
            return [*self._to_a_page, (b"access-control-allow-origin", origin), vary]
        return [*self._to_a_page, vary]
