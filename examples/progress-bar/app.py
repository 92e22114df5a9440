"""A long job in a thread tells its page how far it is.

python examples/progress-bar/app.py        http://127.0.0.1:8000
"""

import asyncio
import os
import secrets
import time
from pathlib import Path

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from hub import Hub, Settings

KEY = "an example's key, which everybody knows"
"""The same in all examples: a browser sends what one of them has set to the next on this machine, whatever its port."""
HUB = "/.well-known/mercure"
STEPS = 50

hub = Hub(Settings(publisher_jwt_key=KEY, subscriber_jwt_key=KEY, transport_url="memory://"))


def work(topic: str) -> None:
    """What takes long. It is no coroutine, and has no event loop."""
    for step in range(1, STEPS + 1):
        time.sleep(0.05)
        hub.publish_threadsafe(topic, {"done": step, "of": STEPS}, private=True).result()


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


async def start(request: Request) -> Response:
    """Each job has a topic of its own, which the cookie of whoever started it grants, and nobody else's."""
    topic = f"https://jobs.example/{secrets.token_urlsafe(8)}"
    token = jwt.encode({"mercure": {"subscribe": [topic]}, "exp": int(time.time()) + 3600}, KEY)
    response = JSONResponse({"topic": topic}, background=BackgroundTask(asyncio.to_thread, work, topic))
    response.set_cookie("mercureAuthorization", token, max_age=3600, path=HUB, httponly=True, samesite="strict")
    return response


app = Starlette(
    routes=[Route("/", page), Route("/jobs", start, methods=["POST"]), Mount("/", hub.asgi)], lifespan=hub.lifespan
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=2)
