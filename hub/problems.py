"""What a client is told when its request cannot be served: problem details (RFC 9457), challenges (RFC 6750)."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from starlette.responses import JSONResponse, Response


class Reason(StrEnum):
    """Why a request was refused: the word in the log, in the metric and in ``mercure-hub explain``."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    WRONG_ALGORITHM = "wrong_algorithm"
    UNKNOWN_ISSUER = "unknown_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    MISSING_CLAIM = "missing_claim"
    MALFORMED = "malformed"
    NO_GRANT = "no_grant"
    WRONG_GENERATION = "wrong_generation"
    FOREIGN_ORIGIN = "foreign_origin"
    TOO_LARGE = "too_large"


class Refusal(NamedTuple):
    """``sentence``: for the operator; what is wrong, and the way out. ``facts``: never the token itself."""

    reason: Reason
    sentence: str
    facts: Mapping[str, object] = {}


class Problem(Exception):
    """A request ends with ``status`` and a sentence that says what is wrong and what would help.

    ``detail`` is shown to the client: it never holds a key, a token or an update's data. ``refusal``: what is told to
    the operator, where somebody may not do what was asked.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.refusal = refusal

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
    """The token does not hold; the client is not told why, so that nobody learns from guessing."""

    refusal: Refusal

    def __init__(self, reason: Reason, sentence: str, **facts: object) -> None:
        super().__init__(
            401,
            "the access token is not valid here",
            {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            Refusal(reason, sentence, facts),
        )


class InvalidTokenRequest(Problem):
    """The token is presented in a way that is not allowed: 400 ``invalid_request`` (RFC 6750 section 3.1)."""

    def __init__(self, detail: str) -> None:
        refusal = Refusal(Reason.MALFORMED, detail)
        super().__init__(400, detail, {"WWW-Authenticate": 'Bearer error="invalid_request"'}, refusal)


class InsufficientScope(Problem):
    """The token is valid but does not grant this: 403 (RFC 6750 section 3.1)."""

    def __init__(self, detail: str) -> None:
        refusal = Refusal(Reason.NO_GRANT, detail)
        super().__init__(403, detail, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}, refusal)
