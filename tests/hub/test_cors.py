"""What is added for pages of other origins, past Starlette's middleware as in it."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from hub.cors import Cors
from hub.wire import RawHeaders

ORIGINS = ["https://a.example", "https://b.example", "null"]


async def _plain(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _added_by_starlette(cors: Cors, scope: Scope) -> RawHeaders:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await cors.around(_plain)(scope, None, send)  # type: ignore[arg-type]
    return list(sent[0]["headers"])


@given(
    st.lists(st.sampled_from(ORIGINS), unique=True) | st.just(["*"]),
    st.none() | st.sampled_from([*ORIGINS, "https://evil.example", "*", ""]),
)
async def test_both_ways_add_the_same(allowed: list[str], origin: str | None) -> None:
    """Whoever goes past the middleware gets the headers that it adds, for every origin and setting."""
    cors = Cors(allowed)
    headers = [(b"host", b"hub")] + ([] if origin is None else [(b"origin", origin.encode())])
    scope: Scope = {"type": "http", "method": "GET", "headers": headers}
    assert sorted(cors.headers(scope)) == sorted(await _added_by_starlette(cors, scope))
