"""The pages that the hub serves: what it says of itself at its root, and the debugger.

In: a browser's GET. Out: HTML, one style sheet, ES modules, all of them files of this folder, filled in with what the
settings say. Start with `debugger.js` for what the debugger does; everything here only serves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import request_response
from starlette.types import ASGIApp

from hub.auth.authorization import Authorizer
from hub.auth.explaining import explained
from hub.config.settings import DEV_KEY, Settings
from hub.generations import PATH, topic_parameter
from hub.lifecycle import Lifecycle, State
from hub.problems import Problem
from hub.web.forms import check_form, pairs, read_body
from hub.web.metadata import DOCUMENTATION, base_url, hub_version

MAX_QUESTION = 16 * 1024
"""Bytes of a form that holds a token."""
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none';"
    " require-trusted-types-for 'script'"
)
"""Nothing inline, nothing of anybody else."""
_ANY_HUB = "; connect-src 'self' http: https:"
"""The debugger asks whichever hub it is told to."""
_STATES = {
    State.OPENING: "waiting for its store",
    State.STORING: "starting",
    State.SERVING: "serving",
    State.DRAINING: "ending",
}
_BANNER = '<p class="banner">{}</p>'
_PLAYGROUND = "A playground: anybody may subscribe, and every page may publish with its visitors’ cookies."
_KNOWN_KEY = "The key of this hub is the documentation’s, which everybody knows: it is for trying."


@dataclass(frozen=True)
class Pages:
    """The endpoints. A page shows what anybody may know; of keys, the one that everybody knows."""

    settings: Settings
    lifecycle: Lifecycle
    authorizer: Authorizer

    def endpoints(self) -> dict[str, dict[str, ASGIApp]]:
        """By path and method."""
        found: dict[str, dict[str, ASGIApp]] = {}
        if self.settings.landing:
            found["/"] = {"GET": request_response(self.landing)}
        if self.settings.debugger:
            for path in (f"{PATH}/debug", f"{PATH}/ui"):
                found |= {each: {"GET": request_response(self.debugger)} for each in (path, f"{path}/")}
                if self.settings.tell_reasons:
                    found[f"{path}/explain"] = {"POST": request_response(self.explain)}
        if found:
            found[f"{PATH}/pages/{{name}}"] = {"GET": request_response(asset)}
        return found

    async def landing(self, request: Request) -> Response:
        """What this is, how it is, and where to go on."""
        settings, base = self.settings, base_url(request)
        debugger = f'<p><a href="{_root(request)}/debug/">Debugger</a>: subscribe and publish on a page.</p>'
        return _page(
            request,
            "landing.html",
            {
                "hub": f"{base}{PATH}",
                "state": _STATES[self.lifecycle.state],
                "protocol": "0.x and 1.0" if settings.protocol == "both" else settings.protocol,
                "anonymous": "anybody may receive public updates"
                if settings.anonymous
                else "nothing: subscribers need one",
                "subscriptions": "listed and announced" if settings.subscriptions else "not told",
                "version": hub_version(),
                "parameter": topic_parameter(settings.protocol),
                "documentation": DOCUMENTATION,
                "health": f"{request.scope.get('root_path', '')}/mercure/health",
            },
            {"banner": self._banner, "debugger": debugger if settings.debugger else ""},
        )

    async def debugger(self, request: Request) -> Response:
        """The page; what it does is in its modules. Its links are relative to a folder."""
        if not request.url.path.endswith("/"):
            return RedirectResponse(f"{request.url.path}/", status_code=308)
        settings, base = self.settings, base_url(request)
        known = settings.publisher_jwt_key == settings.subscriber_jwt_key == DEV_KEY
        preload = (
            f'<link rel="modulepreload" href="{_root(request)}/pages/{name}">'
            for name in _files()
            if name.endswith(".js")
        )
        return _page(
            request,
            "debugger.html",
            {
                "path": _root(request),
                "protocol": settings.protocol,
                "cookie": settings.cookie_name,
                "audience": settings.resource_identifier or f"{base}{PATH}",
                "issuer": next(iter(settings.trusted_issuers), ""),
                "key": DEV_KEY if known and settings.publisher_jwt_alg == "HS256" else "",
                "explains": "yes" if settings.tell_reasons else "",
            },
            {"banner": self._banner, "modules": "\n".join(preload)},
            _POLICY + _ANY_HUB,
        )

    async def explain(self, request: Request) -> Response:
        """What this hub makes of a token, check by check; for development, as every other reason. Raises `Problem`."""
        check_form(request.scope["headers"], "token=…&role=publisher")
        form = dict(pairs(await read_body(request, MAX_QUESTION), 10))
        role = form.get("role", "subscriber")
        if role not in ("publisher", "subscriber"):
            raise Problem(400, "the field 'role' is publisher or subscriber")
        accepted, lines = explained(self.authorizer.judge(role, request), role, form.get("token", "").strip())
        return JSONResponse({"accepted": accepted, "lines": lines}, headers={"Cache-Control": "no-store"})

    @property
    def _banner(self) -> str:
        if self.settings.playground:
            return _BANNER.format(_PLAYGROUND)
        known = DEV_KEY in (self.settings.publisher_jwt_key, self.settings.subscriber_jwt_key)
        return _BANNER.format(_KNOWN_KEY) if known else ""


async def asset(request: Request) -> Response:
    """A file that pages are made of. Raises `Problem` 404."""
    name = request.path_params["name"]
    media_type = _TYPES.get(name.rpartition(".")[2])
    if media_type is None or name not in _files():
        raise Problem(404, "the pages have no such file")
    return _cacheable(request, _files()[name], media_type, {})


def _page(
    request: Request, name: str, values: Mapping[str, str], markup: Mapping[str, str], policy: str = _POLICY
) -> Response:
    shown = {each: escape(value) for each, value in values.items()}
    text = Template(_files()[name]).substitute({"root": escape(_root(request)), **shown, **markup})
    return _cacheable(request, text, "text/html", {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


def _cacheable(request: Request, text: str, media_type: str, headers: Mapping[str, str]) -> Response:
    tag = f'"{sha256(text.encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", **headers}
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(text, media_type=media_type, headers=headers)


def _root(request: Request) -> str:
    """The hub's path from the host's root on, wherever the application is mounted."""
    return f"{request.scope.get('root_path', '')}{PATH}"


@cache
def _files() -> Mapping[str, str]:
    """By name; read once."""
    found = (each for each in files(__name__).iterdir() if not each.name.startswith("__"))
    return {each.name: each.read_text("utf-8") for each in sorted(found, key=lambda each: each.name)}
