from itsdangerous import BadSignature
from quart import Quart, request, session
from quart.sessions import SecureCookieSessionInterface
from starlette.requests import HTTPConnection

from hub import Grants, Hub, Settings

pages = Quart(__name__)
pages.secret_key = "another secret"


async def by_session(request: HTTPConnection) -> Grants | None:
    """A user receives what is for them. None: the request's token decides, as everywhere."""
    signed = SecureCookieSessionInterface().get_signing_serializer(pages)
    try:
        user = signed.loads(request.cookies.get("session", "")).get("user")
    except BadSignature:
        return None
    return Grants.to(subscribe=[f"https://example.com/users/{user}"], subject=user) if user else None


settings = Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://")
hub = Hub(settings, authorize=by_session)


@pages.while_serving
async def running():
    async with hub.running():
        yield


@pages.post("/log-in/<user>")
async def log_in(user: str):
    session["user"] = user
    return "", 204


@pages.put("/books/<int:number>")
async def change(number: int):
    return {"published": await hub.publish(f"https://example.com/books/{number}", await request.get_json())}


@pages.post("/messages/<user>")
async def write_to(user: str):
    await hub.publish(f"https://example.com/users/{user}", await request.get_json(), private=True)
    return "", 204


hub.beside = pages
app = hub.asgi
