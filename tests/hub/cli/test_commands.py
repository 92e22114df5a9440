"""The command line: what each command prints, where, and its exit code."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result

from hub.cli.commands import main
from hub.config.settings import DEV_KEY, Settings
from hub.config.values import Listen
from hub.server.server import Surroundings
from tests.hub.client.test_client import Hub, serving, stream

SECRET = "a secret that is long enough for every algorithm: 64 bytes and a few more"
OTHER = "another secret that is long enough for every algorithm, 64 bytes and more"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's own shell has set does not count."""
    for name in [*os.environ]:
        if name.startswith("MERCURE_") or name == "SERVER_NAME":
            monkeypatch.delenv(name)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


def run(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=environment)


def claims(result: Result, key: str = DEV_KEY, **options: Any) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    decoded: dict[str, Any] = jwt.decode(
        result.stdout.strip(), key, algorithms=["HS256"], options={"verify_aud": False}, **options
    )
    return decoded


def test_help_names_every_command() -> None:
    """Each with a line; what the Go hub's image is started with is not among them."""
    assert re.findall(r"^  ([a-z][\w-]+)  +\w", run("--help").stdout, re.MULTILINE) == [
        *("backup", "check", "explain", "export", "health", "import", "migrate-check", "plan", "publish"),
        *("serve", "stats", "subscribe", "token"),
    ]


@pytest.mark.parametrize("name", ["caddy", "/usr/bin/caddy"])
def test_the_go_images_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``caddy run`` serves as the Caddyfile says, ``caddy version`` says what this is; nothing else is understood."""
    assert "not Caddy" in run(name, "version").stdout
    for other in ("fmt", "reload", "stop"):
        assert run(name, other).exit_code == 2
    (tmp_path / "Caddyfile").write_text(
        "http://localhost:8080 {\n mercure {\n  publisher_jwt key\n  anonymous\n }\n}\n"
    )
    seen: list[Settings] = []
    monkeypatch.setattr("hub.server.workers.run", lambda settings, _: seen.append(settings))
    result = run(name, "run", "--config", f"{tmp_path}/Caddyfile", "--adapter", "caddyfile")
    assert result.exit_code == 0, result.stderr
    assert (seen[0].listen, seen[0].anonymous) == ((Listen("", 8080, tls=False),), True)


def test_version_is_the_distributions() -> None:
    """``--version`` says name and number."""
    assert re.fullmatch(r"mercure-hub \d+\.\d+\.\d+\S*\n", run("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve"], "mercure-hub: MERCURE_PUBLISHER_JWT_KEY and MERCURE_SUBSCRIBER_JWT_KEY are not set: "),
        (["serve", "--dev", "--heartbeat", "soon"], "mercure-hub: --heartbeat: 'soon' is not a duration"),
        (["check", "--dev", "--listen", "x"], "mercure-hub: --listen: 'x' is not HOST:PORT"),
        (["health", "--listen", "x"], "mercure-hub: --listen: 'x' is not HOST:PORT"),
        (["token", "--publish", "*"], "mercure-hub: no key to sign with: --key, --dev or MERCURE_PUBLISHER_JWT_KEY"),
    ],
)
def test_a_wrong_setting_is_one_line_and_2(arguments: list[str], sentence: str) -> None:
    """Exit code 2, one line on stderr, nothing on stdout."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def served(monkeypatch: pytest.MonkeyPatch, *arguments: str, code: int = 0, **environment: str) -> tuple[Result, Any]:
    seen: list[Settings] = []

    def serve(settings: Settings, around: Surroundings) -> int:
        assert around.reread is not None
        assert around.reread() == settings
        seen.append(settings)
        around.on_ready("http://127.0.0.1:4321")
        return code

    monkeypatch.setattr("hub.server.workers.run", serve)
    result = run("serve", *arguments, **environment)
    return result, seen[0]


