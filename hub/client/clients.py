"""`Client` and `AsyncClient`, for any Mercure hub, of 1.0 and of 0.x. They need the extra ``client``.

What is decided is in `hub.client.protocol`, once for both; here it is sent, waited for, and handed out.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, Self
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import jwt

from hub.client.pipeline import Pipeline, goes_direct
from hub.client.protocol import (
    IDEMPOTENCY_KEY,
    Answer,
    Cursor,
    Gap,
    Idempotency,
    NoAnswer,
    Outcome,
    Refused,
    Request,
    Steps,
    Unreachable,
    address_of,
    bearer,
    form_of,
    hub_in,
    judge,
    publishing,
    reason_of,
    retry_after_of,
)
from hub.client.sse_parser import Event, Parser

__all__ = ["AsyncClient", "Client", "Event", "Gap", "Key", "Refused", "Unreachable"]

CONNECTIONS = 64
"""Kept to one hub."""
AT_ONCE = 64
"""Requests that `publish_many` has under way: so many share a commit of the hub."""
UNSHARED = 8
"""The same where each has a connection of its own: more of them cost httpx more CPU each than they save in waiting."""
PATIENCE = 30.0
"""Seconds that a publication is tried for."""
SILENCE = 120.0
"""Seconds without a byte until a stream counts as lost; hubs send a comment every 40 s or so."""
TIMEOUT = 10.0
WAITED = NoAnswer("", sent=False)
"""What comes of a wait; nobody looks."""
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Key:
    """Mints 0.x tokens, and a new one before the last one ends.

    ``publish``, ``subscribe``: topics, URI Templates or ``*``. ``lifetime``: seconds of each.
    """

    def __init__(
        self,
        key: str,
        *,
        publish: Sequence[str] = (),
        subscribe: Sequence[str] = (),
        alg: str = "HS256",
        lifetime: float = 3600,
    ) -> None:
        granted = {"publish": list(publish), "subscribe": list(subscribe)}
        self._claims = {"mercure": {name: topics for name, topics in granted.items() if topics}}
        self._key, self._alg, self._lifetime = key, alg, lifetime
        self._token, self._until = "", 0.0

    def __call__(self) -> str:
        now = time.time()
        if now >= self._until:
            self._token = jwt.encode({**self._claims, "exp": int(now + self._lifetime)}, self._key, self._alg)
            self._until = now + 0.9 * self._lifetime
        return self._token


Token = str | Callable[[], str] | None
"""A token, or what gives one whenever it is needed, such as a `Key`."""


class Update(NamedTuple):
    """One publication, for `publish_many`."""

    topic: str | Sequence[str]
    data: str = ""
    private: bool = False
    id: str | None = None
    type: str | None = None
    retry: int | None = None
    idempotency_key: str | None = None


class _Common:
    """What both clients have: where the hub is, which token is sent, whether it knows idempotency keys."""

    def __init__(self, url: str, token: Token, patience: float) -> None:
        self.url = url
        self._given, self._patience = token, patience
        self._idempotency = Idempotency()

    def _credentials(self) -> dict[str, str]:
        return _credentials_of(self._given)

    def _publishing(self, update: Update) -> Steps:
        topics = [update.topic] if isinstance(update.topic, str) else update.topic
        form = form_of(topics, update.data, private=update.private, id=update.id, type=update.type, retry=update.retry)
        key = update.idempotency_key or str(uuid4())
        return publishing(self.url, form, self._credentials, self._idempotency, key, self._patience, time.monotonic)

    def _stream_headers(self, cursor: Cursor) -> list[tuple[bytes, bytes]]:
        """Ids go out as UTF-8, as browsers send them."""
        headers = {**self._credentials(), "Accept": "text/event-stream", "Cache-Control": "no-cache"}
        headers |= {} if cursor.last_event_id is None else {"Last-Event-ID": cursor.last_event_id}
        return [(name.encode(), value.encode()) for name, value in headers.items()]


def _begun(response: httpx.Response, text: str, cursor: Cursor) -> Gap | None:
    """A stream's head: what was lost before it. Raises `Refused`, `Unreachable`."""
    if response.status_code == 429:
        raise Unreachable("429", retry_after_of(response.headers))
    judge(response.status_code, response.headers, text, response.reason_phrase)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise Refused(response.status_code, f"{response.url.host} does not answer with a stream of events")
    told = response.headers.get("Mercure-Last-Event-ID") or response.headers.get("Last-Event-ID")
    return cursor.starts_at(told)


def _streamed(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """A redirect is followed, as `EventSource` does; httpx keeps the token from another origin."""
    return {"headers": headers, "timeout": SILENCE, "follow_redirects": True}


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.text, response.reason_phrase)


