"""Settings: where they come from, what they may be, and how a mistake is told."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.commands import check, serve
from hub.config.settings import DEV_KEY, SETTINGS, InvalidSetting, Settings, listen_address, load

KEYS = {"MERCURE_PUBLISHER_JWT_KEY": "a publisher's secret", "MERCURE_SUBSCRIBER_JWT_KEY": "a subscriber's secret"}


def settings_of(flags: dict[str, object] | None = None, /, **environment: str) -> Settings:
    return load(flags or {}, {**KEYS, **environment})[0]


def warnings_of(**environment: str) -> list[str]:
    return load({}, {**KEYS, **environment})[1]


def refusal(flags: dict[str, object] | None = None, /, **environment: str) -> str:
    with pytest.raises(InvalidSetting) as caught:
        load(flags or {}, {**KEYS, **environment})
    return str(caught.value)


def test_defaults_need_only_the_keys() -> None:
    """With both keys in the environment and nothing else, the documented defaults hold, without a warning."""
    settings, warnings = load({}, KEYS)
    assert settings == Settings(publisher_jwt_key="a publisher's secret", subscriber_jwt_key="a subscriber's secret")
    assert (settings.listen, settings.transport_url, settings.heartbeat) == (
        (("", 3000),),
        "lmdb://mercure-data",
        40,
    )
    assert warnings == []


@pytest.mark.parametrize("command", [serve, check])
def test_every_setting_has_a_flag(command: click.Command) -> None:
    """No setting can be reached only from Python."""
    assert {each.name for each in dataclasses.fields(Settings)} <= {each.name for each in command.params}


def test_a_flag_beats_the_variable_beats_the_directive() -> None:
    """Precedence: flag, variable, directive."""
    directives = {"MERCURE_EXTRA_DIRECTIVES": "heartbeat 1s"}
    assert settings_of(**directives).heartbeat == 1
    assert settings_of(**directives, MERCURE_HEARTBEAT="2s").heartbeat == 2
    assert settings_of({"heartbeat": "3s"}, **directives, MERCURE_HEARTBEAT="2s").heartbeat == 3


def test_a_flag_can_take_back_a_variable() -> None:
    """--no-anonymous counts although the variable says otherwise."""
    assert settings_of(MERCURE_ANONYMOUS="1").anonymous
    assert not settings_of({"anonymous": False}, MERCURE_ANONYMOUS="1").anonymous


def test_an_empty_variable_is_unset() -> None:
    """An orchestrator's ``MERCURE_X=`` means that nobody has set it."""
    settings = settings_of(MERCURE_LISTEN="", MERCURE_HEARTBEAT_FILE="", MERCURE_EXTRA_DIRECTIVES="", SERVER_NAME="")
    assert settings == settings_of()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_holds_the_value(tmp_path: Path, ending: str) -> None:
    """A secret's file may end in a newline, as editors leave it; the key does not."""
    secret = tmp_path / "key"
    secret.write_bytes(b"from a file" + ending.encode())
    environment = {"MERCURE_PUBLISHER_JWT_KEY": "", "MERCURE_PUBLISHER_JWT_KEY_FILE": str(secret)}
    assert settings_of(**environment).publisher_jwt_key == "from a file"


@pytest.mark.parametrize("name", [*SETTINGS, "extra_directives"])
def test_every_variable_has_a_file_form(tmp_path: Path, name: str) -> None:
    """For each MERCURE_X there is MERCURE_X_FILE: here its absence is told, under that name."""
    variable, gone = f"MERCURE_{name.upper()}", tmp_path / "gone"
    message = refusal(**{variable: "", f"{variable}_FILE": str(gone)})
    assert message == f"{variable}_FILE: {str(gone)!r} cannot be read: No such file or directory"