def test_serve_hands_over_every_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flag of the documented command line arrives as its setting, and the exit code is the server's."""
    flags = (
        "--listen :1 --transport-url memory:// --publisher-jwt-key p --publisher-jwt-alg HS384 --subscriber-jwt-key s "
        "--subscriber-jwt-alg HS512 --anonymous --cors-origins http://a --publish-origins http://b --heartbeat 1s "
        "--write-timeout 2s --dispatch-timeout 3s --drain 4s --workers 2 --protocol 1.0 "
        "--trusted-issuers https://i --resource-identifier https://r"
    )
    result, settings = served(monkeypatch, *flags.split(), code=3)
    assert result.exit_code == 3
    assert settings == Settings(
        publisher_jwt_key="p",
        subscriber_jwt_key="s",
        publisher_jwt_alg="HS384",
        subscriber_jwt_alg="HS512",
        transport_url="memory://",
        listen=(Listen("", 1),),
        anonymous=True,
        cors_origins=("http://a",),
        publish_origins=("http://b",),
        heartbeat=1,
        write_timeout=2,
        dispatch_timeout=3,
        drain=4,
        workers=2,
        protocol="1.0",
        trusted_issuers=("https://i",),
        resource_identifier="https://r",
    )


def test_serve_prints_warnings_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator should know does not stop the hub."""
    result, settings = served(monkeypatch, "--dev", SERVER_NAME="https://hub.example")
    assert settings.listen == (Listen("", 80, tls=False),)
    assert result.stderr.startswith("mercure-hub: warning: SERVER_NAME: no certificate is fetched for")


def test_dev_signs_with_the_hubs_own_key_if_there_is_one() -> None:
    """The variables that `serve --dev` takes are those that `token --dev` signs with."""
    minted = run("token", "--dev", "--publish", "*", MERCURE_PUBLISHER_JWT_KEY=SECRET)
    assert claims(minted, SECRET)["mercure"]["publish"] == ["*"]


def test_serve_dev_prints_what_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands for the port that was really bound, the second with a token that publishes and nothing else."""
    result, _ = served(monkeypatch, "--dev")
    hub = "http://127.0.0.1:4321/.well-known/mercure"
    assert f"curl -N '{hub}?topic=https://example.com/books/1'\n" in result.stdout
    bearer = re.search(r"curl -H 'Authorization: Bearer (\S+)' -d topic=(\S+) -d '(data=.*)' (\S+)\n", result.stdout)
    assert bearer
    assert bearer.group(2, 4) == ("https://example.com/books/1", hub)
    said = jwt.decode(bearer[1], DEV_KEY, algorithms=["HS256"])
    assert said["mercure"] == {"publish": ["*"]}


def test_serve_dev_speaks_the_generation_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1.0 alone, the commands are of 1.0: match, and an access token for this hub."""
    result, settings = served(monkeypatch, "--dev", "--protocol", "1.0", "--no-anonymous")
    assert "?match=https://example.com/books/1'" in result.stdout
    tokens = set(re.findall(r"Bearer (\S+)'", result.stdout))
    assert len(tokens) == 1
    said = jwt.decode(tokens.pop(), DEV_KEY, algorithms=["HS256"], audience=settings.resource_identifier)
    assert [detail["actions"] for detail in said["authorization_details"]] == [["publish"], ["subscribe"]]


def test_serve_signs_nothing_with_a_key_of_yours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token made with a real key is never printed unasked."""
    result, _ = served(monkeypatch, "--dev", MERCURE_PUBLISHER_JWT_KEY=SECRET)
    assert "Bearer YOUR_TOKEN'" in result.stdout


def test_token_of_0x() -> None:
    """The claim ``mercure``, with what is granted and nothing else, for an hour."""
    said = claims(run("token", "--dev", "--publish", "a", "--publish", "b", "--subscribe", "/{x}"))
    assert said["mercure"] == {"publish": ["a", "b"], "subscribe": ["/{x}"]}
    assert set(said) == {"mercure", "exp"}


