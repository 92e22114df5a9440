"""One token judged, check by check: in the order in which they are made, until the first that fails. Pure.

The endpoints keep the outcome, `mercure-hub explain` shows every check. What a check shows comes from the token before
its signature was verified: it is shown to the operator, who knows that, and bounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from hub.auth.grants import Grants, grants_0x, grants_1_0, unix_time
from hub.auth.keyring import KeyRing, Verified, is_access_token, issuer_of, peek
from hub.auth.keys import InvalidSignature, Token, VerificationKey
from hub.generations import Generation
from hub.matching.matchers import Matching
from hub.problems import InvalidToken, Reason

MAX_TOKEN = 8_192  # characters
MAX_SHOWN = 120
"""Characters of one fact: a token may hold 8 KiB of anything."""
CLOCK_SKEW = 5.0  # seconds of leeway for nbf alone: issuers set it to their own now; exp ends streams and has none


class Check(NamedTuple):
    """What was looked at, and what was found; every check but the last one of a refusal was passed."""

    name: str
    found: str


@dataclass(frozen=True)
class Judge:
    """``audience``: what tokens of 1.0 must be made for. ``generations``: those that are served."""

    ring: KeyRing
    audience: str
    generations: Sequence[Generation]
    matching: Matching

    def grants(self, text: str, now: float, checks: list[Check] | None = None) -> Grants:
        """What the token allows. Raises `InvalidToken` with the reason; ``checks`` gets what was looked at.

        Whether it has expired is looked at last, so that everything else of an old token is told too.
        """
        checks = [] if checks is None else checks
        facts: dict[str, object] = {"token": fingerprint(text)}
        try:
            return self._grants(text, now, checks, facts)
        except InvalidToken as error:
            refusal = error.refusal
            raise InvalidToken(refusal.reason, refusal.sentence, **{**facts, **refusal.facts}) from None

    def _grants(self, text: str, now: float, checks: list[Check], facts: dict[str, object]) -> Grants:
        if len(text) > MAX_TOKEN:
            raise InvalidToken(Reason.TOO_LARGE, f"the token has {len(text)} characters; at most {MAX_TOKEN} are read")
        header, claims = self._parts(text)
        facts |= {name: shown(header[name]) for name in ("alg", "kid") if name in header}
        facts |= {"iss": shown(claims["iss"])} if "iss" in claims else {}
        generation = self._generation(header, checks)
        token, verified = self._verify(text, header, claims, generation, checks)
        if generation is Generation.V1:
            self._check_audience(token.claims, checks)
        grants = (grants_1_0 if generation is Generation.V1 else grants_0x)(token.claims, self.matching)
        self._check_times(token.claims, grants, now, checks)
        named = token.claims.get("sub")
        subject = f"{shown(claims.get('iss'))} {named}" if named and isinstance(named, str) else digest(text)
        return grants._replace(verified=verified, subject=subject)

    def _parts(self, text: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        try:
            if text.count(".") != 2:
                raise InvalidSignature("it has not three parts between dots")
            return peek(text, 0), peek(text, 1)
        except InvalidSignature:
            raise InvalidToken(
                Reason.MALFORMED, "it is no token: three parts between dots, the first two JSON objects in base64url"
            ) from None

    def _generation(self, header: Mapping[str, Any], checks: list[Check]) -> Generation:
        generation = Generation.V1 if is_access_token(header) else Generation.V0
        checks.append(Check("typ", f"{shown(header.get('typ'))}: a token of {generation}"))
        if generation not in self.generations:
            raise InvalidToken(
                Reason.WRONG_GENERATION,
                f"the token is one of {generation}, and this hub serves {' and '.join(self.generations)} alone:"
                " MERCURE_PROTOCOL says which; a token of 1.0 has the typ at+jwt",
            )
        return generation

    def _verify(
        self,
        text: str,
        header: Mapping[str, Any],
        claims: Mapping[str, Any],
        generation: Generation,
        checks: list[Check],
    ) -> tuple[Token, Verified]:
        issuer = None
        if generation is Generation.V1:
            issuer = issuer_of(claims)
            checks.append(Check("iss", shown(claims.get("iss"))))
            if issuer is None:
                raise InvalidToken(Reason.MISSING_CLAIM, "the token has no iss, which tokens of 1.0 need")
            if not self.ring.knows(issuer):
                raise InvalidToken(
                    Reason.UNKNOWN_ISSUER,
                    f"iss is {shown(issuer)}, whom this hub does not trust here: add it to MERCURE_TRUSTED_ISSUERS, or"
                    " to MERCURE_ISSUERS with its keys",
                )
        keys = self._candidates(header, issuer, checks)
        for key in keys:
            try:
                token = key.verify(text)
            except InvalidSignature:
                continue
            checks.append(Check("signature", "verified"))
            return token, Verified(key, issuer)
        checks.append(Check("signature", f"not one of {len(keys)} keys"))
        raise InvalidToken(
            Reason.BAD_SIGNATURE,
            "no key of this hub has signed the token: the secret, or the public key, is another one than its issuer's",
        )

    def _candidates(
        self, header: Mapping[str, Any], issuer: str | None, checks: list[Check]
    ) -> Sequence[VerificationKey]:
        algorithm = header.get("alg")
        known = sorted({key.algorithm for key in self.ring.of_issuer(issuer)})
        checks.append(Check("alg", f"{shown(algorithm)}; keys here are for {', '.join(known) or 'nothing'}"))
        if algorithm not in known:
            raise InvalidToken(
                Reason.WRONG_ALGORITHM,
                f"alg is {shown(algorithm)}, and the keys here verify {', '.join(known) or 'no token at all'}:"
                " MERCURE_…_JWT_ALG says which",
            )
        keys = self.ring.candidates(header, issuer)
        if "kid" in header:
            checks.append(Check("kid", f"{shown(header['kid'])}: {len(keys)} keys to try"))
        return keys

    def _check_audience(self, claims: Mapping[str, Any], checks: list[Check]) -> None:
        audiences = claims.get("aud")
        checks.append(Check("aud", f"{shown(audiences)}; this hub is {self.audience}"))
        if audiences is None:
            raise InvalidToken(Reason.MISSING_CLAIM, f"the token has no aud, and tokens of 1.0 need {self.audience}")
        if self.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise InvalidToken(
                Reason.WRONG_AUDIENCE,
                f"aud is {shown(audiences)}, this hub is {self.audience}: set MERCURE_RESOURCE_IDENTIFIER",
                aud=shown(audiences),
                wanted=self.audience,
            )

    def _check_times(self, claims: Mapping[str, Any], grants: Grants, now: float, checks: list[Check]) -> None:
        if "nbf" in claims:
            wait = unix_time(claims["nbf"], "nbf") - now
            checks.append(Check("nbf", f"{abs(wait):.0f} s {'from now' if wait > 0 else 'ago'}"))
            if wait > CLOCK_SKEW:
                raise InvalidToken(
                    Reason.NOT_YET_VALID, f"the token is valid in {wait:.0f} s: compare the clocks of issuer and hub"
                )
        left = None if grants.expires is None else grants.expires - now
        checks.append(Check("exp", "none: for ever" if left is None else f"{left:.0f} s from now"))
        if left is not None and left <= 0:
            raise expired(-left)


def expired(seconds: float, **facts: object) -> InvalidToken:
    """The refusal of a token whose ``exp`` was so long ago."""
    return InvalidToken(Reason.EXPIRED, f"the token has expired {seconds:.0f} s ago: get another one", **facts)


def fingerprint(text: str) -> str:
    """What an operator can compare a token with, and nobody can use."""
    return digest(text)[:8]


def digest(text: str) -> str:
    """SHA-256, as hexadecimal digits."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def shown(value: object) -> str:
    """One fact as it may stand in a line of the log."""
    text = str(value) if value is not None else "none"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
