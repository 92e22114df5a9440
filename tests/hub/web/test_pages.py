"""The pages as they are served: which there are, what they tell, and what a browser may do on them."""

import re
from typing import Any

import httpx
import pytest

from hub.config.settings import DEV_KEY
from hub.generations import PATH
from tests.hub.serving import KEY, Served, bearer, problem, serving, token

NASTY = 'x"><script>alert(1)</script>'


async def get(served: Served, path: str, **kwargs: Any) -> httpx.Response:
    return await served.client.get(served.url.removesuffix(PATH) + path, **kwargs)


async def test_the_root_says_what_this_is() -> None:
    """A person who opens the hub's address learns its URL, its state and where to go on; without a script."""
    async with serving(debugger=True, subscriptions=True) as served:
        answer = await get(served, "/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        shown = re.sub("<[^>]+>", "", answer.text)
        for each in (
            served.url,
            "serving",
            "0.x and 1.0",
            "anybody may receive public updates",
            "listed and announced",
        ):
            assert each in shown
        assert "<script" not in answer.text
        links = re.findall(r'(?:href|src)="([^"]+)"', answer.text)
        assert f"{PATH}/debug/" in links
        for link in links:
            assert link.startswith("https://mercure.rocks/") or (await get(served, link)).status_code == 200, link


async def test_the_root_can_be_left_out() -> None:
    """With --no-landing there is none, and no debugger unless it is asked for; then its files are not there either."""
    async with serving(landing=False) as served:
        for path in ("/", f"{PATH}/debug/", f"{PATH}/ui/", f"{PATH}/pages/style.css", "/playground/x"):
            assert (await get(served, path)).status_code == 404, path


@pytest.mark.parametrize("path", [f"{PATH}/debug", f"{PATH}/ui"])
async def test_the_debugger_and_its_files(path: str) -> None:
    """Under both names, with a slash or without; every file that it names is there, and is sent once."""
    async with serving(debugger=True) as served:
        without = await get(served, path)
        assert (without.status_code, without.headers["location"]) == (308, f"{path}/")
        page = await get(served, f"{path}/")
        for link in re.findall(r'(?:href|src)="(/[^"]+)"', page.text):
            found = await get(served, link)
            assert found.status_code == 200, link
            assert found.headers["x-content-type-options"] == "nosniff"
            again = await get(served, link, headers={"If-None-Match": found.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/", f"{PATH}/debug/"])
async def test_the_policy_is_strict(path: str) -> None:
    """Nothing inline, nothing of others, no frame around it; whatever a client writes into its Host stays text."""
    async with serving(debugger=True, resource_identifier=f"https://a.example/{NASTY}") as served:
        answer = await get(served, path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        assert "unsafe" not in policy
        assert "<script>" not in answer.text
        assert not re.search(r"\son[a-z]+=|\sstyle=|<style", answer.text)


@pytest.mark.parametrize("name", ["__init__.py", "..%2Fapp.py", "style.css%00", "nothing.js", ""])
async def test_only_the_pages_files_are_there(name: str) -> None:
    """No other file of the package."""
    async with serving(debugger=True) as served:
        assert (await get(served, f"{PATH}/pages/{name}")).status_code == 404


@pytest.mark.parametrize(("key", "shown"), [(DEV_KEY, True), ("a secret of our own, long enough", False)])
async def test_a_key_is_never_shown(key: str, shown: bool) -> None:
    """But the documentation's, which everybody knows, and which the pages warn of."""
    async with serving(debugger=True, publisher_jwt_key=key, subscriber_jwt_key=key) as served:
        for path in ("/", f"{PATH}/debug/"):
            text = (await get(served, path)).text
            assert ("which everybody knows" in text) is shown
            assert (key in text) is (shown and path != "/")


async def test_the_hubs_verdict() -> None:
    """In development alone: what `mercure-hub explain` would say."""
    async with serving(debugger=True, tell_reasons=True) as served:
        url = f"{served.url}/debug/explain"
        good = {"token": token(publish=["*"]), "role": "publisher"}
        assert (await served.client.post(url, data=good)).json()["accepted"] is True
        refused = (await served.client.post(url, data=good | {"role": "subscriber", "token": "x.y.z"})).json()
        assert refused["accepted"] is False
        assert refused["lines"][-1].startswith("refused: malformed: ")
        assert problem(await served.client.post(url, data=good | {"role": "king"}))["status"] == 400
    async with serving(debugger=True) as served:
        assert (await served.client.post(f"{served.url}/debug/explain", data=good)).status_code == 404


async def test_below_a_prefix() -> None:
    """Mounted in another application, every link stays below its prefix."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from hub import Settings, create_app

    hub = create_app(
        Settings(
            publisher_jwt_key=KEY, subscriber_jwt_key=KEY, transport_url="memory://", debugger=True, anonymous=True
        )
    )
    transport = httpx.ASGITransport(Starlette(routes=[Mount("/live", hub)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://a.example") as client:
        for path in ("/live/", f"/live{PATH}/debug/"):
            page = (await client.get(path)).text
            for link in re.findall(r'(?:href|src|data-hub)="(/[^"]+)"', page):
                assert link.startswith("/live/")
                assert link.endswith("/mercure") or (await client.get(link)).status_code in (200, 308, 503), link


async def test_the_playground_answers_what_its_url_says() -> None:
    """Any path, of the type that its ending says, with the hub's Link; and nothing in it runs or is the hub's page."""
    async with serving(playground=True) as served:
        answer = await get(served, "/playground/books/1.jsonld", params={"body": '{"a": 1}'})
        assert (answer.text, answer.headers["content-type"]) == ('{"a": 1}', "application/ld+json")
        assert answer.headers.get_list("link") == [
            f'<{PATH}>; rel="mercure"',
            '</playground/books/1.jsonld>; rel="self"',
        ]
        page = await get(served, "/playground/a.html", params={"body": "<script>alert(1)</script>"})
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert (await get(served, "/playground/plain")).headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("generation", "name"), [("0.x", "mercureAuthorization"), ("1.0", "__Secure-mercure_access_token")]
)
async def test_the_playground_sets_the_cookie(generation: str, name: str) -> None:
    """The generation's own, for the hub's path alone; without a token it goes. The hub takes it."""
    import jwt

    claims = {"mercure": {"subscribe": ["*"]}, "iss": "https://a.example", "exp": 2**32}
    given = jwt.encode(claims, KEY, "HS256", headers={"typ": "at+jwt" if generation == "1.0" else "JWT"})
    async with serving(playground=True, anonymous=False) as served:
        answer = await get(served, "/playground/x", params={"jwt": given})
        (cookie,) = (each for each in answer.headers.get_list("set-cookie") if given in each)
        assert cookie.startswith(f"{name}={given}; ")
        assert {"HttpOnly", "SameSite=strict", f"Path={PATH}"} <= set(cookie.split("; "))
        assert ("Secure" in cookie.split("; ")) is (generation == "1.0")
        gone = await get(served, "/playground/x")
        assert all("Max-Age=0" in each for each in gone.headers.get_list("set-cookie"))
        if generation == "0.x":
            async with served.subscribe({"Cookie": f"{name}={given}"}) as stream:
                assert stream.response.status_code == 200


async def test_the_playground_says_so() -> None:
    """A banner on both pages."""
    async with serving(playground=True, debugger=True) as served:
        for path in ("/", f"{PATH}/debug/"):
            assert "A playground: anybody may subscribe" in (await get(served, path)).text
        assert bearer("x")  # its tokens are checked as everywhere
        assert (await served.post({"topic": "x"}, headers=bearer("x.y.z"))).status_code == 401