def test_token_of_1_0() -> None:
    """A JWT access token with every claim that RFC 9068 asks for, and typ at+jwt."""
    result = run(
        "token", "--dev", "--generation", "1.0", "--publish", "*", "--subscribe", "urlpattern:https://a.example/:id"
    )
    said = claims(result)
    assert jwt.get_unverified_header(result.stdout.strip())["typ"] == "at+jwt"
    assert (said["iss"], said["aud"]) == ("http://127.0.0.1:3000", "http://127.0.0.1:3000/.well-known/mercure")
    assert {"sub", "client_id", "iat", "jti"} < set(said)
    assert said["exp"] - said["iat"] == 3600
    assert said["authorization_details"] == [
        {
            "type": "https://mercure.rocks/authorization-detail",
            "actions": ["publish"],
            "topics": [{"match": "*"}],
        },
        {
            "type": "https://mercure.rocks/authorization-detail",
            "actions": ["subscribe"],
            "topics": [{"match": "https://a.example/:id", "match_type": "urlpattern"}],
        },
    ]


def test_token_is_for_the_hub_that_is_named() -> None:
    """iss and aud: the flags, else the hub's own settings, else its URL."""
    ask = ("token", "--dev", "--generation", "1.0", "--publish", "*")
    said = claims(run(*ask, "--url", "https://hub.example/.well-known/mercure"))
    assert (said["iss"], said["aud"]) == ("https://hub.example", "https://hub.example/.well-known/mercure")
    environment = {"MERCURE_TRUSTED_ISSUERS": "urn:a urn:b", "MERCURE_RESOURCE_IDENTIFIER": "urn:hub"}
    said = claims(run(*ask, **environment))
    assert (said["iss"], said["aud"]) == ("urn:a", "urn:hub")
    said = claims(run(*ask, "--issuer", "urn:i", "--audience", "urn:u", **environment))
    assert (said["iss"], said["aud"]) == ("urn:i", "urn:u")


