"""What `make docs` makes of the code: settings, HTTP API, command line and Python API; and files of the repository that
pages point at."""

import json
import posixpath
import re
from collections.abc import Iterator
from inspect import cleandoc, signature
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from openapi_spec_validator import validate

import hub
from hub import client
from hub.cli.commands import main
from hub.config.setting import table
from hub.config.settings import SETTINGS

ROOT = Path(__file__).parents[1]
SOURCE = "files"
"""Where files of the repository stand in the site."""
ELSEWHERE = {"README.md": "index.md", "README.md#settings": "reference/settings.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {
        "settings": settings,
        "http-api": http_api,
        "command-line": command_line,
        "python": python_api,
        "changelog": lambda: (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](../"),
    }
    for name, make in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    shown = [str(each.relative_to(ROOT)) for each in (ROOT / "examples").glob("*/*") if each.suffix in (".md", ".png")]
    for target in sorted({*named_by(files), *shown}):
        path = ROOT / target
        files.append(
            File.generated(config, f"{SOURCE}/{target}", abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
        )
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository, which are right on the forge, as this site has them.

    A link to a program that stands alone in its line becomes the program.
    """
    markdown = re.sub(r"^\[(examples/[^\]]+\.(py|js|php))\]\([^)]+\)$", _program, markdown, flags=re.MULTILINE)
    up = posixpath.relpath(".", posixpath.dirname(page.file.src_uri) or ".")

    def moved(match: re.Match[str]) -> str:
        target = match[1]
        place = ELSEWHERE.get(target, f"{SOURCE}/{target}")
        return f"]({posixpath.join(up, place)})"

    return re.sub(_LINK_OUT, moved, markdown)


_LINK_OUT = re.compile(
    r"\]\((?:\.\./)+((?:README\.md|stack\.yml|deploy/|examples/|docker-compose\.yml|Dockerfile)[^)]*)\)"
)


def _program(match: re.Match[str]) -> str:
    text = (ROOT / match[1]).read_text().rstrip()
    return f'```{match[2]} title="{match[1]}"\n{text}\n```'


def named_by(files: Files) -> set[str]:
    """Files of the repository that pages point at."""
    found: set[str] = set()
    for file in files.documentation_pages():
        found |= set(_LINK_OUT.findall(file.content_string))
    return {each for each in found if each not in ELSEWHERE}


def settings() -> str:
    """The README's table."""
    head = (
        "Every setting is a flag of `mercure-hub serve`, a variable, and a file that the variable with `_FILE` names."
    )
    return f"# Settings\n\n{head}\n\n{table(SETTINGS.values())}"


def command_line() -> str:
    """Each command's own help."""
    return "# Command line\n\n" + "\n".join(commands(main, "mercure-hub"))


def commands(group: click.Group, name: str) -> Iterator[str]:
    context = click.Context(group, info_name=name, max_content_width=100, terminal_width=100)
    for each in group.list_commands(context):
        command = group.commands[each]
        if not command.hidden:
            text = command.get_help(
                click.Context(command, context, info_name=each, max_content_width=100, terminal_width=100)
            )
            yield f"## {name} {each}\n\n```text\n{text}\n```\n"


def python_api() -> str:
    """What ``from hub import …`` has, with its signatures."""
    parts = ["# Python API\n\n`from hub import …`\n"]
    for name in hub.__all__:
        found: Any = getattr(hub, name)
        parts.append(f"## {name}\n\n{_described(found)}\n")
        if name == "Hub":
            public = ("asgi", "running", "lifespan", "publish", "publish_threadsafe", "subscribe", "subscriptions")
            for each in public:
                member = getattr(found, each)
                shown = f"hub.{each}" + (
                    "" if each == "asgi" else str(signature(member)).replace("(self, ", "(").replace("(self)", "()")
                )
                parts.append(f"### {each}\n\n```python\n{shown}\n```\n\n{_described(member)}\n")
    parts.append("# Clients\n\n`from hub.client import …`, with the extra `client`\n")
    for name in client.__all__:
        found = getattr(client, name)
        parts.append(f"## {name}\n\n{_described(found)}\n")
        for each in ("discover", "publish", "publish_many", "subscribe"):
            if member := getattr(found, each, None):
                shown = f"{name}.{each}{signature(member)}".replace("(self, ", "(")
                parts.append(f"### {name}.{each}\n\n```python\n{shown}\n```\n\n{_described(member)}\n")
    return "\n".join(parts)


def _described(member: Any) -> str:
    """A docstring as Markdown: names of the code in single backticks."""
    return re.sub(r"``(.+?)``", r"`\1`", cleandoc(member.__doc__ or ""))


def http_api() -> str:
    """`openapi.json` as a page."""
    spec = json.loads((ROOT / "docs" / "openapi.json").read_text())
    validate(spec)
    parts = [f"# HTTP API\n\n{spec['info']['description']}\n\nThe same as [OpenAPI 3.1](../openapi.json).\n"]
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():  # QUERY is an extension: OpenAPI 3.1 does not know it
            parts.append(f"## {method.removeprefix('x-').upper()} {path}\n\n{operation['description']}\n")
            fields = [(each["name"], each["in"], each["description"]) for each in operation.get("parameters", [])]
            body = operation.get("requestBody", {}).get("content", {}).get("application/x-www-form-urlencoded", {})
            properties = body.get("schema", {}).get("properties", {})
            fields += [(name, "form", each["description"]) for name, each in properties.items()]
            if fields:
                parts.append("| name | in | what it is |\n|---|---|---|")
                parts[-1] += "".join(f"\n| `{name}` | {where} | {text} |" for name, where, text in fields) + "\n"
            parts.append("| status | when |\n|---|---|")
            parts[-1] += (
                "".join(f"\n| {status} | {each['description']} |" for status, each in operation["responses"].items())
                + "\n"
            )
    return "\n".join(parts)
