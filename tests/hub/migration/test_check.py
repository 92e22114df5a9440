"""migrate-check: what of a Go hub's configuration counts, line by line; and what Compose files say."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config.go_image import MEANINGLESS, VARIABLES
from hub.migration.check import Verdict, check
from hub.migration.compose import InvalidCompose, environment_in, services_in
from tests.hub.cli.test_commands import run

RECIPES = Path(__file__).parents[2] / "swarm" / "recipes"
SECRET = "a-secret-of-32-characters-at-least"


def findings(*files: Path) -> dict[str, list[str]]:
    """What is said under each verdict, of one hub."""
    (report,) = check(files)
    return {verdict: [each.what for each in report.findings if each.verdict is verdict] for verdict in Verdict}


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yml")), ids=lambda path: path.stem)
def test_the_official_recipes_start(recipe: Path) -> None:
    """Each of them, as it is: exit code 0, and every variable of the hub is taken."""
    result = run("migrate-check", str(recipe))
    assert result.exit_code == 0, result.stdout
    assert "taken: MERCURE_PUBLISHER_JWT_KEY" in result.stdout
    assert "it starts" in result.stdout


def test_every_line_of_an_environment(tmp_path: Path) -> None:
    """Taken, without a meaning, different; and no value of any of them."""
    env = written(
        tmp_path,
        "hub.env",
        f"""
        # a comment
        MERCURE_PUBLISHER_JWT_KEY={SECRET}
        export MERCURE_SUBSCRIBER_JWT_KEY="{SECRET}" # quoted
        MERCURE_TRANSPORT_URL=bolt:///data/mercure.db?size=10
        MERCURE_EXTRA_DIRECTIVES=topic_selector_cache 10
        SERVER_NAME=hub.example.com
        CADDY_EXTRA_CONFIG='(snippet)'
        DEMO=1
        PATH=/bin
        """,
    )
    found = findings(env)
    assert {"MERCURE_PUBLISHER_JWT_KEY", "MERCURE_TRANSPORT_URL", "SERVER_NAME"} < {*found["taken"]}
    assert [each.partition(":")[0] for each in found["means nothing"]] == [
        "CADDY_EXTRA_CONFIG",
        "directive topic_selector_cache",
    ]
    assert any("no certificate is fetched for hub.example.com" in each for each in found["differs"])
    assert any("starts empty; mercure-hub import --bolt" in each for each in found["differs"])
    assert any(each.startswith("DEMO: it is now the flag --dev") for each in found["differs"])
    assert found["FAILS"] == []
    assert SECRET not in run("migrate-check", str(env)).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "MERCURE_PUBLISHER_JWT_KEY and MERCURE_SUBSCRIBER_JWT_KEY are not set"),
        (f"MERCURE_PUBLISHER_JWT_KEY={SECRET}\nMERCURE_EXTRA_DIRECTIVES=anonymouss\n", "did you mean anonymous?"),
        (f"MERCURE_PUBLISHER_JWT_KEY={SECRET}\nMERCURE_ANONYMOUS=1\nMERCURE_PUBLISHER_JWT_ALG=RS256", "is no PEM text"),
        (f"MERCURE_PUBLISHER_JWT_KEY={SECRET}\nMERCURE_ANONYMOUS=1\nSERVER_NAME=ftp://x", "is not a site address"),
    ],
)
def test_what_would_not_start(tmp_path: Path, text: str, said: str) -> None:
    """It is the line that the start would end with, and exit code 1."""
    env = written(tmp_path, "env", text)
    result = run("migrate-check", str(env))
    assert result.exit_code == 1
    assert said in "".join(findings(env)["FAILS"])
    assert SECRET not in result.stdout


def test_a_caddyfile_of_ones_own(tmp_path: Path) -> None:
    """Its directives are taken; what else it has is not the hub's."""
    text = "hub.example.com {\n mercure {\n  publisher_jwt {env.MERCURE_PUBLISHER_JWT_KEY}\n"
    text += "  anonymous\n }\n php_server\n}\n"
    caddyfile = written(tmp_path, "Caddyfile", text)
    env = written(tmp_path, ".env", f"MERCURE_PUBLISHER_JWT_KEY={SECRET}")
    found = findings(caddyfile, env)
    assert {"directive publisher_jwt", "directive anonymous"} < {*found["taken"]}
    assert any("php_server mean nothing here" in each for each in found["differs"])
    compose = "services:\n  hub:\n    image: dunglas/mercure\n    env_file: .env\n    environment:\n"
    compose += "      - MERCURE_PUBLISHER_JWT_KEY\n      - MERCURE_PUBLISHER_JWT_KEY=${KEY:?}\n"
    compose += "    volumes: ['./Caddyfile:/etc/caddy/Caddyfile:ro', /data]\n"
    mounted = findings(written(tmp_path, "compose.yml", compose), written(tmp_path, "key.env", f"KEY={SECRET}"))
    assert "directive anonymous" in mounted["taken"]
    assert mounted["FAILS"] == []


