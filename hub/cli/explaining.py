"""A token explained with the settings at hand, without a hub."""

from hub.auth import explaining
from hub.auth.judging import Judge
from hub.auth.sources import rings_of
from hub.config.settings import Settings
from hub.generations import generations_in
from hub.matching.matchers import Matching


def explained(text: str, role: str, settings: Settings, url: str) -> tuple[bool, list[str]]:
    """Whether the token is accepted, and the lines that say why. Raises `hub.auth.keys.InvalidKey`.

    ``url``: the hub's, which counts where the settings name no resource identifier. JWK Sets are not fetched.
    """
    rings = rings_of(settings)
    audience = settings.resource_identifier or url
    ring = rings.publisher if role == "publisher" else rings.subscriber
    judge = Judge(ring, audience, generations_in(settings.protocol), Matching(audience))
    accepted, lines = explaining.explained(judge, role, text)
    return accepted, [*(f"the keys at {each.url} are not fetched here" for each in rings.remote), *lines]