def test_a_value_and_a_file_at_once_are_refused(tmp_path: Path) -> None:
    """Two sources for one setting: the error names both, and shows neither."""
    message = refusal(MERCURE_PUBLISHER_JWT_KEY="hunter2", MERCURE_PUBLISHER_JWT_KEY_FILE=str(tmp_path))
    assert message == "MERCURE_PUBLISHER_JWT_KEY and MERCURE_PUBLISHER_JWT_KEY_FILE are both set: unset one of them"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")]
)
def test_a_file_without_a_value_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A directory, an empty file and a binary one each end in a sentence that names the variable."""
    path = tmp_path if content is None else tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    message = refusal(MERCURE_PUBLISHER_JWT_KEY="", MERCURE_PUBLISHER_JWT_KEY_FILE=str(path))
    assert message.startswith("MERCURE_PUBLISHER_JWT_KEY_FILE: ")
    assert reason in message


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ["MERCURE_PUBLISHER_JWT_KEY", "MERCURE_SUBSCRIBER_JWT_KEY"]),
        ({"MERCURE_PUBLISHER_JWT_KEY": "k"}, ["MERCURE_SUBSCRIBER_JWT_KEY"]),
        ({"MERCURE_SUBSCRIBER_JWT_KEY": "k"}, ["MERCURE_PUBLISHER_JWT_KEY"]),
    ],
)
def test_a_missing_key_says_what_to_set(environment: dict[str, str], named: list[str]) -> None:
    """Exactly the missing ones are named, with the two ways to set them and the way to try the hub without."""
    with pytest.raises(InvalidSetting) as caught:
        load({}, environment)
    message = str(caught.value)
    assert [name for name in KEYS if f"{name} " in message] == named
    assert all(f"{name}_FILE" in message for name in named)
    assert "--dev" in message


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("MERCURE_HEARTBEET", "MERCURE_HEARTBEAT"),
        ("MERCURE_PUBLISHER_JWT_KEYS", "MERCURE_PUBLISHER_JWT_KEY"),
        ("MERCURE_PUBLISHER_KEY", "MERCURE_PUBLISHER_JWT_KEY"),
        ("MERCURE_TRANSPORT", "MERCURE_TRANSPORT_URL"),
        ("MERCURE_SUBSCRIBER_JWT_KEY_FIEL", "MERCURE_SUBSCRIBER_JWT_KEY_FILE"),
    ],
)
def test_a_misspelled_variable_is_told(typo: str, meant: str) -> None:
    """A name that is nearly ours is warned of with the nearest one: it may be another program's, and stops nothing."""
    assert warnings_of(**{typo: "1"}) == [f"{typo} is not a setting of the hub and is ignored; did you mean {meant}?"]


def test_a_missing_key_names_its_misspelling() -> None:
    """What is warned of otherwise is part of the error where it is the cause of it."""
    with pytest.raises(InvalidSetting, match="did you mean MERCURE_PUBLISHER_JWT_KEY") as caught:
        load({}, {"MERCURE_PUBLISHER_JWT_KEYS": "hunter2", "JWT_KEY": "hunter3"})
    assert "JWT_KEY is not read here" in str(caught.value)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("name", ["MERCURE_URL", "MERCURE_JWT_SECRET", "MERCURE_PUBLISHER_JWT", "MERCURE_SERVICE_HOST"])
def test_the_applications_own_variables_stop_nothing(name: str) -> None:
    """Symfony's and Kubernetes' names are in the same environment."""
    assert load({}, {**KEYS, name: "x"})[0] == load({}, KEYS)[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("JWT_KEY", "MERCURE_PUBLISHER_JWT_KEY"),
        ("PUBLISHER_JWT_KEY", "MERCURE_PUBLISHER_JWT_KEY"),
        ("SUBSCRIBER_JWT_KEY", "MERCURE_SUBSCRIBER_JWT_KEY"),
        ("ALLOW_ANONYMOUS", "MERCURE_ANONYMOUS"),
        ("CORS_ALLOWED_ORIGINS", "MERCURE_CORS_ORIGINS"),
        ("PUBLISH_ALLOWED_ORIGINS", "MERCURE_PUBLISH_ORIGINS"),
        ("DEMO", "--dev"),
        ("ADDR", "MERCURE_LISTEN"),
        ("HEARTBEAT_INTERVAL", "MERCURE_HEARTBEAT"),
    ],
)
def test_the_go_hubs_old_names_are_told_the_new_ones(old: str, new: str) -> None:
    """An environment from before 0.11 of the Go hub gets one warning for each of its names."""
    (warning,) = warnings_of(**{old: "hunter2"})
    assert warning.startswith(f"{old} is not read here")
    assert new in warning
    assert "hunter2" not in warning


