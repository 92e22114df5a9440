"""Publishing: forms in, updates out, and every way of getting it wrong."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from hub.matching.matchers import Matching
from hub.problems import Problem
from hub.web.forms import FORM, check_form
from hub.web.publication import (
    LONGEST,
    MAX_TOPICS,
    REPEATED,
    URNS,
    KnownForms,
    idempotency_key,
    parse_form,
    update_from,
)
from tests.hub.serving import PUBLISHER, TOPIC, WIRES, Served, bearer, problem, serving, token
from transports import IdempotencyConflict, Transport, TransportFull, TransportUnavailable, Update
from transports.memory import MemoryTransport

MATCHING = Matching("https://hub.example/.well-known/mercure")


def update(**fields: str | list[str]) -> Update:
    return update_from(parse_form(urlencode(fields, doseq=True).encode()), MATCHING)


def refused(status: int, **fields: str | list[str]) -> str:
    with pytest.raises(Problem) as caught:
        update(**fields)
    assert caught.value.status == status
    return caught.value.detail


def test_topics_are_the_canonical_one_then_the_alternates() -> None:
    """The first topic is the canonical one; a repeated one counts once."""
    assert update(topic=["a", "b", "a"]).topics == ("a", "b")


def test_private_counts_by_presence() -> None:
    """Whatever its value says, the field makes the update private."""
    assert update(topic="a", private="").private
    assert update(topic="a", private="off").private
    assert not update(topic="a").private


def test_generated_ids_are_random_uuids() -> None:
    """Without an id the hub makes one, which tells nothing about time."""
    ids = [update(topic="a").id for _ in range(3 * URNS)]
    assert len(set(ids)) == len(ids)
    for each in ids:
        assert uuid.UUID(each).urn == each
        assert (uuid.UUID(each).version, uuid.UUID(each).variant) == (4, uuid.RFC_4122)


def test_no_id_is_given_by_two_processes() -> None:
    """One that forks after the first has been made hands none of those that wait on to its child."""
    update(topic="a")
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        os.write(theirs, update(topic="a").id.encode())
        os._exit(0)
    os.close(theirs)
    with open(ours) as read:
        of_child = read.read()
    assert os.waitpid(child, 0)[1] == 0
    assert uuid.UUID(of_child).urn == of_child
    assert of_child not in {update(topic="a").id for _ in range(URNS)}


@pytest.mark.parametrize("fields", [{}, {"data": "x"}])
def test_a_topic_is_required(fields: dict[str, str]) -> None:
    """An update without topic is refused by name."""
    assert "topic" in refused(400, **fields)


@pytest.mark.parametrize("name", ["topic", "id", "type"])
@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "a\x7fb", "a\x85b", "a\u202eb"])
def test_no_field_can_inject_another(name: str, bad: str) -> None:
    """Line breaks, controls and invisible characters are refused where they would become lines of the stream."""
    assert f"'{name}'" in refused(400, **{"topic": "t", name: bad})


@pytest.mark.parametrize("retry", ["1.5", "-1", "x", "٣", "99999999999"])
def test_retry_is_digits(retry: str) -> None:
    """`retry` is ASCII digits and bounded."""
    assert "retry" in refused(400, topic="t", retry=retry)


@pytest.mark.parametrize("event_id", ["#1", "earliest"])
def test_reserved_ids_are_refused(event_id: str) -> None:
    """Fragments and the cursor's own word can't be ids."""
    refused(400, topic="t", id=event_id)


@pytest.mark.parametrize(
    "topic",
    [
        "*",
        "",
        "/.well-known/mercure/subscriptions/x",
        "https://a.example/.well-known/%6Dercure",
        "/.well-known/./mercure/x",
    ],
)
def test_reserved_topics_are_refused(topic: str) -> None:
    """The wildcard and the hub's own namespace are nobody's topics."""
    refused(400, topic=["t", topic])


def test_the_hubs_own_event_type_is_refused() -> None:
    """Nobody forges the hub's events."""
    refused(400, topic="t", type="mercure")


