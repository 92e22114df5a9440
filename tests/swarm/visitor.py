"""Runs in a container beside a hub, with Python's own library: an application that publishes, a browser that reads.

``python3 - EARLIEST URL …``: at each URL an update is published as Symfony's bundle does, and read as a page's
`EventSource` does, with a cookie. EARLIEST: how many updates the history must have before.
"""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import sys
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

KEY = b"!ChangeThisMercureHubJWTSecretKey!"
TOPIC = "https://example.com/books/1"
PAGE = "http://127.0.0.1:8000"
DEADLINE = 20


def part(content: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")


def token(**mercure: list[str]) -> str:
    signed = part({"typ": "JWT", "alg": "HS256"}) + b"." + part({"mercure": mercure})
    signature = base64.urlsafe_b64encode(hmac.digest(KEY, signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + signature).decode()


def connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.netloc, timeout=DEADLINE)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # self-signed, as the Go image's own
    return http.client.HTTPSConnection(parts.netloc, timeout=DEADLINE, context=context)


def events(url: str, **query: str) -> Iterator[str]:
    """The data of each event, of one line."""
    cookie = {"Cookie": f"mercureAuthorization={token(subscribe=['*'])}", "Origin": PAGE}
    asking = connection(url)
    asking.request("GET", f"{urlsplit(url).path}?{urlencode({'topic': TOPIC, **query})}", headers=cookie)
    response = asking.getresponse()
    assert response.status == 200, response.read()
    yield ""  # it is open
    while line := response.readline():
        if line.startswith(b"data: "):
            yield line[6:].decode().rstrip("\n")


def publish(url: str, data: str) -> None:
    bearer = {"Authorization": f"Bearer {token(publish=['*'])}", "Content-Type": "application/x-www-form-urlencoded"}
    asking = connection(url)
    asking.request("POST", urlsplit(url).path, urlencode({"topic": TOPIC, "data": data, "private": "on"}), bearer)
    response = asking.getresponse()
    assert response.status == 200, response.read()


def main(earliest: int, urls: list[str]) -> None:
    for url in urls:
        stream = events(url)
        next(stream)
        publish(url, f"through {url}")
        assert next(stream) == f"through {url}", url
    history = events(urls[0], lastEventID="earliest")
    for _ in range(1 + earliest + len(urls)):
        next(history)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