@pytest.mark.parametrize(
    "name",
    [
        *("MERCURE_URL", "MERCURE_PUBLIC_URL", "MERCURE_JWT_SECRET", "MERCURE_JWT_TOKEN"),  # Symfony
        *("MERCURE_SERVICE_HOST", "MERCURE_SERVICE_PORT", "MERCURE_PORT", "MERCURE_PORT_80_TCP_ADDR"),  # Kubernetes
        *("MERCURE_LICENSE", "MERCURE_HUB_URL", "MERCURE_TOKEN", "MERCURE_HUB_SERVICE_HOST", "MERCURE_HUB_PORT"),
    ],
)
def test_other_programs_share_the_prefix(name: str) -> None:
    """What Symfony, Kubernetes, the Go image and our own client set is not taken for a typo."""
    assert load({}, {**KEYS, name: "tcp://10.0.0.1:80"}) == load({}, KEYS)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:3000", (("127.0.0.1", 3000),)),
        (":3001", (("", 3001),)),
        ("[::]:3001", (("", 3001),)),
        ("0.0.0.0:3001", (("0.0.0.0", 3001),)),
        ("[::1]:3000", (("::1", 3000),)),
        ("hub.internal:0", (("hub.internal", 0),)),
        ("127.0.0.1:3000, [::1]:3000,:80", (("127.0.0.1", 3000), ("::1", 3000), ("", 80))),
    ],
)
def test_listen_forms(text: str, addresses: tuple[tuple[str, int], ...]) -> None:
    """HOST:PORT, :PORT for every interface and family, brackets round IPv6, port 0 for any, several between commas."""
    settings = settings_of(MERCURE_LISTEN=text)
    assert settings.listen == addresses
    assert settings_of(MERCURE_LISTEN=",".join(settings.shown()["listen"])).listen == addresses  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["3000", "localhost", "::1:3000", "[::1]", ":", "a:65536", "a:-1", "http://a:80", "a b:1", "[a]:1", ":²"]
)
def test_a_wrong_address_is_refused(text: str) -> None:
    """Whatever is no address is told under the variable's name."""
    assert refusal(MERCURE_LISTEN=text).startswith("MERCURE_LISTEN: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [*((t, True) for t in ("1", "true", "On", "YES")), *((t, False) for t in ("0", "false", "off", "no"))],
)
def test_truth_has_many_words(text: str, value: bool) -> None:
    """1/0, true/false, on/off, yes/no, in any case."""
    assert settings_of(MERCURE_ANONYMOUS=text).anonymous is value


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://a.example http://localhost:8000", ("https://a.example", "http://localhost:8000")),
        ("HTTPS://A.Example:443 http://a.example:80", ("https://a.example", "http://a.example")),
        ("*", ("*",)),
        ("null https://a.example https://a.example", ("null", "https://a.example")),
        ("capacitor://localhost http://[::1]:3000", ("capacitor://localhost", "http://[::1]:3000")),
    ],
)
def test_origins_are_spelled_as_browsers_send_them(text: str, origins: tuple[str, ...]) -> None:
    """Lower case, no default port, each once."""
    settings = settings_of(MERCURE_CORS_ORIGINS=text, MERCURE_PUBLISH_ORIGINS=text)
    assert settings.cors_origins == settings.publish_origins == origins