def test_unknown_fields_are_ignored() -> None:
    """Future fields do not break a publisher."""
    assert update(topic="t", colour="red").topics == ("t",)


def test_too_much_is_413() -> None:
    """Counts and lengths are bounded."""
    refused(413, topic=[str(n) for n in range(MAX_TOPICS + 1)])
    refused(413, topic=[str(n) for n in range(10_000)])
    refused(413, topic="t", id="i" * 65_536)


def test_a_form_that_is_not_utf8_is_refused() -> None:
    """Bytes that are no UTF-8 never become replacement characters."""
    for body in (b"topic=\xff", b"topic=%FF", b"topic=a&data=%C3"):
        with pytest.raises(Problem, match="UTF-8"):
            parse_form(body)


@given(st.binary(max_size=300))
def test_any_body_is_an_update_or_a_problem(body: bytes) -> None:
    """Whatever bytes arrive, the answer is an update or a 4xx."""
    try:
        made = update_from(parse_form(body), MATCHING)
    except Problem as error:
        assert 400 <= error.status < 500  # noqa: PT017
    else:
        assert made.topics


PARTS = [
    *(
        "topic=a",
        "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1",
        "topic=b",
        "topic=",
        "topic=*",
        "topic=%ff",
        "topic[]=a",
    ),
    *("data=", "data=x", "data=a+b%0Ac", "data=%ff", "data", "d%61ta=y", "xdata=5", "data=data=6"),
    *("id=1", "id=", "id=%23", "id=earliest", "id=%ff", "i%64=2", "valid=3", "id"),
    *("private=on", "private", "type=t", "type=mercure", "retry=5", "retry=x", "", "x", f"x={'y' * LONGEST}"),
]


KNOWN = KnownForms(MATCHING, lambda _topics: None)


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(PARTS), max_size=6))
def test_a_form_that_comes_again_is_read_as_at_first(parts: list[str]) -> None:
    """What is remembered of a form beside its data and id changes no update, and lets none pass that is refused."""
    body = "&".join(parts).encode()

    def of(read: Callable[[], Update]) -> Update | None:
        try:
            found = read()
        except Problem:
            return None
        return found._replace(id="random") if found.id.startswith("urn:uuid:") else found

    first = of(lambda: update_from(parse_form(body), MATCHING))
    assert [of(lambda: KNOWN.update_of(body)) for _ in range(2)] == [first, first]


def test_what_is_not_allowed_is_never_known() -> None:
    """The grants are asked for each form that is not known, and one that they refused stays unknown."""
    asked: list[Sequence[str]] = []

    def allow(topics: Sequence[str]) -> None:
        asked.append(topics)
        if topics != ("a",):
            raise Problem(403, "not this one")

    forms = KnownForms(MATCHING, allow)
    for data in (b"x", b"y"):
        assert forms.update_of(b"topic=a&data=" + data).data == data.decode()
        with pytest.raises(Problem, match="not this one"):
            forms.update_of(b"topic=b&data=" + data)
    assert asked == [("a",), ("b",), ("b",)]


def test_so_many_forms_are_known() -> None:
    """A publisher that names another topic each time does not fill the memory; nor does one with long forms."""
    forms = KnownForms(MATCHING, lambda _topics: None)
    for number in range(3 * REPEATED):
        assert forms.update_of(b"data=x&topic=%d" % number).topics == (str(number),)
        forms.update_of(b"data=x&topic=%d&x=%b" % (number, b"y" * LONGEST))
        assert len(forms._known) <= REPEATED
    assert max(map(len, forms._known)) <= LONGEST


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_data_survives_the_form(data: str) -> None:
    """Data is opaque: what was encoded is what is stored."""
    assert update(topic="t", data=data).data == data


@pytest.mark.parametrize(
    ("header", "key"),
    [('"a b"', "a b"), ("abc", "abc"), (r'"a\"b\\"', 'a"b\\'), ("8e03978e-40d5-43dd-bc93-6894a57f9324",) * 2],
)
def test_idempotency_keys_come_quoted_or_bare(header: str, key: str) -> None:
    """The draft's quoted string and the bare token that most clients send mean the same."""
    assert idempotency_key([header]) == key


