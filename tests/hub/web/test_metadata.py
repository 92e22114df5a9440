"""What the hub says of itself: its page, the methods of each path, its protected resource metadata (RFC 9728)."""

import re
from typing import Any

import httpx
import pytest

from tests.hub.serving import TOPIC, Served, bearer, problem, serving, token

METADATA = "/.well-known/oauth-protected-resource/.well-known/mercure"
ISSUER = "https://issuer.example"
HUB = "https://hub.example/.well-known/mercure"
CHALLENGE = re.compile(r'Bearer (?:error="[a-z_]+", )?resource_metadata="([^"]+)"')


def base(served: Served) -> str:
    return "http://{}:{}".format(*served.address)


async def ask(served: Served, method: str, path: str, **headers: str) -> httpx.Response:
    return await served.client.request(method, base(served) + path, headers=headers)


ALLOWED = {
    "/.well-known/mercure": {"GET", "HEAD", "OPTIONS", "POST", "QUERY"},
    "/.well-known/mercure/subscriptions": {"GET", "HEAD", "OPTIONS"},
    "/.well-known/mercure/subscriptions/exact/a": {"GET", "HEAD", "OPTIONS"},
    METADATA: {"GET", "HEAD", "OPTIONS"},
    "/": {"GET", "HEAD", "OPTIONS"},
    "/mercure/health/live": {"GET", "HEAD", "OPTIONS"},
    "/mercure/health/ready": {"GET", "HEAD", "OPTIONS"},
    "/healthz": {"GET", "HEAD", "OPTIONS"},
}


@pytest.mark.parametrize("path", ALLOWED)
@pytest.mark.parametrize("origins", [(), ("https://app.example",)])
async def test_every_path_says_its_methods(path: str, origins: tuple[str, ...]) -> None:
    """OPTIONS is a 204, another method a 405; both have all methods of the path in Allow (RFC 9110 section 15.5.6)."""
    async with serving(subscriptions=True, cors_origins=origins) as served:
        options = await ask(served, "OPTIONS", path)
        assert (options.status_code, options.content) == (204, b"")
        refused = await ask(served, "DELETE", path)
        assert problem(refused)["status"] == 405
        for answer in (options, refused):
            assert set(answer.headers["allow"].split(", ")) == ALLOWED[path]


async def test_options_of_the_whole_server() -> None:
    """``OPTIONS *`` answers for the hub (RFC 9110 section 9.3.7)."""
    async with serving() as served:
        reader, writer = await served.raw(b"OPTIONS * HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
        head = await reader.read()
        assert head.startswith(b"HTTP/1.1 204 ")
        assert b"QUERY" in head
        writer.close()


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({}, {}),
        ({"subscriptions": True}, {"mercure_subscriptions": True}),
        ({"authorization_servers": (ISSUER,)}, {"authorization_servers": [ISSUER]}),
        ({"cookie_name": "token"}, {"mercure_cookie": "token"}),
        ({"resource_identifier": HUB}, {"resource": HUB}),
        ({"cors_origins": ("https://app.example",)}, {}),
    ],
)
async def test_the_metadata_is_what_the_settings_say(settings: dict[str, Any], more: dict[str, Any]) -> None:
    """Readable for pages of any origin; members that do not apply are left out (RFC 9728 section 2)."""
    async with serving(**settings) as served:
        for origin in ("https://app.example", "https://any.example"):
            answer = await ask(served, "GET", METADATA, Origin=origin)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.json() == {
                "resource": served.url,
                "authorization_details_types_supported": ["https://mercure.rocks/authorization-detail"],
                "bearer_methods_supported": ["header"],
                "mercure_cookie": "__Secure-mercure_access_token",
                "mercure_idempotency_keys": True,
                **more,
            }


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), (bearer("a.b.c"), 401), (bearer(token(publish=["https://other.example/"])), 403)],
)
async def test_every_challenge_names_the_metadata(headers: dict[str, str], status: int) -> None:
    """401 and 403 alike, with an absolute URL that can be fetched."""
    async with serving() as served:
        refused = await served.post({"topic": TOPIC}, headers=headers)
        assert refused.status_code == status
        found = CHALLENGE.fullmatch(refused.headers["www-authenticate"])
        assert found, refused.headers["www-authenticate"]
        assert (await served.client.get(found[1])).json()["resource"] == served.url


async def test_subscribers_are_challenged_alike() -> None:
    """The public URL counts where it is set: behind a proxy the request shows another."""
    async with serving(anonymous=False, resource_identifier=HUB) as served:
        refused = await served.client.get(served.url, params={"topic": TOPIC})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="https://hub.example{METADATA}"'


async def test_a_hub_of_0x_alone_publishes_no_metadata() -> None:
    """Its absence tells clients the generation (Mercure, "Protected Resource Metadata")."""
    async with serving(protocol="0.x") as served:
        assert (await ask(served, "GET", METADATA)).status_code == 404
        refused = await served.post({"topic": TOPIC}, headers={})
        assert refused.headers["www-authenticate"] == "Bearer"