@pytest.mark.parametrize(
    "text",
    [
        *("https://a.example/", "https://a.example/path", "a.example", "https://a.example,https://b.example"),
        *("* https://a.example", "https://*.a.example", "https://a.example:99999", "https://münchen.example"),
    ],
)
def test_wrong_origins_are_refused(text: str) -> None:
    """A path, a missing scheme, a comma, a star among others: no browser would ever send that."""
    assert refusal(MERCURE_CORS_ORIGINS=text).startswith("MERCURE_CORS_ORIGINS: ")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("write_timeout", "0", 0.0),
        ("drain", "500ms", 0.5),
        ("workers", "4", 4),
        ("dispatch_timeout", "1m", 60.0),
        ("max_request_body_size", "1MiB", 1024**2),
        ("protocol", "1.0", "1.0"),
        ("publisher_jwt_alg", "EdDSA", "EdDSA"),
        ("trusted_issuers", "https://a.example  urn:b", ("https://a.example", "urn:b")),
        ("resource_identifier", "https://a.example/.well-known/mercure", "https://a.example/.well-known/mercure"),
        ("cookie_name", "mercureAuthorization", "mercureAuthorization"),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    """Each setting has its type, whether a flag or a variable says it."""
    assert getattr(settings_of({name: text}), name) == value
    assert getattr(settings_of(**{f"MERCURE_{name.upper()}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("heartbeat", text) for text in ("-1s", "nan", "inf", "1e3", "9" * 400, "1ms", "400d", "soon")),
        *(("max_request_body_size", text) for text in ("0", "1", "5TB", "-1", "9" * 5000)),
        *(("publisher_jwt_alg", text) for text in ("none", "hs256", "HS1")),
        *(("resource_identifier", text) for text in ("hub", "https://a.example/#x", "https://a b")),
        *(("cookie_name", text) for text in ("a b", "a;b", "a=b", "é")),
        *(
            ("trusted_issuers", "a.example"),
            ("protocol", "2.0"),
            ("anonymous", "perhaps"),
            ("drain", "8 s"),
            ("workers", "257"),
        ),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, text: str) -> None:
    """The error begins with where the value stands, flag or variable, and is one line of bearable length."""
    for message, source in (
        (refusal({name: text}), f"--{name.replace('_', '-')}"),
        (refusal(**{f"MERCURE_{name.upper()}": text}), f"MERCURE_{name.upper()}"),
    ):
        assert message.startswith(f"{source}: ")
        assert "\n" not in message
        assert len(message) < 300


def test_nothing_shows_a_key_or_a_password() -> None:
    """Neither the representation nor what ``check`` prints holds a key, or the store's password."""
    settings = settings_of(MERCURE_TRANSPORT_URL="redis://user:hunter2@redis/0")
    assert "secret" not in repr(settings) + str(settings.shown())
    assert "hunter2" not in repr(settings) + str(settings.shown())
    assert "redis://user:***@redis/0" in repr(settings)


def test_directives_of_the_go_image() -> None:
    """One a line, comments, quotes and backticks as in a Caddyfile."""
    settings = settings_of(
        MERCURE_EXTRA_DIRECTIVES="""
        # don't mind me
        anonymous
        cors_origins "https://a.example" `https://b.example` # both
        publish_origins *
        heartbeat 0s
        write_timeout 10m
        dispatch_timeout 1s
        cookie_name mercureAuthorization
        resource_identifier https://hub.example/.well-known/mercure
        max_request_body_size 512KB
        protocol_version_compatibility 8
        transport_url memory://
        """
    )
    assert settings.anonymous
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.publish_origins == ("*",)
    assert (settings.heartbeat, settings.write_timeout, settings.dispatch_timeout) == (0, 600, 1)
    assert settings.cookie_name == "mercureAuthorization"
    assert settings.resource_identifier == "https://hub.example/.well-known/mercure"
    assert settings.max_request_body_size == 512_000
    assert (settings.protocol, settings.transport_url) == ("both", "memory://")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("transport bolt {\n path x\n}", "directive 'transport' is unknown here; did you mean transport_url?"),
        ("playground", "directive 'playground' is unknown here"),
        ("heartbeat", "directive 'heartbeat' takes one value"),
        ("anonymous yes", "directive 'anonymous' takes no value"),
        ("cors_origins", "directive 'cors_origins' takes one value or more"),
        ("protocol_version_compatibility 6", "directive 'protocol_version_compatibility' takes 7 or 8"),
        ("heartbeat 1s\nheartbeat 2s", "directive 'heartbeat' is given twice"),
        ("heartbeat soon", "heartbeat: 'soon' is not a duration"),
        ('heartbeat ""', "heartbeat: '' is not a duration"),
        ('cookie_name ""', "cookie_name: '' cannot name a cookie"),
        ('resource_identifier ""', "resource_identifier: '' is not an absolute URI"),
    ],
)
def test_a_directive_that_cannot_be_kept_is_an_error(text: str, reason: str) -> None:
    """Nobody's configuration is half understood: the directive is named."""
    assert refusal(MERCURE_EXTRA_DIRECTIVES=text).startswith(f"MERCURE_EXTRA_DIRECTIVES: {reason}")


