"""A chat: pages publish with their cookie, and the hub tells who is there.

python examples/chat/app.py        http://127.0.0.1:8000, in two windows
"""

import os
from pathlib import Path
from urllib.parse import parse_qsl, quote

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from hub import Hub, Settings

KEY = "an example's key, which everybody knows"
"""The same in all examples: a browser sends what one of them has set to the next on this machine, whatever its port."""
ROOM = "https://chat.example/rooms/1"
HUB = "/.well-known/mercure"
PRESENCE = f"{HUB}/subscriptions/{{topic}}/{{subscriber}}"

hub = Hub(Settings(publisher_jwt_key=KEY, subscriber_jwt_key=KEY, transport_url="memory://", subscriptions=True))


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


async def enter(request: Request) -> Response:
    """The cookie is the permission: to write in this room, to read it, and to see who is in it under this name."""
    form = dict(parse_qsl((await request.body()).decode()))
    name = form.get("name", "").strip()[:40] or "Nobody"
    grants = {
        "publish": [ROOM],
        "subscribe": [ROOM, PRESENCE, f"{HUB}/subscriptions/{{topic}}"],
        "payload": {"name": name},
    }
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        "mercureAuthorization", jwt.encode({"mercure": grants}, KEY), path=HUB, httponly=True, samesite="strict"
    )
    response.set_cookie("name", quote(name), samesite="strict")
    return response


app = Starlette(
    routes=[Route("/", page), Route("/enter", enter, methods=["POST"]), Mount("/", hub.asgi)], lifespan=hub.lifespan
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=2)
