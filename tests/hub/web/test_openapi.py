"""docs/openapi.json against the hub: what it names is there, and what is there is named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.generations import NAMES, PATH
from hub.web.publication import _FIELDS
from tests.hub.serving import KEY, PUBLISHER, TOPIC, bearer, serving, token

SPEC: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
OPERATIONS = [
    (path, method, operation) for path, methods in SPEC["paths"].items() for method, operation in methods.items()
]
READER = bearer(token(publish=["*"], subscribe=["*"]))


def names(operation: Mapping[str, Any], where: str) -> set[str]:
    return {each["name"] for each in operation["parameters"] if each["in"] == where}


def form_of(operation: Mapping[str, Any]) -> set[str]:
    return set(operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]["properties"])


def test_the_names_are_the_protocols() -> None:
    """Parameters and fields, of both generations, none forgotten and none made up."""
    hub = SPEC["paths"][PATH]
    matchers = {name for each in NAMES.values() for name in each.matchers}
    cursors = {name for each in NAMES.values() for name in each.cursors} - {"Last-Event-ID"}
    assert names(hub["get"], "query") == matchers | cursors | {"authorization", "last"}
    assert form_of(hub["x-query"]) == matchers | cursors
    assert form_of(hub["post"]) == _FIELDS
    told = {each.told_in for each in NAMES.values()}
    assert set(hub["get"]["responses"]["200"]["headers"]) == told
    cookies = {each["name"] for each in SPEC["components"]["securitySchemes"].values() if each.get("in") == "cookie"}
    assert cookies == {each.cookie for each in NAMES.values()}


@pytest.mark.parametrize(
    ("path", "method", "operation"), OPERATIONS, ids=lambda each: each if isinstance(each, str) else ""
)
async def test_every_operation_is_there(path: str, method: str, operation: Mapping[str, Any]) -> None:
    """Asked without anything, with a token, and wrongly: each answer is one that is documented."""
    method = method.removeprefix("x-").upper()
    url = path.format(match_type="exact", match="x", subscriber="y")
    form = {"topic": TOPIC} if method == "POST" else {"match": TOPIC}
    tries: list[dict[str, Any]] = [{}, {"headers": READER}, {"headers": bearer("x.y.z")}]
    if "requestBody" in operation:
        tries += [
            {"headers": READER, "data": form},
            {"headers": READER | {"Content-Type": "text/plain"}, "content": "x"},
        ]
    seen = set()
    async with serving(subscriptions=True, anonymous=False) as served:
        for each in tries:
            async with served.client.stream(method, served.url.removesuffix(PATH) + url, **each) as answer:
                assert str(answer.status_code) in operation["responses"], answer.status_code
                documented = operation["responses"][str(answer.status_code)].get("content", {})
                assert answer.headers["content-type"].partition(";")[0] in documented
                seen.add(answer.status_code)
    assert method == "GET" or 200 in seen


async def test_each_answer_of_a_publication() -> None:
    """Every status that is documented for it is provoked somewhere in the tests; here are those of the request."""
    async with serving(max_request_body_size=2000, publish_rate=1000) as served:
        wanted = {
            200: await served.post({"topic": TOPIC}),
            400: await served.post({"data": "x"}),
            401: await served.post({"topic": TOPIC}, headers={}),
            403: await served.post({"topic": TOPIC}, headers=bearer(token(publish=["urn:a"]))),
            413: await served.post({"topic": TOPIC, "data": "x" * 3000}),
            415: await served.client.post(served.url, content="x", headers=PUBLISHER | {"Content-Type": "text/plain"}),
        }
    assert {status: answer.status_code for status, answer in wanted.items()} == {status: status for status in wanted}
    assert {str(status) for status in wanted} <= set(SPEC["paths"][PATH]["post"]["responses"])
    assert KEY
