"""A table that follows its data: the page finds the hub by the table's Link header, and applies JSON patches.

python examples/live-table/app.py        http://127.0.0.1:8000
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from hub import Hub, Settings

TOPIC = "https://shop.example/stocks"
PAUSE = 0.4
"""Seconds between two changes."""

KEY = "an example's key, which everybody knows"
"""The same in all examples: a browser sends what one of them has set to the next on this machine, whatever its port."""

hub = Hub(Settings(publisher_jwt_key=KEY, subscriber_jwt_key=KEY, anonymous=True, transport_url="memory://"))
stocks = {"apples": 12, "pears": 7, "plums": 31, "quinces": 2}
newest = "earliest"
"""The id of the last patch, which the table holds already."""


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("index.html"))


async def table(request: Request) -> Response:
    """The table as it is, where its changes are told, and from which event on."""
    link = f'</.well-known/mercure>; rel="mercure"; last-event-id="{newest}"'
    return JSONResponse(stocks, headers={"Link": link, "Cache-Control": "no-store"})


async def trade() -> None:
    """Change a row, add one or take one away: each a patch (RFC 6902)."""
    global newest
    while True:
        await asyncio.sleep(PAUSE)
        name = random.choice(["apples", "pears", "plums", "quinces", "medlars"])
        if name not in stocks:
            stocks[name] = 1
            patch = {"op": "add", "path": f"/{name}", "value": 1}
        elif name == "medlars":
            del stocks[name]
            patch = {"op": "remove", "path": f"/{name}"}
        else:
            stocks[name] = max(0, stocks[name] + random.randint(-3, 3))
            patch = {"op": "replace", "path": f"/{name}", "value": stocks[name]}
        newest = await hub.publish(TOPIC, [patch], type="patch")


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with hub.running():
        trading = asyncio.create_task(trade())
        yield
        trading.cancel()


app = Starlette(routes=[Route("/", page), Route("/stocks.json", table), Mount("/", hub.asgi)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=2)
