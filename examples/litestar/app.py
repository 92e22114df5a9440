from litestar import Litestar, post, put
from litestar.response import Response
from starlette.requests import HTTPConnection

from hub import Grants, Hub, Settings

USERS = {"a random text that only Kim's browser knows": "kim"}
"""Sessions, as a store of yours keeps them."""


async def by_session(request: HTTPConnection) -> Grants | None:
    """A user receives what is for them. None: the request's token decides, as everywhere."""
    user = USERS.get(request.cookies.get("session", ""))
    return Grants.to(subscribe=[f"https://example.com/users/{user}"], subject=user) if user else None


settings = Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://")
hub = Hub(settings, authorize=by_session)


@post("/log-in/{user:str}", status_code=204)
async def log_in(user: str) -> Response[None]:
    response = Response(None)
    response.set_cookie("session", next(key for key, name in USERS.items() if name == user), httponly=True)
    return response


@put("/books/{number:int}")
async def change(number: int, data: dict[str, str]) -> dict[str, str]:
    event_id = await hub.publish(f"https://example.com/books/{number}", data)
    return {"published": event_id}


@post("/messages/{user:str}", status_code=204)
async def write_to(user: str, data: dict[str, str]) -> None:
    await hub.publish(f"https://example.com/users/{user}", data, private=True)


hub.beside = Litestar([log_in, change, write_to], lifespan=[lambda _: hub.running()])
app = hub.asgi
