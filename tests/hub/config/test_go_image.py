"""The Go image's environment: directives, Caddyfiles, site addresses, Bolt URLs."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config import go_image
from hub.config.issuers import Issuer, KeySource
from hub.config.settings import DEV_KEY, SETTINGS, Settings, load
from hub.config.sources import InvalidSetting
from hub.config.values import Listen

KEYS = {"MERCURE_PUBLISHER_JWT_KEY": "a publisher's secret", "MERCURE_SUBSCRIBER_JWT_KEY": "a subscriber's secret"}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def settings_of(**environment: str) -> Settings:
    return load({}, {**KEYS, **environment})[0]


def directed(text: str, **environment: str) -> Settings:
    return settings_of(MERCURE_EXTRA_DIRECTIVES=text, **environment)


def warnings_of(**environment: str) -> list[str]:
    return load({}, {**KEYS, **environment})[1]


def refusal(**environment: str) -> str:
    with pytest.raises(InvalidSetting) as caught:
        load({}, {**KEYS, **environment})
    return str(caught.value)


def test_directives_are_settings() -> None:
    """One a line, comments, quotes and backticks as in a Caddyfile; of one that is given twice the last counts."""
    settings = directed(
        """
        # don't mind me
        anonymous
        cors_origins "https://a.example" `https://b.example` # both
        publish_origins *
        heartbeat 0s
        write_timeout 1h30m
        dispatch_timeout 1s
        dispatch_timeout \\
            2s
        cookie_name mercureAuthorization
        resource_identifier https://hub.example/.well-known/mercure
        max_request_body_size 512KB
        protocol_version_compatibility 8
        transport_url memory://
        name books
        public_urls https://hub.example https://other.example
        publisher_jwks_url https://issuer.example/jwks
        """
    )
    assert settings.anonymous
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.publish_origins == ("*",)
    assert (settings.heartbeat, settings.write_timeout, settings.dispatch_timeout) == (0, 5400, 2)
    assert settings.cookie_name == "mercureAuthorization"
    assert settings.resource_identifier == "https://hub.example/.well-known/mercure"
    assert settings.max_request_body_size == 512_000
    assert (settings.protocol, settings.transport_url) == ("both", "memory://")
    assert (settings.name, settings.public_urls) == ("books", ("https://hub.example", "https://other.example"))
    assert settings.publisher_jwks_url == "https://issuer.example/jwks"


@pytest.mark.parametrize(
    ("text", "on"), [("anonymous", True), ("anonymous 0", False), ("anonymous off", False), ("anonymous 1", True)]
)
def test_a_switch_may_say_off(text: str, on: bool) -> None:
    """``anonymous 0`` is what people write to turn it off."""
    assert directed(text).anonymous is on


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("transport bolt {\n path /data/x.db\n size 10\n cleanup_frequency 0.3\n}", "lmdb:///data/x?size=10"),
        ("transport bolt { path /data/x.db size 0 }", "lmdb:///data/x"),
        ("transport bolt {\n bucket_name u\n}", "lmdb:///data/mercure"),
        ("transport bolt", "lmdb:///data/mercure"),
        ("transport local", "memory://"),
        ("transport_url local://local", "memory://"),
        ("transport_url redis://valkey:6379/0", "redis://valkey:6379/0"),
    ],
)
def test_transports(text: str, url: str) -> None:
    """Bolt's place becomes LMDB's, whatever says it, and no history is history in memory."""
    assert directed(text, MERCURE_TRANSPORT_URL="lmdb:///other").transport_url == url


def test_keys() -> None:
    """``publisher_jwt`` and ``subscriber_jwt`` have the key and maybe its algorithm; placeholders hold either."""
    settings = directed(
        "publisher_jwt {env.KEY} {env.ALG}\nsubscriber_jwt `two words` HS512\n", KEY="one # two", ALG=""
    )
    assert (settings.publisher_jwt_key, settings.publisher_jwt_alg) == ("one # two", "HS256")
    assert (settings.subscriber_jwt_key, settings.subscriber_jwt_alg) == ("two words", "HS512")


def test_an_empty_key_is_none() -> None:
    """The image's own Caddyfile names variables that need not be set."""
    assert directed("publisher_jwt {env.NO} {env.NOR}") == settings_of()


