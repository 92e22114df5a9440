"""What a client is told when its request cannot be served: problem details (RFC 9457), challenges (RFC 6750)."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse, Response


class Problem(Exception):
    """A request ends with ``status`` and a sentence that says what is wrong and what would help.

    ``detail`` is shown to the client: it never holds a key, a token or an update's data.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


class Unauthorized(Problem):
    """No token where one is needed: 401 with a bare challenge (RFC 6750 section 3)."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, {"WWW-Authenticate": "Bearer"})


class InvalidToken(Problem):
    """The token does not hold; the sentence does not say why, so that nobody learns from guessing."""

    def __init__(self) -> None:
        super().__init__(
            401, "the access token is not valid here", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        )


class InvalidTokenRequest(Problem):
    """The token is presented in a way that is not allowed: 400 ``invalid_request`` (RFC 6750 section 3.1)."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail, {"WWW-Authenticate": 'Bearer error="invalid_request"'})


class InsufficientScope(Problem):
    """The token is valid but does not grant this: 403 (RFC 6750 section 3.1)."""

    def __init__(self, detail: str) -> None:
        super().__init__(403, detail, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'})