@given(st.lists(st.text(st.characters(max_codepoint=255)), min_size=1, max_size=2))
def test_any_idempotency_key_is_a_key_or_a_problem(values: list[str]) -> None:
    """A malformed key is a 400 and never cut to size."""
    try:
        key = idempotency_key(values)
    except Problem as error:
        assert error.status == 400  # noqa: PT017
    else:
        assert key


@pytest.mark.parametrize(
    "value",
    [
        "",
        "application/json",
        "multipart/form-data; boundary=x",
        f"{FORM}; charset=latin-1",
        f"{FORM}; charset*=utf-8''x; charset*0=y",
    ],
)
def test_other_bodies_are_415(value: str) -> None:
    """Only forms in UTF-8 are read."""
    with pytest.raises(Problem) as caught:
        check_form(Headers({"Content-Type": value}).raw, "topic=a&data=b")
    assert caught.value.status == 415


@pytest.mark.parametrize("value", ["application/json", "multipart/form-data; boundary=x"])
def test_a_body_of_another_kind_is_told_what_works(value: str) -> None:
    """The sentence shows one line of a form that the hub takes."""
    with pytest.raises(Problem, match="such as topic=a&data=b"):
        check_form(Headers({"Content-Type": value}).raw, "topic=a&data=b")


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "x"])
def test_an_encoded_body_is_not_taken_for_a_form(coding: str) -> None:
    """A 415 that says which coding works, and the body is never parsed (RFC 9110 section 12.5.3)."""
    with pytest.raises(Problem) as caught:
        check_form(Headers({"Content-Type": FORM, "Content-Encoding": coding}).raw, "topic=a")
    assert (caught.value.status, caught.value.headers) == (415, {"Accept-Encoding": "identity"})


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_that_says_it_is_not_encoded_is_a_form(coding: str) -> None:
    """``identity`` is no coding."""
    check_form(Headers({"Content-Type": FORM, "Content-Encoding": coding}).raw, "topic=a")


@pytest.mark.parametrize("name", ["topic[]", "topic[0]", "topic[a]"])
def test_a_list_as_php_writes_it_is_told_how_to_repeat_a_field(name: str) -> None:
    """`http_build_query` spells arrays with brackets: the field would be ignored as an unknown one."""
    for form in ({name: ["a"]}, {"topic": ["a"], name: ["b"]}):
        with pytest.raises(Problem, match="repeat the field 'topic'"):
            update_from(form, Matching("https://hub.example/.well-known/mercure"))


@given(st.text(st.characters(max_codepoint=255)))
def test_any_content_type_is_read_or_refused(value: str) -> None:
    """A hostile Content-Type is a 415 at worst."""
    try:
        check_form(Headers({"Content-Type": value}).raw, "topic=a")
    except Problem as error:
        assert error.status == 415  # noqa: PT017


@pytest.fixture(params=WIRES)
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """The request is taken from our server past ASGI, or through it."""
    async with serving(WIRES[request.param], max_request_body_size=100_000) as running:
        yield running


async def test_the_answer_is_the_id(served: Served) -> None:
    """200 with the update's id as text, the client's own if it gave one."""
    response = await served.post({"topic": TOPIC, "id": "urn:x:1"})
    assert (response.status_code, response.text) == (200, "urn:x:1")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_an_id_of_ours_is_a_random_uuid() -> None:
    """Version 4, variant RFC 9562, and never the same."""
    ids = [update_from({"topic": [TOPIC]}, MATCHING).id for _ in range(100)]
    assert {(uuid.UUID(each).urn == each, uuid.UUID(each).version, uuid.UUID(each).variant) for each in ids} == {
        (True, 4, uuid.RFC_4122)
    }
    assert len(set(ids)) == 100


async def test_a_reused_id_is_the_clients_business(served: Served) -> None:
    """Without a key nothing is deduplicated."""
    assert await served.publish("1", id="same") == await served.publish("2", id="same")
    assert len(await served.hub.transport.read(0, 10)) == 2


