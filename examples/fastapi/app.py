from fastapi import FastAPI

from hub import Hub, Settings

hub = Hub(Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://"))
app = FastAPI(lifespan=hub.lifespan)


@app.put("/books/{number}")
async def change(number: int, book: dict[str, str]) -> dict[str, str]:
    event_id = await hub.publish(f"https://example.com/books/{number}", book)
    return {"published": event_id}


app.mount("/", hub.asgi)