def test_a_directive_does_not_show_its_arguments() -> None:
    """A key in an unknown directive stays out of the error."""
    assert "hunter2" not in refusal(MERCURE_EXTRA_DIRECTIVES="publisher_jwt hunter2 HS256")


@pytest.mark.parametrize(
    ("name", "port", "warned"),
    [
        (":80", 80, False),
        (":8080", 8080, False),
        ("http://localhost", 80, False),
        ("http://hub.example:8080/", 8080, False),
        ("localhost", 80, True),
        ("hub.example, www.hub.example", 80, True),
        ("https://hub.example:8443", 8443, True),
        (":443", 443, True),
        ("hub.example:8080", 8080, True),
        ("[::1]:8080", 8080, True),
        ("http://[::1]", 80, False),
    ],
)
def test_server_name_is_a_port(name: str, port: int, warned: bool) -> None:
    """The Go image's site address gives the port; where it would have served TLS, a warning says who does now."""
    settings, warnings = load({}, {**KEYS, "SERVER_NAME": name})
    assert settings.listen == (("", port),)
    assert ["reverse proxy" in each for each in warnings] == [True] * warned


def test_an_address_of_ours_beats_server_name() -> None:
    """SERVER_NAME counts only where neither the flag nor the variable is given."""
    assert settings_of({"listen": ":1"}, SERVER_NAME="https://hub.example").listen == (("", 1),)
    assert settings_of(MERCURE_LISTEN=":2", SERVER_NAME="https://hub.example").listen == (("", 2),)


@pytest.mark.parametrize("name", ["hub.example:http", "ftp://a", ":1 :2", ":99999", ","])
def test_a_server_name_without_one_port_is_refused(name: str) -> None:
    """Several ports, or none that can be."""
    assert refusal(SERVER_NAME=name).startswith("SERVER_NAME: ")


@pytest.mark.parametrize(
    ("bolt", "lmdb"),
    [
        ("bolt:///data/mercure.db", "lmdb:///data/mercure"),
        ("bolt://mercure.db", "lmdb://mercure"),
        ("bolt:///data/mercure", "lmdb:///data/mercure.lmdb"),
        (
            "bolt:///data/m.db?size=100&cleanup_frequency=0.5&bucket_name=u",
            "lmdb:///data/m?size=100",
        ),
        ("bolt:///data/m.db?size=0&cleanup_frequency=1", "lmdb:///data/m"),
        ("bolt:///data/m.db?unknown=1", "lmdb:///data/m?unknown=1"),
    ],
)
def test_bolt_becomes_lmdb(bolt: str, lmdb: str) -> None:
    """The same place as a directory, never the file itself; with a warning that it starts empty."""
    settings, warnings = load({}, {**KEYS, "MERCURE_TRANSPORT_URL": bolt})
    assert settings.transport_url == lmdb
    assert len(warnings) == 1
    assert warnings[0].startswith("MERCURE_TRANSPORT_URL: ")
    assert lmdb in warnings[0]