def test_a_secret_in_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    """It is in the container, and can't be looked at here."""
    text = "MERCURE_PUBLISHER_JWT_KEY_FILE=/run/secrets/key\nMERCURE_PUBLISHER_JWT_ALG=RS256\nMERCURE_ANONYMOUS=1\n"
    found = findings(written(tmp_path, "env", text))
    assert "MERCURE_PUBLISHER_JWT_KEY_FILE" in found["taken"]
    assert found["FAILS"] == []


@pytest.mark.parametrize("name", [*VARIABLES, *(f"directive {each}" for each in MEANINGLESS)])
def test_what_means_nothing_is_said_once(tmp_path: Path, name: str) -> None:
    """Each variable and each directive of that kind has one line, with its reason."""
    said = f"MERCURE_EXTRA_DIRECTIVES={name.removeprefix('directive ')} 1" if " " in name else f"{name}=debug"
    found = findings(written(tmp_path, "env", f"MERCURE_PUBLISHER_JWT_KEY={SECRET}\nMERCURE_ANONYMOUS=1\n{said}\n"))
    assert [each.partition(":")[0] for each in found["means nothing"]] == [name]
    assert not any(name.removeprefix("directive ") in each for each in found["differs"])


def test_a_command_and_a_probe_that_are_not_understood(tmp_path: Path) -> None:
    """They differ, and it is said what the image has."""
    text = f"""
    services:
      app:
        image: nginx
      hub:
        image: dunglas/mercure
        command: caddy fmt
        healthcheck: {{test: [CMD, nc, -z, localhost, "80"]}}
        environment: {{MERCURE_PUBLISHER_JWT_KEY: {SECRET}, MERCURE_ANONYMOUS: true}}
        volumes: [{{type: bind, source: ./x, target: /data}}]
    """
    found = findings(written(tmp_path, "compose.yaml", text))
    assert [each.partition(":")[0] for each in found["differs"]][:2] == ["command", "healthcheck"]


def test_files_are_merged_as_compose_does(tmp_path: Path) -> None:
    """A later file's values count; variables stand for what an ``.env`` says, or for their defaults, nested too."""
    php = "services:\n  php:\n    environment:\n"
    first = written(tmp_path, "a.yml", f"{php}      A: ${{A:-one}}\n      B: ${{B:-${{C:-two}}}}\n      D: a$$b\n")
    second = written(tmp_path, "b.yml", f"{php}      - A=x${{E}}y\n      - F=${{G+set}}\n    image: mercure\n")
    (service,) = services_in([first, second], {"C": "three", "E": "", "G": ""})
    assert service.environment == {"A": "xy", "B": "three", "D": "a$b", "F": "set"}
    assert service.is_hub


@pytest.mark.parametrize("text", ["", "[]", "services: 1", "services: {a: }", "{", "\t- x", "services:\n  a: *b"])
def test_what_is_no_compose_file_is_said(tmp_path: Path, text: str) -> None:
    """No hub in it, or no Compose file: one line and exit code 2."""
    result = run("migrate-check", str(written(tmp_path, "x.yml", text)))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@given(st.text(max_size=200))
def test_any_text_is_an_environment(text: str) -> None:
    """An ``.env`` is somebody else's: whatever it holds, its variables or nothing."""
    assert all(isinstance(value, str) for value in environment_in(text).values())


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(InvalidCompose, match="cannot be read"):
        services_in([tmp_path / "none.yml"], {})