def test_issuers() -> None:
    """Each block is one issuer with its own keys, and the metadata may name it."""
    settings = directed(
        """
        issuer https://a.example {
            authorization_server
            publisher {
                jwt !ChangeThisSecret! HS384
            }
            subscriber {
                jwks_uri https://a.example/jwks RS256 ES256
            }
        }
        issuer https://b.example {
            publisher {
                jwt {file./dev/null}
            }
        }
        """.replace("{file./dev/null}", "key")
    )
    first, second = settings.issuers
    assert first == Issuer(
        "https://a.example",
        KeySource("!ChangeThisSecret!", ("HS384",)),
        KeySource(algorithms=("RS256", "ES256"), jwks_url="https://a.example/jwks"),
        authorization_server=True,
    )
    assert second == Issuer("https://b.example", KeySource("key", ("HS256",)))
    assert "ChangeThis" not in repr(settings) + str(settings.shown())


def test_compatibility_takes_the_issuers_key() -> None:
    """In compatibility mode tokens of 0.x, which name nobody, are verified with the first issuer's key."""
    text = "issuer https://a.example {\n publisher {\n  jwt theirs\n }\n}\nprotocol_version_compatibility 8"
    settings, _ = load({}, {"MERCURE_EXTRA_DIRECTIVES": f"{text}\nanonymous"})
    assert settings.publisher_jwt_key == "theirs"
    assert settings.subscriber_jwt_key is None


def test_the_playground() -> None:
    """Everything that makes trying easy, with the documentation's key where there is none, and a loud warning."""
    settings, warnings = load({}, {"MERCURE_EXTRA_DIRECTIVES": "playground"})
    assert settings.anonymous
    assert settings.subscriptions
    assert settings.debugger
    assert (settings.cookie_name, settings.cors_origins) == ("mercure_access_token", ("*",))
    assert settings.publisher_jwt_key == DEV_KEY
    assert any("playground" in each and "anybody may subscribe" in each for each in warnings)
    kept = directed("playground\ncors_origins https://a.example")
    assert (kept.cors_origins, kept.publisher_jwt_key) == (("https://a.example",), "a publisher's secret")


@pytest.mark.parametrize("name", ["debugger", "ui", "demo"])
def test_the_debugger_has_had_three_names(name: str) -> None:
    """Each turns it on, and off again."""
    assert directed(name).debugger
    assert not directed(f"{name} off").debugger


@pytest.mark.parametrize("name", go_image.MEANINGLESS)
def test_what_means_nothing_is_told(name: str) -> None:
    """It stops nothing, and the warning names it."""
    (warning,) = warnings_of(MERCURE_EXTRA_DIRECTIVES=f"{name} 100000")
    assert warning.startswith(f"MERCURE_EXTRA_DIRECTIVES: directive {name!r} changes nothing: ")