def test_bolt_of_no_file_is_refused() -> None:
    """``bolt://`` alone names nothing."""
    assert refusal(MERCURE_TRANSPORT_URL="bolt://").startswith("MERCURE_TRANSPORT_URL: bolt:// names no file")


def test_dev_is_complete() -> None:
    """--dev needs nothing, stays on this machine, and warns of nothing."""
    settings, warnings = load({}, {}, dev=True)
    assert settings.listen == (("127.0.0.1", 3000),)
    assert settings.publisher_jwt_key == settings.subscriber_jwt_key == DEV_KEY
    assert settings.anonymous
    assert "http://localhost:3000" in settings.cors_origins
    assert "http://127.0.0.1:5173" in settings.publish_origins
    assert settings.cookie_name == "mercure_access_token"
    assert settings.trusted_issuers == ("http://127.0.0.1:3000",)
    assert settings.resource_identifier == "http://127.0.0.1:3000/.well-known/mercure"
    assert warnings == []


def test_dev_gives_way() -> None:
    """What is said is said: --dev fills in only the rest, for the port that was chosen."""
    settings, _ = load({"anonymous": False, "listen": "localhost:9999"}, {"MERCURE_COOKIE_NAME": "c"}, dev=True)
    assert (settings.anonymous, settings.cookie_name) == (False, "c")
    assert settings.resource_identifier == "http://127.0.0.1:9999/.well-known/mercure"
    assert "http://localhost:9999" in settings.cors_origins


def test_the_documented_key_is_for_this_machine() -> None:
    """A hub that others can reach with the key that everybody knows says so, with and without --dev."""
    assert load({"listen": ":3000"}, {}, dev=True)[1] != []
    assert warnings_of(MERCURE_PUBLISHER_JWT_KEY=DEV_KEY) != []


def test_the_address_alone() -> None:
    """A health check learns where the hub listens from an environment that serve would refuse for other reasons."""
    environment = {"MERCURE_HEARTBEAT": "soon"}
    assert listen_address(None, environment) == ("", 3000)
    assert listen_address(None, environment, dev=True) == ("127.0.0.1", 3000)
    assert listen_address(None, {**environment, "MERCURE_LISTEN": ":80"}) == ("", 80)
    assert listen_address(None, {"SERVER_NAME": "hub.example"}) == ("", 80)
    assert listen_address(":1", {"MERCURE_LISTEN": ":80"}, dev=True) == ("", 1)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(name=st.sampled_from([*SETTINGS, "extra_directives"]), text=TEXT)
def test_any_text_is_a_setting_or_an_error(name: str, text: str) -> None:
    """Whatever an operator writes: settings, or one `InvalidSetting`; never another exception."""
    try:
        load({}, {**KEYS, f"MERCURE_{name.upper()}": text})
    except InvalidSetting as error:
        lines = str(error).split("\n")
        assert len(lines) == 1


@given(st.one_of(TEXT, st.from_regex(r"(https?://)?[a-z.]*(:[0-9]{0,6})?/?", fullmatch=True)))
def test_any_server_name_is_a_port_or_an_error(text: str) -> None:
    """SERVER_NAME is somebody else's variable: it never ends in a traceback."""
    try:
        settings, _ = load({}, {**KEYS, "SERVER_NAME": text})
    except InvalidSetting:
        return
    assert 0 <= settings.listen[0][1] < 65536


@given(st.sampled_from(["bolt://", "bolt:///"]), TEXT)
def test_any_bolt_url_is_lmdb_or_an_error(scheme: str, rest: str) -> None:
    """A Bolt URL, however odd, never stays one."""
    try:
        settings = settings_of(MERCURE_TRANSPORT_URL=scheme + rest)
    except InvalidSetting:
        return
    assert settings.transport_url.startswith("lmdb://")


def test_every_setting_is_documented() -> None:
    """The README has the table that the settings make: `python -m hub.config` prints it."""
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    printed = subprocess.run([sys.executable, "-m", "hub.config"], capture_output=True, text=True, check=True).stdout
    assert printed in readme
    assert printed.count("\n") == len(SETTINGS) + 2
