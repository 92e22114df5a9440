"""What ``serve --dev`` prints for its user."""

import json
import shlex

from hub.cli.minting import Grant, Signing, mint
from hub.config.settings import DEV_KEY, Settings
from hub.generations import Generation, generations_in, topic_parameter

TOPIC = "https://example.com/books/1"
LIFETIME = 30 * 86400.0
"""Seconds that the token in the printed command lasts."""

_TEXT = """\
A hub to try is listening on {url}

Subscribe:

  curl -N {reader}{stream}

Publish:

  curl {writer}-d topic={topic} -d {data} {url}

Or on a page: {debugger}

A subscriber that adds &last_event_id=earliest gets what was published before. Ctrl-C ends the hub.
"""


def what_to_try(settings: Settings, url: str) -> str:
    """Two commands to paste, with a token that the hub at ``url`` takes."""
    bearer = f"-H 'Authorization: Bearer {_token(settings)}' "
    parameter = topic_parameter(settings.protocol)
    return _TEXT.format(
        url=url,
        topic=TOPIC,
        reader="" if settings.anonymous else bearer,
        debugger=f"{url}/debug/",
        stream=shlex.quote(f"{url}?{parameter}={TOPIC}"),
        writer=bearer,
        data=shlex.quote(f"data={json.dumps({'status': 'available'})}"),
    )


def _token(settings: Settings) -> str:
    """With keys of one's own, the place where a token goes."""
    keys = {
        (settings.publisher_jwt_key, settings.publisher_jwt_alg),
        (settings.subscriber_jwt_key, settings.subscriber_jwt_alg),
    }
    if keys != {(DEV_KEY, "HS256")}:
        return "YOUR_TOKEN"
    grant, signing = Grant(["*"], [] if settings.anonymous else ["*"], LIFETIME), Signing(DEV_KEY, "HS256")
    if Generation.V0 in generations_in(settings.protocol):
        return mint(grant, signing)
    return mint(grant, signing, (next(iter(settings.trusted_issuers), ""), settings.resource_identifier or ""))
