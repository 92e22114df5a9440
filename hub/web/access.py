"""One line for each request, where it is asked for; never with a token."""

import logging
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOKEN = re.compile(rb"(?<![^&?])authorization=[^&]*", re.IGNORECASE)
"""What 0.x has in the query."""

logger = logging.getLogger("hub.access")


def access_logged(app: ASGIApp) -> ASGIApp:
    """The application, with a line in the log when a response begins: a stream's end may be hours away."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        began = time.monotonic()

        async def send_and_tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                client = scope.get("client")
                query = _TOKEN.sub(b"authorization=REDACTED", scope["query_string"])
                path: bytes = scope.get("raw_path") or scope["path"].encode()
                target = (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")
                logger.info(
                    '%s "%s %s" %d %.1f ms',
                    client[0] if client else "-",
                    scope["method"],
                    target if target.isprintable() else ascii(target),
                    message["status"],
                    1000 * (time.monotonic() - began),
                )
            await send(message)

        return await app(scope, receive, send_and_tell)

    return logged