@pytest.mark.parametrize("name", go_image.VARIABLES)
def test_variables_that_mean_nothing_are_told(name: str) -> None:
    """Caddy's options, FrankenPHP's and the licence stop nothing; each is named, with the page that helps."""
    (warning,) = warnings_of(**{name: "debug"})
    assert warning.startswith(f"{name} means nothing here: ")
    assert go_image.PAGE in warning
    assert warnings_of(**{name: ""}) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("playgruond", "directive 'playgruond' is unknown here; did you mean playground?"),
        ("transport redis", "directive 'transport' takes bolt or local; transport_url takes every URL"),
        ("transport bolt {\n file x\n}", "directive 'transport': bolt takes path, size"),
        ("heartbeat", "directive 'heartbeat' takes one value"),
        ("anonymous perhaps", "'perhaps' is neither true nor false"),
        ("anonymous a b", "directive 'anonymous' takes no value"),
        ("cors_origins", "directive 'cors_origins' takes one value or more"),
        ("protocol_version_compatibility 6", "directive 'protocol_version_compatibility' takes 7 or 8"),
        ("heartbeat soon", "heartbeat: 'soon' is not a duration"),
        ('heartbeat ""', "heartbeat: '' is not a duration"),
        ('cookie_name ""', "cookie_name: '' cannot name a cookie"),
        ('resource_identifier ""', "resource_identifier: '' is not an absolute URI"),
        ("publisher_jwt", "directive 'publisher_jwt' takes a key and maybe its algorithm"),
        ("issuer https://a.example", "directive 'issuer' takes the issuer's identifier and a block"),
        ("issuer https://a.example {\n x\n}", "directive 'issuer': 'x' is unknown there"),
        (
            "issuer https://a.example {\n publisher {\n jwt a\n jwks_uri https://b\n }\n}",
            "directive 'issuer': publisher",
        ),
        ("issuer https://a.example {\n", "line 1: the block of 'issuer' is not closed"),
        ("}", "line 1: } closes no block"),
    ],
)
def test_a_directive_that_cannot_be_kept_is_an_error(text: str, reason: str) -> None:
    """Nobody's configuration is half understood: the directive is named."""
    assert refusal(MERCURE_EXTRA_DIRECTIVES=text).startswith(f"MERCURE_EXTRA_DIRECTIVES: {reason}")


def test_a_directive_does_not_show_its_arguments() -> None:
    """A key in a directive that can't be kept stays out of the error."""
    assert "hunter2" not in refusal(MERCURE_EXTRA_DIRECTIVES="publisher_jwt hunter2 HS256 more")
    assert "hunter2" not in refusal(MERCURE_EXTRA_DIRECTIVES="publisher_jtw hunter2 HS256")


PLAIN, TLS = False, True


@pytest.mark.parametrize(
    ("name", "listen"),
    [
        (":80", [(80, PLAIN)]),
        (":8080", [(8080, PLAIN)]),
        (":80, :443", [(80, PLAIN), (443, TLS)]),
        ("http://localhost", [(80, PLAIN)]),
        ("http://hub.example:8080/", [(8080, PLAIN)]),
        ("localhost", [(80, PLAIN), (443, TLS)]),
        ("localhost, php:80", [(80, PLAIN), (443, TLS)]),
        ("localhost:8443", [(8443, TLS)]),
        ("https://localhost:8443", [(8443, TLS)]),
        ("mercure", [(80, PLAIN), (443, TLS)]),
        ("127.0.0.1", [(80, PLAIN), (443, TLS)]),
        ("[::1]:8080", [(8080, TLS)]),
        ("http://[::1]", [(80, PLAIN)]),
        (":1 :2", [(1, PLAIN), (2, PLAIN)]),
    ],
)
def test_server_name_is_where_the_hub_listens(name: str, listen: list[tuple[int, bool]]) -> None:
    """The Go image's site addresses: plain HTTP, and TLS with a certificate of its own for names of this machine."""
    settings, warnings = load({}, {**KEYS, "SERVER_NAME": name})
    assert settings.listen == tuple(Listen("", port, tls) for port, tls in listen)
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "port"), [("hub.example, www.hub.example", 80), ("https://hub.example:8443", 8443), ("1.1.1.1:81", 81)]
)
def test_no_certificate_is_fetched(name: str, port: int) -> None:
    """Where the Go image would have fetched a certificate a warning says what is served, and who can end TLS."""
    settings, (warning,) = load({}, {**KEYS, "SERVER_NAME": name})
    assert settings.listen == (Listen("", port, tls=False),)
    assert warning.startswith("SERVER_NAME: no certificate is fetched for ")
    assert "reverse proxy" in warning


