"""HTML over the wire: the server renders what changes, and the page puts it where it belongs.

python examples/turbo/app.py        http://127.0.0.1:8000
"""

import os
from html import escape
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from hub import Hub, Settings

TOPIC = "https://tasks.example/list"

KEY = "an example's key, which everybody knows"
"""The same in all examples: a browser sends what one of them has set to the next on this machine, whatever its port."""

hub = Hub(Settings(publisher_jwt_key=KEY, subscriber_jwt_key=KEY, anonymous=True, transport_url="memory://"))
numbers = count(1)
tasks: dict[int, str] = {}


def row(number: int) -> str:
    """One task, as it stands in the page from the start and as it is sent later."""
    button = f'<form action="/tasks/{number}/done" method="post"><button>Done</button></form>'
    return f'<li id="task-{number}"><span>{escape(tasks[number])}</span>{button}</li>'


async def page(request: Request) -> Response:
    text = Path(__file__).with_name("index.html").read_text()
    return HTMLResponse(text.replace("<!-- tasks -->", "".join(map(row, tasks))))


async def add(request: Request) -> Response:
    form = dict(parse_qsl((await request.body()).decode()))
    number = next(numbers)
    tasks[number] = form.get("task", "")[:80]
    await hub.publish(
        TOPIC, f'<turbo-stream action="append" target="tasks"><template>{row(number)}</template></turbo-stream>'
    )
    return Response(status_code=204)


async def done(request: Request) -> Response:
    number = request.path_params["number"]
    if tasks.pop(number, None) is not None:
        await hub.publish(TOPIC, f'<turbo-stream action="remove" target="task-{number}"></turbo-stream>')
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/tasks", add, methods=["POST"]),
        Route("/tasks/{number:int}/done", done, methods=["POST"]),
        Mount("/", hub.asgi),
    ],
    lifespan=hub.lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=2)