def _no_answer(error: httpx.TransportError) -> NoAnswer:
    return NoAnswer(f"the hub does not answer ({reason_of(error)})", not isinstance(error, _NEVER_SENT))


def _discovered(response: httpx.Response) -> tuple[str, str | None]:
    found = hub_in(", ".join(response.headers.get_list("link")))
    if found is None:
        raise Refused(response.status_code, f"{response.url} names no hub: its answer has no Link with rel=mercure")
    return urljoin(str(response.url), found[0]), found[1]


class AsyncClient(_Common):
    """For asyncio: ``async with AsyncClient(url, token=…) as hub: await hub.publish(topic, data)``.

    ``token``: see `Token`. ``patience``: seconds that a publication is tried for. ``http``: a client of one's own, with
    its proxies and certificates, which stays open. Without one, publications to a hub that knows idempotency keys share
    one connection, on which they do not wait for each other (`hub.client.pipeline`).
    """

    def __init__(
        self, url: str, *, token: Token = None, patience: float = PATIENCE, http: httpx.AsyncClient | None = None
    ) -> None:
        super().__init__(url, token, patience)
        self._is_own = http is None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT, limits=limits)
        self._pipeline = Pipeline(url, TIMEOUT) if self._is_own and goes_direct(url) else None

    @classmethod
    async def discover(cls, document: str, *, token: Token = None) -> "tuple[AsyncClient, str | None]":
        """The hub that a document's ``Link`` header names, and the last event id that the document holds, or None.

        Raises `Refused` where it names none, `Unreachable`.
        """
        async with httpx.AsyncClient(timeout=TIMEOUT) as http:
            try:
                url, last_event_id = _discovered(await http.get(document, headers=_credentials_of(token)))
            except httpx.TransportError as error:
                raise Unreachable(_no_answer(error).why) from error
        return cls(url, token=token), last_event_id

    async def publish(
        self,
        topic: str | Sequence[str],
        data: str = "",
        *,
        private: bool = False,
        id: str | None = None,
        type: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Publish; the update's id, once it is durable. ``retry``: milliseconds, for the subscribers.

        It is tried again while that is safe: with a hub that says in its metadata that it knows idempotency keys, after
        every failure, and it is stored once. Raises `Refused`, `Unreachable`.
        """
        return await self._publish(Update(topic, data, private, id, type, retry, idempotency_key))

    async def publish_many(self, updates: Iterable[Update], *, at_once: int | None = None) -> list[str]:
        """Publish all, so many at a time and so in no certain order; their ids, in the order of ``updates``.

        ``at_once``: `AT_ONCE`, or `UNSHARED` where each takes a connection of its own. After a failure no more are
        begun, those that are under way are finished, and what the first that failed raised is raised.
        """
        numbered, ids, failures = enumerate(updates), dict[int, str](), list[Exception]()

        async def work() -> None:
            try:
                for number, update in numbered:
                    ids[number] = await self._publish(update)
                    if failures:
                        return
            except Exception as error:
                failures.append(error)

        if self._idempotency.known is None:
            with suppress(Unreachable):  # each publication asks again, as long as it has patience
                await self._run(self._idempotency.find_out(self.url))
        many = AT_ONCE if self._pipeline and self._idempotency.known else UNSHARED
        await asyncio.gather(*(work() for _ in range(at_once or many)))
        if failures:
            raise failures[0]
        return [ids[number] for number in range(len(ids))]

    async def _publish(self, update: Update) -> str:
        return await self._run(self._publishing(update))

    async def _run(self, steps: Steps) -> str:
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._do(step))
        except StopIteration as end:
            return str(end.value)

    async def _do(self, step: Request | float) -> Outcome:
        if not isinstance(step, Request):
            await asyncio.sleep(step)
            return WAITED
        if self._pipeline and IDEMPOTENCY_KEY in step.headers:
            return await self._pipeline.send(step)
        try:
            return _answer(await self._http.request(step.method, step.url, headers=step.headers, content=step.body))
        except httpx.TransportError as error:
            return _no_answer(error)

    async def subscribe(
        self,
        topics: Sequence[str] = (),
        *,
        matches: Sequence[str] = (),
        patterns: Sequence[str] = (),
        last_event_id: str | None = None,
    ) -> AsyncIterator[Event | Gap]:
        """The events of a stream that comes back with its cursor whenever it ends; it never ends by itself.

        ``topics``: exact or URI Templates (0.x); ``matches``: exact; ``patterns``: URL patterns (1.0). A `Gap` comes
        where history no longer covers what was missed. Raises `Refused`.
        """
        address, cursor = address_of(self.url, topics, matches, patterns), Cursor(last_event_id)
        while True:
            asked = 0.0
            try:
                headers = self._stream_headers(cursor)
                async with self._http.stream("GET", address, **_streamed(headers)) as response:
                    text = "" if response.is_success else (await response.aread()).decode("utf-8", "replace")
                    if gap := _begun(response, text, cursor):
                        yield gap
                    parser = Parser(cursor.last_event_id or "")
                    async for chunk in response.aiter_bytes():
                        for event in cursor.take(parser, chunk):
                            yield event
            except Unreachable as error:
                asked = error.retry_after
            except httpx.TransportError:
                pass
            await asyncio.sleep(cursor.pause(asked))

    async def aclose(self) -> None:
        """Close the connections, unless the HTTP client is the caller's."""
        if self._pipeline:
            await self._pipeline.close()
        if self._is_own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Client(_Common):
    """The same, blocking: for threads and for programs without an event loop. See `AsyncClient`."""

    def __init__(
        self, url: str, *, token: Token = None, patience: float = PATIENCE, http: httpx.Client | None = None
    ) -> None:
        super().__init__(url, token, patience)
        self._is_own = http is None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
        self._http = http or httpx.Client(timeout=TIMEOUT, limits=limits)

    @classmethod
    def discover(cls, document: str, *, token: Token = None) -> "tuple[Client, str | None]":
        """See `AsyncClient.discover`."""
        _may_block()
        try:
            response = httpx.get(document, headers=_credentials_of(token), timeout=TIMEOUT)
        except httpx.TransportError as error:
            raise Unreachable(_no_answer(error).why) from error
        url, last_event_id = _discovered(response)
        return cls(url, token=token), last_event_id

    def publish(
        self,
        topic: str | Sequence[str],
        data: str = "",
        *,
        private: bool = False,
        id: str | None = None,
        type: str | None = None,
        retry: int | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """See `AsyncClient.publish`. Raises RuntimeError in a coroutine too, whose event loop it would stop."""
        return self._publish(Update(topic, data, private, id, type, retry, idempotency_key))

    def publish_many(self, updates: Iterable[Update], *, at_once: int | None = None) -> list[str]:
        """See `AsyncClient.publish_many`. A callable that gives the token is asked once, unless it is a `Key`."""
        _may_block()
        given = self._given if isinstance(self._given, Key) or not callable(self._given) else self._given()

        async def publish(updates: list[Update]) -> list[str]:
            async with AsyncClient(self.url, token=given, patience=self._patience) as client:
                return await client.publish_many(updates, at_once=at_once)

        if self._is_own:
            return asyncio.run(publish(list(updates)))  # listed here: an ORM's query may not run in an event loop
        with ThreadPoolExecutor(at_once or UNSHARED) as threads:
            return list(threads.map(self._publish, updates))

    def _publish(self, update: Update) -> str:
        _may_block()
        steps = self._publishing(update)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._do(step))
        except StopIteration as end:
            return str(end.value)

    def _do(self, step: Request | float) -> Outcome:
        if not isinstance(step, Request):
            time.sleep(step)
            return WAITED
        try:
            return _answer(self._http.request(step.method, step.url, headers=step.headers, content=step.body))
        except httpx.TransportError as error:
            return _no_answer(error)

    def subscribe(
        self,
        topics: Sequence[str] = (),
        *,
        matches: Sequence[str] = (),
        patterns: Sequence[str] = (),
        last_event_id: str | None = None,
    ) -> Iterator[Event | Gap]:
        """See `AsyncClient.subscribe`."""
        address, cursor = address_of(self.url, topics, matches, patterns), Cursor(last_event_id)
        while True:
            _may_block()
            asked = 0.0
            try:
                headers = self._stream_headers(cursor)
                with self._http.stream("GET", address, **_streamed(headers)) as response:
                    text = "" if response.is_success else response.read().decode("utf-8", "replace")
                    if gap := _begun(response, text, cursor):
                        yield gap
                    parser = Parser(cursor.last_event_id or "")
                    for chunk in response.iter_bytes():
                        yield from cursor.take(parser, chunk)
            except Unreachable as error:
                asked = error.retry_after
            except httpx.TransportError:
                pass
            time.sleep(cursor.pause(asked))

    def close(self) -> None:
        """Close the connections, unless the HTTP client is the caller's."""
        if self._is_own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _credentials_of(token: Token) -> dict[str, str]:
    return bearer(token() if callable(token) else token)


def _may_block() -> None:
    """Raises RuntimeError in a coroutine: everything else of its event loop would stand still."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("a blocking client would stop this event loop: use AsyncClient, or a thread (asyncio.to_thread)")
