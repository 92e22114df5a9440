"""JWK Sets that are fetched over https, kept for a while, and fetched again in the background.

Theory of operation. A set is fetched when the hub starts, when what was told about its age is over, and when a token
names a key that it does not have, at most once in `PAUSE` seconds. A request never waits for that: a token that names a
new key is refused until the set is there, which takes one round trip. While a fetch fails the old set counts, and the
log has one line when that begins and one when it is over.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from hub.auth.keys import InvalidKey, VerificationKey, keys_of_set
from transports.episode import Episode

SHORTEST, LONGEST = 300.0, 86_400.0
"""Seconds that a set is kept, whatever its ``Cache-Control`` says."""
PAUSE = 60.0
"""Seconds between two fetches that failed, or that tokens with unknown keys brought about."""
TIMEOUT = 5.0
"""Seconds that a fetch may take."""
LARGEST = 1024 * 1024
"""Bytes of a set."""
_PART = 64 * 1024
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE)

logger = logging.getLogger(__name__)


class RemoteSet:
    """The keys at ``url``; `hub.auth.keyring.KeySet`. None of them is there before the first `fetch`."""

    def __init__(self, url: str, algorithms: tuple[str, ...] = ()) -> None:
        self.url = url
        self.algorithms = algorithms
        self.keys: tuple[VerificationKey, ...] = ()
        self.on_change: Callable[[], object] = lambda: None
        """Called when other keys are there than before."""
        self.age = PAUSE
        self._wanted = asyncio.Event()
        self._trouble = Episode(logger)

    def missed(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        """Keep the set fresh after its first `fetch`, for ever."""
        while True:
            # A token that names an unknown key within this time has the set fetched at its end.
            await asyncio.sleep(PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.age - PAUSE):
                    await self._wanted.wait()
            await self.fetch()

    async def fetch(self) -> None:
        """Fetch it now. A failure is one line in the log."""
        self._wanted.clear()
        try:
            async with asyncio.timeout(TIMEOUT):
                text, self.age = await asyncio.to_thread(_get, self.url)
            keys = keys_of_set(text, self.algorithms, secrets=False, name=self.url)
        except (OSError, HTTPException, InvalidKey, TimeoutError, ValueError) as error:
            self.age = PAUSE
            reason = getattr(error, "reason", None) or error
            kept = "the keys from before count" if self.keys else "its tokens are refused until it can be"
            self._trouble.begin(f"the JWK Set {self.url} can't be fetched, {kept}: {reason or 'it took too long'}")
            return
        self._trouble.end(f"the JWK Set {self.url} is fetched again")
        if keys != self.keys:
            self.keys = keys
            self.on_change()


class _SameHost(HTTPRedirectHandler):
    """Follows a redirect to the same origin alone: keys come from where they were said to be."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            raise URLError(f"it redirects to another origin, {urlsplit(newurl).netloc}; name that one")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _get(url: str) -> tuple[bytes, float]:
    """The content, and the seconds that it may be kept. Blocks; raises OSError, HTTPException, ValueError."""
    end = time.monotonic() + TIMEOUT
    request = Request(url, headers={"Accept": "application/jwk-set+json, application/json"})  # noqa: S310 - http(s)
    try:
        with build_opener(_SameHost).open(request, timeout=TIMEOUT) as response:
            parts = []
            size = 0
            while part := response.read1(_PART):
                parts.append(part)
                size += len(part)
                if size > LARGEST:
                    raise ValueError(f"it is larger than {LARGEST} bytes")
                if time.monotonic() > end:
                    raise TimeoutError
            found = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
    except HTTPError as error:
        error.close()
        raise ValueError(f"status {error.code}") from None
    age = float(found[1]) if found else SHORTEST
    return b"".join(parts), min(max(age, SHORTEST), LONGEST)
