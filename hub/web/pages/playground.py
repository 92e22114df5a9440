"""``/playground/…``: a resource of any path with the content that its own URL says, to try discovery and cookies with.

As in the Go hub: ``body`` is what it answers, the path's ending says of which type, ``jwt`` becomes the hub's cookie.
"""

import mimetypes
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from hub.auth.keyring import is_access_token, peek
from hub.auth.keys import InvalidSignature
from hub.generations import NAMES, PATH, Generation

ROOT = "/playground"
_TYPES = {".jsonld": "application/ld+json"}


@dataclass(frozen=True)
class Playground:
    """``cookie_name``: of 1.0 tokens; those of 0.x have the older one."""

    cookie_name: str

    async def answer(self, request: Request) -> Response:
        """Whoever writes the URL writes the answer: no script of it runs, and no page of it is the hub's (sandbox)."""
        root = request.scope.get("root_path", "")
        path, query = request.url.path, request.query_params
        ending = f".{path.rpartition('.')[2]}"
        media_type = _TYPES.get(ending) or mimetypes.types_map.get(ending, "text/plain")
        response = Response(
            query.get("body", ""),
            media_type=media_type,
            headers={
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )
        named = "" if self.cookie_name == NAMES[Generation.V1].cookie else f'; cookie-name="{self.cookie_name}"'
        response.headers.append("Link", f'<{root}{PATH}>; rel="mercure"{named}')
        response.headers.append("Link", f'<{request.scope["raw_path"].decode("ascii")}>; rel="self"')
        self._set_cookie(response, query.get("jwt", ""), f"{root}{PATH}", secure=request.url.scheme == "https")
        return response

    def _set_cookie(self, response: Response, token: str, path: str, *, secure: bool) -> None:
        """Without a token an earlier one's cookie goes, so that none is left over from another try."""
        try:
            of_1_0 = is_access_token(peek(token, 0))
        except InvalidSignature:
            of_1_0 = False
        own = self.cookie_name if of_1_0 else NAMES[Generation.V0].cookie
        for name in (self.cookie_name, NAMES[Generation.V0].cookie):
            if token and name == own:
                must = secure or name.startswith("__Secure-")
                response.set_cookie(name, token, path=path, secure=must, httponly=True, samesite="strict")
            else:
                response.delete_cookie(name, path=path)
