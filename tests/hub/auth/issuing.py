"""An issuer on a real HTTPS socket: its JWK Set, which it can rotate, and tokens as Keycloak signs them."""

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.authority import Authority

DETAIL = "https://mercure.rocks/authorization-detail"


@dataclass
class Issuer:
    """``keys``: by their ids; the newest signs. ``answers``: what is answered instead of the set, once each."""

    url: str = ""
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    cache_control: str = "max-age=600"
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: int = 0

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on; the old ones stay in the set."""
        self.keys[kid] = rsa.generate_private_key(65537, 2048)

    def document(self) -> dict[str, Any]:
        algorithm = jwt.get_algorithm_by_name("RS256")
        entries = ((kid, algorithm.to_jwk(key.public_key(), as_dict=True)) for kid, key in self.keys.items())
        return {"keys": [{**entry, "kid": kid, "alg": "RS256", "use": "sig"} for kid, entry in entries]}

    def token(self, audience: str, *actions: str, kid: str | None = None, **claims: Any) -> str:
        """An access token of 1.0 for every topic, with what Keycloak puts beside it."""
        kid = kid or [*self.keys][-1]
        now = int(time.time())
        granted = [{"type": DETAIL, "actions": list(actions), "topics": [{"match": "*"}]}]
        keycloak = {"azp": "app", "scope": "openid profile", "realm_access": {"roles": ["user"]}, "sid": str(uuid4())}
        content = {
            **keycloak,
            "iss": self.url,
            "aud": [audience, "account"],
            "sub": str(uuid4()),
            "client_id": "app",
            "iat": now,
            "exp": now + 300,
            "jti": f"trrtcc:{uuid4()}",
            "authorization_details": granted,
            **claims,
        }
        return jwt.encode(content, self.keys[kid], "RS256", headers={"typ": "at+jwt", "kid": kid})


@contextmanager
def issuing(authority: Authority) -> Iterator[Issuer]:
    """Serve it at 127.0.0.1, with a certificate of the tests' authority."""
    issuer = Issuer()
    issuer.rotate("first")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            said = json.dumps(issuer.document()).encode()
            found = issuer.answers.pop(0) if issuer.answers else (200, {"Cache-Control": issuer.cache_control}, said)
            status, headers, body = found
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("issuer"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        issuer.url = f"https://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
