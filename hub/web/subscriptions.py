"""``GET /.well-known/mercure/subscriptions…``: who is subscribed to what (Mercure, "Subscription API")."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.auth.authorization import Authorizer, own_origin
from hub.fanout.wire import gone
from hub.generations import NAMES, PATH, Generation, Protocol, generations_in
from hub.lifecycle import Lifecycle, unavailable
from hub.matching.matchers import Matcher
from hub.presence.documents import EVENT_TYPE, ROOT, collection, path, single
from hub.problems import Problem
from transports import Transport, TransportClosed, TransportUnavailable

CACHE_CONTROL = "private, no-cache"
"""What a token shows is for its bearer, and as old as the last event."""


class Resource(NamedTuple):
    """What a URL below `ROOT` names. ``generation``: whose form its path has; None: the same in both."""

    path: str
    generation: Generation | None
    is_collection: bool

    @classmethod
    def of(cls, segments: Sequence[str], generations: Sequence[Generation]) -> "Resource | None":
        """From the path's segments, still encoded; each is decoded and encoded once, so that it has one spelling."""
        try:
            parts = [unquote(segment, errors="strict") for segment in segments]
        except UnicodeDecodeError:
            return None
        if "" in parts:
            return None
        if not parts:
            return cls(ROOT, None, is_collection=True)
        if Generation.V1 in generations and parts[0] in ("exact", "urlpattern") and len(parts) in (2, 3):
            return cls(path(Matcher(*parts[:2]), *parts[2:]), Generation.V1, is_collection=len(parts) == 2)
        if Generation.V0 in generations and len(parts) in (1, 2):
            return cls(path(Matcher("topic", parts[0]), *parts[1:]), Generation.V0, is_collection=len(parts) == 1)
        return None

    def lists(self, id: str) -> bool:
        """Whether the collection has that subscription: a topic's has none of ``exact/…``, ``urlpattern/…``."""
        if not id.startswith(f"{self.path}/"):
            return False
        return self.generation is None or "/" not in id[len(self.path) + 1 :]


@dataclass(frozen=True)
class Subscriptions:
    """The endpoint of all three kinds of URLs, in both generations."""

    transport: Transport
    lifecycle: Lifecycle
    authorizer: Authorizer
    protocol: Protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self.lifecycle.serving or await self.lifecycle.wait_until_serving(gone(scope))):
            raise unavailable("this hub is not open now; try again")
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        grants = self.authorizer.subscriber(request)
        resource = Resource.of(segments_of(request), generations_in(self.protocol))
        if resource is None:
            raise _not_found()
        self.authorizer.allow_read(grants, resource.path)
        generation = resource.generation or grants.generation or Generation.V1
        try:
            # In this order: what has changed between the two is told by an event after that id.
            last_event_id = (await self.transport.last())[1]
            body = await self._body(resource, last_event_id, generation)
        except (TransportUnavailable, TransportClosed):
            raise unavailable("the store of this hub does not answer; try again") from None
        return _cacheable(request, body, NAMES[generation].media_type, last_event_id)

    async def _body(self, resource: Resource, last_event_id: str, generation: Generation) -> bytes:
        documents = await self.transport.presence.all()
        if resource.is_collection:
            within = [document for id, document in documents.items() if resource.lists(id)]
            return collection(resource.path, within, last_event_id, generation)
        if resource.path not in documents:
            raise _not_found()
        return single(documents[resource.path], last_event_id, generation)


def segments_of(request: Request) -> Sequence[str]:
    """What follows `ROOT` in the path as it was sent, where a slash within a segment is still encoded."""
    scope = request.scope
    sent = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    above = f"{scope.get('root_path', '')}{ROOT}".count("/")
    return sent.partition("?")[0].split("/")[above + 1 :]


def _cacheable(request: Request, body: bytes, media_type: str, last_event_id: str) -> Response:
    tag = f'"{sha256(last_event_id.encode() + body).hexdigest()[:32]}"'
    # Where to follow what the document shows, from which event on (RFC 8288). Ids hold no control characters.
    url = f"{own_origin(request)}{PATH}"
    quoted = last_event_id.replace("\\", "\\\\").replace('"', '\\"').encode().decode("latin-1")
    follow = f'last-event-id="{quoted}"; type="{EVENT_TYPE}"; content-type="{NAMES[Generation.V1].media_type}"'
    headers = {
        "ETag": tag,
        "Cache-Control": CACHE_CONTROL,
        "Vary": "Authorization, Cookie",
        "Link": f'<{url}>; rel="mercure"; {follow}',
    }
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _not_found() -> Problem:
    return Problem(404, "there is no such subscription; /subscriptions lists all that are active")
