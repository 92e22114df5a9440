"""A hub as a user of sse-starlette would write it: a queue for each subscriber, no authorization, no history."""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

queues: set[asyncio.Queue[str]] = set()


async def publish(request: Request) -> Response:
    data = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(data)
    return PlainTextResponse("ok")


async def events() -> AsyncIterator[dict[str, str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield {"data": await queue.get()}
    finally:
        queues.discard(queue)


async def subscribe(_request: Request) -> Response:
    return EventSourceResponse(events())


app = Starlette(routes=[Route("/", publish, methods=["POST"]), Route("/", subscribe)])

if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="warning", access_log=False, backlog=4096
    )
