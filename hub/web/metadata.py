"""What the hub says of itself: its protected resource metadata (RFC 9728), the methods of each path."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.auth.authorization import own_origin
from hub.client.protocol import KEYS_ARE_KNOWN
from hub.generations import PATH, Generation, Protocol, generations_in
from hub.problems import Problem

METADATA_PATH = f"/.well-known/oauth-protected-resource{PATH}"
"""RFC 9728 section 3: the well-known name comes before the resource's own path."""
DETAIL_TYPE = "https://mercure.rocks/authorization-detail"
DOCUMENTATION = "https://mercure.rocks/docs"


@dataclass(frozen=True)
class Methods:
    """One path's endpoints by their method. Every other method is a 405, and OPTIONS says which there are."""

    endpoints: Mapping[str, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        endpoint = self.endpoints.get(method)
        if endpoint is not None:
            await endpoint(scope, receive, send)
        elif method == "OPTIONS":
            await Response(status_code=204, headers={"Allow": self.allow})(scope, receive, send)
        else:
            raise Problem(
                405, f"the method {method[:20]} is not supported here; allowed are {self.allow}", {"Allow": self.allow}
            )

    @property
    def allow(self) -> str:
        """RFC 9110 section 10.2.1."""
        heads = ("HEAD",) if "GET" in self.endpoints else ()
        return ", ".join(sorted({*self.endpoints, *heads, "OPTIONS"}))


@dataclass(frozen=True)
class Metadata:
    """``resource_identifier``: None is the URL that the request names."""

    protocol: Protocol
    resource_identifier: str | None
    authorization_servers: tuple[str, ...]
    cookie_name: str
    subscriptions: bool

    @property
    def published(self) -> bool:
        """A hub of 0.x alone publishes none (Mercure, "Protected Resource Metadata")."""
        return Generation.V1 in generations_in(self.protocol)

    async def document(self, request: Request) -> Response:
        """The metadata, for pages of every origin: nothing in it is secret."""
        document: dict[str, Any] = {
            "resource": self.resource_identifier or f"{base_url(request)}{PATH}",
            "authorization_details_types_supported": [DETAIL_TYPE],
            "bearer_methods_supported": ["header"],
            "mercure_cookie": self.cookie_name,
            KEYS_ARE_KNOWN: True,
        }
        if self.authorization_servers:
            document["authorization_servers"] = self.authorization_servers
        if self.subscriptions:
            document["mercure_subscriptions"] = True
        return JSONResponse(document, headers={"Access-Control-Allow-Origin": "*"})

    def url(self, request: Request) -> str:
        """Where `document` is, absolute."""
        identifier = self.resource_identifier or ""
        if identifier.startswith(("https://", "http://")):
            parts = urlsplit(identifier)
            return f"{parts.scheme}://{parts.netloc}{METADATA_PATH}"
        return f"{base_url(request)}{METADATA_PATH}"

    async def answer_problem(self, request: Request, problem: Exception) -> Response:
        """The problem as a response; every challenge names the metadata (RFC 9728 section 5.1)."""
        assert isinstance(problem, Problem)  # noqa: S101 - registered for this type alone
        challenge = problem.headers.get("WWW-Authenticate")
        if challenge and self.published:
            comma = "," if "=" in challenge else ""
            problem.headers["WWW-Authenticate"] = f'{challenge}{comma} resource_metadata="{self.url(request)}"'
        return problem.response()


@cache
def hub_version() -> str:
    """Read from the package's files, once."""
    return version("mercure-hub")


def base_url(request: Request) -> str:
    """The URL under which this application answers: with the prefix that it is mounted at."""
    root_path: str = request.scope.get("root_path", "")
    return own_origin(request) + root_path