async def test_a_repeated_key_appends_once(served: Served) -> None:
    """A repeated POST is answered with the first one's id."""
    headers = PUBLISHER | {"Idempotency-Key": '"k1"'}
    first, again = [await served.post({"topic": TOPIC, "data": "x"}, headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code, again.text) == (200, 200, first.text)
    assert len(await served.hub.transport.read(0, 10)) == 1


async def test_a_key_with_another_body_is_422(served: Served) -> None:
    """A key belongs to one request."""
    headers = PUBLISHER | {"Idempotency-Key": '"k1"'}
    await served.post({"topic": TOPIC, "data": "x"}, headers=headers)
    response = await served.post({"topic": TOPIC, "data": "y"}, headers=headers)
    assert response.status_code == 422
    assert "Idempotency-Key" in problem(response)["detail"]


async def test_publishing_needs_a_grant_for_every_topic(served: Served) -> None:
    """No token 401, a token for another topic 403, also if one of two topics is granted."""
    assert (await served.post({"topic": TOPIC}, headers={})).status_code == 401
    mine = bearer(token(publish=[TOPIC]))
    assert (await served.post({"topic": TOPIC}, headers=mine)).status_code == 200
    refused = await served.post({"topic": [TOPIC, "https://example.com/other"]}, headers=mine)
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


async def test_a_large_body_is_413(served: Served) -> None:
    """With or without Content-Length, the body is bounded, and the connection ends."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"topic=t&data="
        for _ in range(20):
            yield b"x" * 10_000

    told = await served.post(
        content=b"x" * 200_000, headers=PUBLISHER | {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert told.status_code == 413
    assert "100000" in problem(told)["detail"]
    headers = PUBLISHER | {"Content-Type": "application/x-www-form-urlencoded"}
    untold = await served.client.post(served.url, content=endless(), headers=headers)
    assert untold.status_code == 413


async def test_a_body_of_any_size_costs_no_more_than_the_bound(served: Served) -> None:
    """A client that goes on sending is cut off."""
    headers = PUBLISHER | {"Content-Type": "application/x-www-form-urlencoded"}
    with pytest.raises(httpx.TransportError):
        await served.client.post(served.url, content=b"x" * 64 * 1024 * 1024, headers=headers)


async def test_a_store_that_fails_is_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is gone or does not answer is a 503 that says when to come back, never a 2xx."""
    await served.hub.transport.close()
    response = await served.post({"topic": TOPIC})
    assert response.status_code == 503
    assert response.headers["retry-after"]

    async def hangs(_update: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(served.hub.transport, "append", hangs)
    monkeypatch.setattr(MemoryTransport, "submit", Transport.submit)
    monkeypatch.setattr("transports.contract.APPEND_TIMEOUT", 0.05)
    assert (await served.post({"topic": TOPIC})).status_code == 503


@pytest.mark.parametrize(
    ("error", "status"),
    [(IdempotencyConflict(), 422), (TransportFull("full"), 507), (TransportUnavailable("gone"), 503), (OSError(), 500)],
)
async def test_an_append_that_fails_says_how(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """What the store answers later reaches the publisher, and the connection serves the next request."""

    async def fails(_update: object) -> None:
        await asyncio.sleep(0)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(served.hub.transport, "append", fails)
        patched.setattr(MemoryTransport, "submit", Transport.submit)
        assert (await served.post({"topic": TOPIC})).status_code == status
    assert (await served.post({"topic": TOPIC})).status_code == 200


async def test_other_methods_are_405(served: Served) -> None:
    """PUT means nothing here."""
    response = await served.client.put(served.url)
    assert response.status_code == 405


def test_what_is_refused_again_holds_on_to_nothing() -> None:
    """Each refusal is a `Problem` of its own: one that is raised again grows by the frames that it passes."""
    matching = Matching("https://localhost/.well-known/mercure")
    raised = []
    for _ in range(2):
        with pytest.raises(Problem, match="own namespace") as caught:
            update_from({"topic": ["/.well-known/mercure"]}, matching)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
