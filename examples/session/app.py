"""The application's own session decides who may receive what: no token, no key.

python examples/session/app.py        http://127.0.0.1:8000
"""

import os
import secrets
from pathlib import Path
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from hub import Grants, Hub, Settings

sessions: dict[str, str] = {}
"""Who is logged in; an application has them in its framework."""


async def by_session(request: HTTPConnection) -> Grants | None:
    """Each user receives what is for them; nobody publishes from a page."""
    user = sessions.get(request.cookies.get("session", ""))
    return None if user is None else Grants.to(subscribe=[f"https://example.com/users/{user}"], subject=user)


hub = Hub(Settings(anonymous=True, transport_url="memory://"), authorize=by_session)


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


async def log_in(request: Request) -> Response:
    form = dict(parse_qsl((await request.body()).decode()))
    session = secrets.token_urlsafe()
    sessions[session] = form["user"]
    response = RedirectResponse("/", status_code=303)
    response.set_cookie("session", session, httponly=True, samesite="lax")
    return response


async def who(request: Request) -> Response:
    return JSONResponse(sessions.get(request.cookies.get("session", "")))


async def write_to(request: Request) -> Response:
    """A message to a user, whoever writes it: the server publishes, so that it decides."""
    form = dict(parse_qsl((await request.body()).decode()))
    await hub.publish(f"https://example.com/users/{form['to']}", form["text"], private=True)
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/who", who),
        Route("/log-in", log_in, methods=["POST"]),
        Route("/messages", write_to, methods=["POST"]),
        Mount("/", hub.asgi),
    ],
    lifespan=hub.lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=2)