def test_with_certificate_files_every_name_has_tls() -> None:
    """Then nothing has to be fetched, and nothing is warned of."""
    files = {"MERCURE_TLS_CERT": "cert.pem", "MERCURE_TLS_KEY": "key.pem"}
    settings, warnings = load({}, {**KEYS, **files, "SERVER_NAME": "hub.example"})
    assert settings.listen == (Listen("", 80, tls=False), Listen("", 443, tls=True))
    assert warnings == []


def test_an_address_of_ours_beats_server_name() -> None:
    """SERVER_NAME counts only where neither the flag nor the variable is given."""
    assert load({"listen": ":1"}, {**KEYS, "SERVER_NAME": "https://hub.example"})[0].listen == (Listen("", 1),)
    assert settings_of(MERCURE_LISTEN=":2", SERVER_NAME="https://hub.example").listen == (Listen("", 2),)


@pytest.mark.parametrize("name", ["hub.example:http", "ftp://a", ":99999", ","])
def test_a_server_name_without_an_address_is_refused(name: str) -> None:
    """None that can be."""
    assert refusal(SERVER_NAME=name).startswith("SERVER_NAME: ")


CADDYFILE = """\
{
	admin off
	{$GLOBAL_OPTIONS}
}

(snippet) {
	respond "no"
}

{$SERVER_NAME:localhost} {
	log
	route {
		mercure {
			transport_url {$MERCURE_TRANSPORT_URL:memory://}
			publisher_jwt {env.MERCURE_PUBLISHER_JWT_KEY} {env.MERCURE_PUBLISHER_JWT_ALG}
			anonymous
			{$MERCURE_EXTRA_DIRECTIVES}
		}
	}
	respond / <<HTML
		<title>{</title>
		HTML
	root * /app/public
	php_server
}
"""


def test_a_caddyfile_is_read(tmp_path: Path) -> None:
    """Its site's addresses and its directive ``mercure`` count; what else it has is named in one warning."""
    (tmp_path / "Caddyfile").write_text(CADDYFILE)
    environment = {"MERCURE_CADDYFILE": f"{tmp_path}/Caddyfile", "MERCURE_EXTRA_DIRECTIVES": "heartbeat 7s"}
    settings, (warning,) = load({}, {**KEYS, **environment})
    assert (settings.anonymous, settings.heartbeat, settings.transport_url) == (True, 7, "memory://")
    assert settings.listen == (Listen("", 80, tls=False), Listen("", 443, tls=True))
    assert settings.publisher_jwt_key == "a publisher's secret"
    assert warning.startswith(f"{tmp_path}/Caddyfile: root, php_server mean nothing here")
    changed = settings_of(**environment, SERVER_NAME=":8080", MERCURE_TRANSPORT_URL="lmdb:///x")
    assert (changed.listen, changed.transport_url) == ((Listen("", 8080, tls=False),), "lmdb:///x")


def test_a_caddyfile_without_braces_is_read(tmp_path: Path) -> None:
    """A file of one site may leave its braces out; its ``tls`` names the certificate's files."""
    (tmp_path / "Caddyfile").write_text("hub.example\ntls cert.pem key.pem\nmercure {\n anonymous\n}\n")
    settings = settings_of(MERCURE_CADDYFILE=f"{tmp_path}/Caddyfile")
    assert settings.anonymous
    assert (settings.tls_cert, settings.tls_key) == ("cert.pem", "key.pem")
    assert settings.listen == (Listen("", 80, tls=False), Listen("", 443, tls=True))


def test_a_secret_of_the_image_may_be_in_a_file(tmp_path: Path) -> None:
    """A placeholder finds what a ``_FILE`` variable names too, and ``{file.…}`` reads one itself."""
    (tmp_path / "key").write_text("from a file\n")
    text = f"publisher_jwt {{env.MERCURE_PUBLISHER_JWT_KEY}}\nsubscriber_jwt {{file.{tmp_path}/key}}"
    settings, _ = load({}, {"MERCURE_PUBLISHER_JWT_KEY_FILE": f"{tmp_path}/key", "MERCURE_EXTRA_DIRECTIVES": text})
    assert settings.publisher_jwt_key == settings.subscriber_jwt_key == "from a file"


