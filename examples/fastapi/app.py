from fastapi import FastAPI, Request
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection

from hub import Grants, Hub, Settings


async def by_session(request: HTTPConnection) -> Grants | None:
    """A user receives what is for them. None: the request's token decides, as everywhere."""
    user = request.session.get("user")
    return Grants.to(subscribe=[f"https://example.com/users/{user}"], subject=user) if user else None


settings = Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://")
hub = Hub(settings, authorize=by_session)
app = FastAPI(lifespan=hub.lifespan)
app.add_middleware(SessionMiddleware, secret_key="another secret")


@app.post("/log-in/{user}")
async def log_in(user: str, request: Request) -> None:
    request.session["user"] = user


@app.put("/books/{number}")
async def change(number: int, book: dict[str, str]) -> dict[str, str]:
    event_id = await hub.publish(f"https://example.com/books/{number}", book)
    return {"published": event_id}


@app.post("/messages/{user}")
async def write_to(user: str, message: dict[str, str]) -> None:
    await hub.publish(f"https://example.com/users/{user}", message, private=True)


app.mount("/", hub.asgi)