def test_token_is_signed_with_the_hubs_keys(tmp_path: Path) -> None:
    """Publishers' tokens with the publishers' key, subscribers' with theirs, also from a file."""
    path = tmp_path / "key"
    path.write_text(OTHER + "\n")
    environment = {"MERCURE_PUBLISHER_JWT_KEY": SECRET, "MERCURE_SUBSCRIBER_JWT_KEY_FILE": str(path)}
    assert "publish" in claims(run("token", "--publish", "*", **environment), SECRET)["mercure"]
    assert "subscribe" in claims(run("token", "--subscribe", "*", **environment), OTHER)["mercure"]
    both = run("token", "--publish", "*", "--subscribe", "*", **environment)
    assert (both.exit_code, "different keys" in both.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dev"], "a token that grants nothing"),
        (["--dev", "--publish", "*", "--expires", "soon"], "'soon' is not a duration"),
        (["--dev", "--publish", "urlpattern:/x"], "a 0.x token knows no URL patterns"),
        (["--key", "hunter2", "--alg", "RS256", "--publish", "*"], "RS256"),
        (["--dev", "--generation", "1.0", "--publish", "*", "--url", "hub"], "not an origin"),
    ],
)
def test_a_token_that_cannot_be_is_refused(arguments: list[str], sentence: str) -> None:
    """Exit code 2, nothing on stdout, and no key in the error."""
    result = run("token", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "hunter2" not in result.stderr


def test_publish_prints_the_id(hub: Hub) -> None:
    """Only the id on stdout; every option reaches the form."""
    hub.answers = iter([(200, {}, b"urn:uuid:1")])
    result = run(
        *("publish", "--url", hub.url, "--topic", "a", "--topic", "b", "--data", "d", "--private", "--id", "i"),
        *("--type", "t", "--retry", "5", "--idempotency-key", "k", "--token", "x.y.z"),
    )
    assert (result.stdout, result.stderr, result.exit_code) == ("urn:uuid:1\n", "", 0)
    _, headers, body = hub.requests[0]
    assert body == b"topic=a&topic=b&id=i&type=t&retry=5&private=on&data=d"
    assert (headers["Authorization"], headers["Idempotency-Key"]) == ("Bearer x.y.z", "k")


def test_publish_reads_standard_input(hub: Hub) -> None:
    """Without --data: all of it, less the newline that echo adds. Hub and token may come from variables."""
    hub.answers = iter([(200, {}, b"1")])
    result = run("publish", "--topic", "a", stdin="é\n\n", MERCURE_HUB_URL=hub.url, MERCURE_TOKEN="x.y.z")
    assert result.exit_code == 0
    assert hub.requests[0][2] == b"topic=a&data=%C3%A9%0A"
    assert hub.requests[0][1]["Authorization"] == "Bearer x.y.z"


def test_publish_signs_for_its_topics_alone(hub: Hub) -> None:
    """With a key and no token it grants itself what it needs, and not for long."""
    hub.answers = iter([(200, {}, b"1")])
    assert run("publish", "--dev", "--url", hub.url, "--topic", "a", "--data", "").exit_code == 0
    said = jwt.decode(hub.requests[0][1]["Authorization"].split()[1], DEV_KEY, algorithms=["HS256"])
    assert said["mercure"] == {"publish": ["a"]}


def test_publish_without_a_key_leaves_it_to_the_hub(hub: Hub) -> None:
    """No token is sent, and the hub's sentence is what one reads; exit code 1."""
    hub.answers = iter([(401, {}, b'{"detail": "publishing needs a token"}')])
    result = run("publish", "--url", hub.url, "--topic", "a", "--data", "d")
    assert (result.stdout, result.stderr, result.exit_code) == (
        *("", "mercure-hub: 401: publishing needs a token\n"),
        1,
    )
    assert "Authorization" not in hub.requests[0][1]


@pytest.mark.parametrize("command", [["publish", "--data", "d"], ["subscribe"]])
def test_a_wrong_url_is_2(command: list[str]) -> None:
    """What no repetition would cure is a usage error."""
    result = run(*command, "--topic", "a", "--url", "hub.example")
    assert result.exit_code == 2
    assert "is not the URL of a hub" in result.stderr


def test_publish_wants_utf8() -> None:
    """Data on standard input that is no text ends in a line, not a traceback."""
    result = run("publish", "--topic", "a", stdin=b"\xff")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_subscribe_prints_events_and_ends_after_count(hub: Hub) -> None:
    """As they stood in the stream; on stdout only they, and the cursor given is asked for."""
    hub.answers = iter([stream(b": x\n\nid: 1\nevent: e\ndata: a\ndata: b\n\nid: 2\ndata: c\n\nid: 3\ndata: d\n\n")])
    result = run("subscribe", "--url", hub.url, "--topic", "*", "--last-event-id", "0", "--count", "2")
    assert result.stdout == "id: 1\nevent: e\ndata: a\ndata: b\n\nid: 2\ndata: c\n\n"
    assert (result.stderr, result.exit_code) == ("", 0)
    assert hub.requests[0][1]["Last-Event-ID"] == "0"


def test_subscribe_json_is_one_object_a_line(hub: Hub) -> None:
    """For programs: id, type and data, whatever the data holds."""
    hub.answers = iter([stream("id: 1\ndata: é\ndata: \n\n".encode())])
    result = run("subscribe", "--url", hub.url, "--match", "x", "--count", "1", "--json")
    assert json.loads(result.stdout) == {"id": "1", "type": "message", "data": "é\n"}


def test_subscribe_ends_when_it_is_refused(hub: Hub) -> None:
    """A 4xx is final: its detail on stderr, exit code 1."""
    hub.answers = iter([(403, {}, b'{"detail": "no"}')])
    result = run("subscribe", "--url", hub.url, "--match-urlpattern", "/:id")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "mercure-hub: 403: no\n", 1)


def test_subscribe_comes_back(hub: Hub) -> None:
    """A stream that ends is asked for again, and stderr says so."""
    hub.answers = iter([stream(b"retry: 1\nid: 1\ndata: a\n\n"), stream(b"id: 2\ndata: b\n\n")])
    result = run("subscribe", "--url", hub.url, "--topic", "x", "--count", "2")
    assert result.stdout == "id: 1\ndata: a\n\nid: 2\ndata: b\n\n"
    assert result.stderr == "mercure-hub: the stream ended; back in 0.0 s\n"