@pytest.mark.parametrize(
    "text", ["", "a.example {\n respond ok\n}\n", "a {\n mercure {\n }\n}\nb {\n mercure {\n }\n}"]
)
def test_a_caddyfile_without_one_hub_is_refused(tmp_path: Path, text: str) -> None:
    """None, or several: the file is named."""
    (tmp_path / "Caddyfile").write_text(text)
    assert refusal(MERCURE_CADDYFILE=f"{tmp_path}/Caddyfile").startswith(f"{tmp_path}/Caddyfile: ") or not text


@pytest.mark.parametrize(
    ("environment", "starts"),
    [
        ({"MERCURE_PUBLISHER_JWT_KEY": "k", "MERCURE_ANONYMOUS": "1"}, True),
        ({"MERCURE_PUBLISHER_JWT_KEY": "k"}, False),
        ({"MERCURE_SUBSCRIBER_JWT_KEY": "k", "MERCURE_ANONYMOUS": "1"}, False),
        ({"MERCURE_PUBLISHER_JWKS_URL": "https://a/jwks", "MERCURE_SUBSCRIBER_JWKS_URL": "https://a/jwks"}, True),
        ({"MERCURE_ISSUERS": '[{"issuer": "https://a", "publisher": {"jwt": "k"}}]', "MERCURE_ANONYMOUS": "1"}, True),
    ],
)
def test_which_keys_are_needed(environment: dict[str, str], starts: bool) -> None:
    """Somebody must be able to publish; a subscriber's key may be missing where nobody needs one."""
    try:
        load({}, environment)
    except InvalidSetting:
        assert not starts
    else:
        assert starts


@pytest.mark.parametrize(
    "text",
    [
        '[{"issuer": "https://a.example", "publisher": {"jwt": "k", "alg": "HS512"}, "authorization_server": true}]',
        '[[issuers]]\nissuer = "https://a.example"\nauthorization_server = true\npublisher = {jwt="k", alg="HS512"}',
    ],
)
def test_issuers_are_json_or_toml(text: str) -> None:
    """Both say the same; the names in them are those of the directive."""
    (issuer,) = settings_of(MERCURE_ISSUERS=text).issuers
    assert issuer == Issuer("https://a.example", KeySource("k", ("HS512",)), authorization_server=True)


@pytest.mark.parametrize(
    "text",
    [
        *('{"issuer": "x"}', "[1]", '[{"issuer": "no uri"}]', "issuers = 3", "hunter2", "[" * 2000),
        '[{"issuer": "https://a", "publisher": {"jwt": "hunter2", "jwks_uri": "https://b"}}]',
        '[{"issuer": "https://a", "publisher": {"jwt": "hunter2", "alg": "none"}}]',
        '[{"issuer": "https://a", "publisher": {"key": "hunter2"}}]',
        '[{"issuer": "https://a", "hunter2": 1}]',
        '[{"issuer": "https://a"}, {"issuer": "https://a"}]',
        '[{"issuer": "https://a", "authorization_server": "yes"}]',
    ],
)
def test_wrong_issuers_are_refused(text: str) -> None:
    """What is wrong is told without what the text holds, for it holds keys."""
    message = refusal(MERCURE_ISSUERS=text)
    assert message.startswith("MERCURE_ISSUERS: ")
    assert "hunter2" not in message


def test_keys_come_over_https() -> None:
    """Over plain HTTP anybody on the way could put keys of his own in; --dev alone allows it."""
    url = {"MERCURE_PUBLISHER_JWKS_URL": "http://127.0.0.1/jwks"}
    assert "https:// only" in refusal(**url)
    assert "https:// only" in refusal(
        MERCURE_ISSUERS='[{"issuer": "https://a", "publisher": {"jwks_uri": "http://a/jwks"}}]'
    )
    assert load({}, url, dev=True)[0].publisher_jwks_url == "http://127.0.0.1/jwks"


