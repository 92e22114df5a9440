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
from hub.config.settings import DEV_KEY, SETTINGS, Settings, load, probe_address
from hub.config.sources import InvalidSetting
from hub.config.values import Listen

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
        (Listen("", 3000),),
        "lmdb://mercure-data",
        40,
    )
    assert warnings == []


@pytest.mark.parametrize("command", [serve, check])
def test_every_setting_has_a_flag(command: click.Command) -> None:
    """No setting can be reached only from Python."""
    assert {each.name for each in dataclasses.fields(Settings)} <= {each.name for each in command.params}


def test_a_flag_beats_the_directive_beats_the_variable() -> None:
    """Precedence: flag, directive, variable, as in the Go image, whose Caddyfile is what reads variables."""
    variables = {"MERCURE_HEARTBEAT": "1s"}
    assert settings_of(**variables).heartbeat == 1
    assert settings_of(**variables, MERCURE_EXTRA_DIRECTIVES="heartbeat 2s").heartbeat == 2
    assert settings_of({"heartbeat": "3s"}, **variables, MERCURE_EXTRA_DIRECTIVES="heartbeat 2s").heartbeat == 3


def test_a_flag_can_take_back_a_variable() -> None:
    """--no-anonymous counts although the variable says otherwise."""
    assert settings_of(MERCURE_ANONYMOUS="1").anonymous
    assert not settings_of({"anonymous": False}, MERCURE_ANONYMOUS="1").anonymous


def test_traces_are_asked_for_in_opentelemetrys_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variable counts where ours is not set; without the extra the start ends, and it is said what to install."""
    assert settings_of(OTEL_TRACES_EXPORTER="otlp").traces == "otlp"
    assert settings_of(OTEL_TRACES_EXPORTER="otlp", MERCURE_TRACES="none").traces == "none"
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert settings_of(OTEL_TRACES_EXPORTER="none").traces == "none"
    said = refusal(OTEL_TRACES_EXPORTER="otlp")
    assert said.startswith("OTEL_TRACES_EXPORTER: 'otlp' needs OpenTelemetry: pip install 'mercure-hub[otel]'")


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
        *("MERCURE_HUB_URL", "MERCURE_TOKEN", "MERCURE_HUB_SERVICE_HOST", "MERCURE_HUB_PORT"),
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
    assert tuple(each.address for each in settings.listen) == addresses
    assert settings_of(MERCURE_LISTEN=",".join(settings.shown()["listen"])).listen == settings.listen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["3000", "localhost", "::1:3000", "[::1]", ":", "a:65536", "a:-1", "ftp://a:80", "a b:1", "[a]:1", ":²"]
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
        ("https://a.example/,https://b.example/, http://c", ("https://a.example", "https://b.example", "http://c")),
        ("https://*.a.example:8443 https://*.B.example", ("https://*.a.example:8443", "https://*.b.example")),
    ],
)
def test_origins_are_spelled_as_browsers_send_them(text: str, origins: tuple[str, ...]) -> None:
    """Lower case, no default port, each once; commas and a slash at the end are forgiven."""
    settings = settings_of(MERCURE_CORS_ORIGINS=text, MERCURE_PUBLISH_ORIGINS=text)
    assert settings.cors_origins == settings.publish_origins == origins


@pytest.mark.parametrize(
    "text",
    [
        *("https://a.example/path", "a.example", "https://a.*.example", "https://*", "https://**.a.example"),
        *("* https://a.example", "https://*a.example", "https://a.example:99999", "https://münchen.example"),
    ],
)
def test_wrong_origins_are_refused(text: str) -> None:
    """A path, a missing scheme, a star among others: no browser would ever send that."""
    assert refusal(MERCURE_CORS_ORIGINS=text).startswith("MERCURE_CORS_ORIGINS: ")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("write_timeout", "0", 0.0),
        ("drain", "500ms", 0.5),
        ("workers", "4", 4),
        ("dispatch_timeout", "1m", 60.0),
        ("max_request_body_size", "1MiB", 1024**2),
        ("max_request_body_size", "0", 1024**3),
        ("write_timeout", "1h30m", 5400.0),
        ("heartbeat", "1m0.5s", 60.5),
        ("public_urls", "https://a.example https://b.example:8443/x", ("https://a.example", "https://b.example:8443")),
        ("name", "books", "books"),
        ("publisher_jwks_url", "https://a.example/jwks.json", "https://a.example/jwks.json"),
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
        *(("max_request_body_size", text) for text in ("1", "5TB", "-1", "9" * 5000)),
        *(("publisher_jwt_alg", text) for text in ("none", "hs256", "HS1")),
        *(("resource_identifier", text) for text in ("hub", "https://a.example/#x", "https://a b")),
        *(("cookie_name", text) for text in ("a b", "a;b", "a=b", "é")),
        *(
            ("trusted_issuers", "a.example"),
            ("protocol", "2.0"),
            ("anonymous", "perhaps"),
            ("drain", "8 s"),
            ("workers", "257"),
            ("public_urls", "a.example"),
            ("public_urls", "https://*.a.example"),
            ("name", "a/b"),
            ("publisher_jwks_url", "ftp://a.example"),
            ("subscriber_jwks_url", "file://host/x"),
            ("issuers", "[{}]"),
            ("write_timeout", "1h 30m"),
            ("write_timeout", "30m1"),
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


def test_dev_is_complete() -> None:
    """--dev needs nothing, stays on this machine, and warns of nothing."""
    settings, warnings = load({}, {}, dev=True)
    assert settings.listen == (Listen("127.0.0.1", 3000),)
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
    assert probe_address(None, environment) == ("", 3000, False)
    assert probe_address(None, environment, dev=True) == ("127.0.0.1", 3000, False)
    assert probe_address(None, {**environment, "MERCURE_LISTEN": ":80"}) == ("", 80, False)
    assert probe_address(None, {"SERVER_NAME": "hub.example"}) == ("", 80, False)
    assert probe_address(":1", {"MERCURE_LISTEN": ":80", "MERCURE_ADMIN_LISTEN": "[::1]:9"}, dev=True) == ("", 1, False)
    assert probe_address(None, {"MERCURE_LISTEN": ":80", "MERCURE_ADMIN_LISTEN": "[::1]:9"}) == ("::1", 9, False)
    assert probe_address(None, {"MERCURE_LISTEN": "https://:443,:80"}) == ("", 80, False)
    assert probe_address(None, {"MERCURE_LISTEN": ":443", "MERCURE_TLS_CERT": "x"}) == ("", 443, True)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(name=st.sampled_from([*SETTINGS, "extra_directives"]), text=TEXT)
def test_any_text_is_a_setting_or_an_error(name: str, text: str) -> None:
    """Whatever an operator writes: settings, or one `InvalidSetting`; never another exception."""
    try:
        load({}, {**KEYS, f"MERCURE_{name.upper()}": text})
    except InvalidSetting as error:
        lines = str(error).split("\n")
        assert len(lines) == 1


def test_every_setting_is_documented() -> None:
    """The README has the table that the settings make: `python -m hub.config` prints it."""
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    printed = subprocess.run([sys.executable, "-m", "hub.config"], capture_output=True, text=True, check=True).stdout
    assert printed in readme
    assert printed.count("\n") == len(SETTINGS) + 2