def test_subscribe_to_nothing_is_told() -> None:
    """No topic at all is a usage error."""
    result = run("subscribe")
    assert (result.exit_code, "nothing to subscribe to" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("flags", "answer", "path", "code"),
    [
        ([], (200, {}, b"live\n"), "/mercure/health/live", 0),
        (["--ready"], (200, {}, b"ready\n"), "/mercure/health/ready", 0),
        (["--ready"], (503, {}, b'{"detail": "the store does not answer"}'), "/mercure/health/ready", 1),
    ],
)
def test_health_asks_the_configured_address(
    hub: Hub, flags: list[str], answer: tuple[int, dict[str, str], bytes], path: str, code: int
) -> None:
    """0.0.0.0 is asked at 127.0.0.1; no key is needed for that."""
    hub.answers = iter([answer])
    port = hub.url.split(":")[2].partition("/")[0]
    assert run("health", *flags, MERCURE_LISTEN=f":{port}").exit_code == code
    assert hub.requests[0][0] == path


def test_health_of_nobody_is_1() -> None:
    """A hub that is not there is not well."""
    with serving() as gone:
        port = gone.url.split(":")[2].partition("/")[0]
    result = run("health", "--listen", f":{port}")
    assert result.exit_code == 1
    assert "does not answer (Connection refused)" in result.stderr


def test_health_starts_quickly(hub: Hub) -> None:
    """A container runs it every few seconds: what serves and stores is not imported, which is most of what a hub is."""
    hub.answers = iter([(200, {}, b"live\n")])
    port = hub.url.split(":")[2].partition("/")[0]
    command = [sys.executable, "-X", "importtime", "-m", "hub.cli.commands", "health", "--listen", f":{port}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"starlette", "uvicorn", "sse_starlette", "redis", "lmdb", "jwt", "cryptography"}


def test_check_says_what_it_found() -> None:
    """Every setting but the keys, the keys' algorithms, the store; exit code 0."""
    result = run("check", "--dev", "--transport-url", "memory://")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert {"transport_url: memory://", "listen: 127.0.0.1:3000", "trusted_issuers: http://127.0.0.1:3000"} < {*lines}
    assert "keys of publishers: HS256" in lines
    assert lines[-1] == "store: ok, its newest event is earliest"
    assert DEV_KEY not in result.stdout


def test_check_tells_of_a_weak_key() -> None:
    """A secret shorter than its algorithm asks for is served, as in many 0.x deployments, and told here."""
    result = run("check", "--dev", "--transport-url", "memory://", "--publisher-jwt-key", "short")
    assert result.exit_code == 0
    assert "keys of publishers: HS256, so short that it can be guessed\n" in result.stdout


def test_check_opens_the_store(tmp_path: Path) -> None:
    """A store that serve could open is told with its newest event; it is really opened."""
    result = run("check", "--dev", "--transport-url", f"lmdb://{tmp_path}/hub")
    assert result.exit_code == 0, result.stdout
    assert result.stdout.endswith("store: ok, its newest event is earliest\n")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--transport-url", "memoryy://"], "FAILS store: \"memoryy://\": invalid transport: unknown scheme 'memoryy'"),
        (["--transport-url", "memory://?x=1"], 'FAILS store: "memory://?x=1": invalid transport: unknown parameter'),
        (
            ["--publisher-jwt-key", "hunter2", "--publisher-jwt-alg", "RS256"],
            "FAILS keys: MERCURE_PUBLISHER_JWT_KEY ",
        ),
    ],
)
def test_check_says_what_would_fail(flags: list[str], found: str) -> None:
    """The part that serve would refuse is named; the others are looked at all the same; exit code 2."""
    result = run("check", "--dev", "--transport-url", "memory://", *flags)
    assert result.exit_code == 2
    assert found in result.stdout
    assert "addresses: free" in result.stdout
    assert "hunter2" not in result.stdout + result.stderr