def test_a_certificate_needs_its_key() -> None:
    """One file of the two is an error that names the other."""
    assert "MERCURE_TLS_KEY is needed too" in refusal(MERCURE_TLS_CERT="cert.pem")
    assert "MERCURE_TLS_CERT is needed too" in refusal(MERCURE_TLS_KEY="key.pem")


DOCUMENTED = (Path(__file__).parents[3] / go_image.PAGE).read_text()
EXAMPLES = {
    "transport_url": "memory://",
    "transport": "bolt {\n path /data/x.db\n size 0\n cleanup_frequency 0.3\n bucket_name u\n}",
    "publisher_jwt": "key HS256",
    "subscriber_jwt": "key HS256",
    "publisher_jwks_url": "https://a.example/jwks",
    "subscriber_jwks_url": "file:///run/jwks",
    "issuer": "https://a.example {\n authorization_server\n publisher {\n jwt key\n}\n subscriber {\n jwt key\n}\n}",
    "cors_origins": "https://a.example",
    "publish_origins": "https://*.a.example",
    "resource_identifier": "https://a.example/.well-known/mercure",
    "public_urls": "https://a.example https://b.example",
    "cookie_name": "a",
    "heartbeat": "40s",
    "write_timeout": "1h30m",
    "dispatch_timeout": "0",
    "max_request_body_size": "0",
    "name": "books",
    "protocol_version_compatibility": "8",
}
"""A use of each directive that takes something."""


def rows(heading: str) -> list[tuple[str, str]]:
    """The names in the first cells of the table under a heading of the page, each with what is said of it."""
    _, _, section = DOCUMENTED.partition(f"## {heading}\n")
    cells = re.findall(r"^\| (`.*?) \| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return [(name, said) for cell, said in cells for name in re.findall(r"`([A-Za-z_]+)", cell)]


@pytest.mark.parametrize(("name", "said"), rows("The directives"))
def test_each_directive_of_the_page_starts(name: str, said: str) -> None:
    """As the page says: it is taken, or it changes nothing and a warning names it."""
    text = f"{name} {EXAMPLES.get(name, '')}".strip()
    said_of = (f"directive {name!r} ", f": {name} is for trying")
    warned = any(one in each for one in said_of for each in warnings_of(MERCURE_EXTRA_DIRECTIVES=text))
    assert warned is (name in go_image.MEANINGLESS or name == "playground")
    assert ("accepted" in said) is (name in go_image.MEANINGLESS or name == "protocol_version_compatibility")


@pytest.mark.parametrize(("name", "said"), rows("The environment"))
def test_each_variable_of_the_page_starts(name: str, said: str) -> None:
    """As the page says: it is taken, or it means nothing and a warning names it."""
    values = {
        "SERVER_NAME": ":80",
        "MERCURE_TRUSTED_ISSUERS": "https://a.example",
        "MERCURE_TRANSPORT_URL": "redis://valkey",
        "MERCURE_EXTRA_DIRECTIVES": "anonymous",
    }
    value = "HS512" if name.endswith("_ALG") else "a value"
    _, warnings = load({}, {**KEYS, name: values.get(name, value)})
    assert any(name in each for each in warnings) is (name in go_image.VARIABLES)
    assert bool(re.match("means? nothing", said)) is (name in go_image.VARIABLES)


def test_every_name_is_on_the_page() -> None:
    """Each directive and each variable that this hub knows has its row."""
    directives = {each.name for each in SETTINGS.values() if each.directive}
    assert {*directives, *go_image.OWN, *go_image.MEANINGLESS} <= {name for name, _ in rows("The directives")}
    assert {*go_image.VARIABLES} <= {name for name, _ in rows("The environment")}


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
