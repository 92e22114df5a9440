"""The key rings that the settings name: keys and files that are read now, JWK Sets that are fetched later."""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple

from hub.auth.jwks import RemoteSet
from hub.auth.keyring import FixedKeys, KeyRing, KeySet
from hub.auth.keys import InvalidKey, keys_of_set, load_keys, read_set
from hub.config.issuers import KeySource
from hub.config.settings import SETTINGS, Settings

Role = Literal["publisher", "subscriber"]

logger = logging.getLogger(__name__)


class Rings(NamedTuple):
    """``remote``: the sets of both that have to be fetched."""

    publisher: KeyRing
    subscriber: KeyRing
    remote: tuple[RemoteSet, ...]


def rings_of(settings: Settings, known: Sequence[RemoteSet] = ()) -> Rings:
    """Read every key that the settings name; of ``known`` sets those that are named again stay. Raises `InvalidKey`."""
    sources = _Sources(settings, known)
    publisher, subscriber = sources.ring("publisher"), sources.ring("subscriber")
    return Rings(publisher, subscriber, tuple(sources.remote.values()))


class _Sources:
    """``remote``: by URL and algorithms, each once however often it is named."""

    def __init__(self, settings: Settings, known: Sequence[RemoteSet]) -> None:
        self._settings = settings
        self._known = {(each.url, each.algorithms): each for each in known}
        self.remote: dict[tuple[str, tuple[str, ...]], RemoteSet] = {}

    def ring(self, role: Role) -> KeyRing:
        own: list[KeySet] = []
        name = f"{role}_jwt_key"
        if key := getattr(self._settings, name):
            own.append(self._fixed(key, getattr(self._settings, f"{role}_jwt_alg"), SETTINGS[name].variable))
        if url := getattr(self._settings, f"{role}_jwks_url"):
            own.append(self._set(url, ()))
        issuers: dict[str, Sequence[KeySet]] = {}
        for each in self._settings.issuers:
            source: KeySource | None = getattr(each, role)
            if source is None:  # it has keys for the other role alone, and none here, even if it is trusted by name
                issuers[each.identifier] = ()
            elif source.jwks_url:
                issuers[each.identifier] = (self._set(source.jwks_url, source.algorithms),)
            else:
                name = f"the key of {each.identifier}"
                issuers[each.identifier] = (self._fixed(source.key, source.algorithms[0], name),)
        return KeyRing(own, issuers, self._settings.trusted_issuers)

    def _fixed(self, key: str, algorithm: str, name: str) -> FixedKeys:
        keys = load_keys(key, algorithm, name=name)
        if any(each.weak for each in keys):
            logger.warning("%s is shorter than its algorithm's digest (RFC 7518 section 3.2); use a longer one", name)
        return FixedKeys(keys)

    def _set(self, url: str, algorithms: tuple[str, ...]) -> KeySet:
        if url.startswith("file:"):
            try:
                return FixedKeys(keys_of_set(read_set(url), algorithms, secrets=True, name=url))
            except OSError as error:
                raise InvalidKey(f"{url} cannot be read: {error.strerror}") from None
        named = (url, algorithms)
        if named not in self.remote:
            self.remote[named] = self._known.get(named) or RemoteSet(url, algorithms)
        return self.remote[named]
