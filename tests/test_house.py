"""The house is as its map says: rooms, floors, and functions that are worth their name."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.needs import needs

ROOT = Path(__file__).parents[1]
ROOMS = [path.parent for package in ("hub", "transports") for path in (ROOT / package).rglob("__init__.py")]
MODULES = 14
"""Modules that a room may have; more ask for another room."""
SHORT, FEW = 6, 25
"""Lines below which a private function that is used once is rather a paragraph, and how many such there may be."""

TOP = {
    *(".ci", ".dockerignore", ".github", ".gitignore", ".pre-commit-config.yaml"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("Dockerfile", "Makefile", "docker-compose.yml", "mkdocs.yml", "pyproject.toml", "stack.yml"),
    *("bench", "deploy", "docs", "examples", "hub", "mercure_hub", "tests", "transports"),
    *("requirements.txt", *(f"requirements-{kind}.txt" for kind in ("bench", "build", "dev", "docs", "fuzz"))),
    *("requirements-otel.txt", "requirements-release.txt"),
}
"""What one sees who opens the repository."""


def modules(room: Path) -> set[str]:
    return {path.name for path in room.glob("*.py")} - {"__init__.py"}


def on_the_map() -> dict[str, set[str]]:
    """The map's rooms with their modules."""
    (text,) = re.findall(r"^## The rooms$.*?^```text$\n(.*?)^```$", _page(), re.DOTALL | re.MULTILINE)
    rooms: dict[str, set[str]] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        while path and path[-1][0] >= indent:
            path.pop()
        if name.endswith("/"):
            path.append((indent, name.removesuffix("/")))
            rooms["/".join(name for _, name in path)] = set()
        else:
            rooms["/".join(name for _, name in path)].add(name)
    return rooms


def _page() -> str:
    return (ROOT / "docs/architecture.md").read_text()


def test_the_map_is_the_tree() -> None:
    """Every room and every module stands on the map, and nothing else does."""
    assert on_the_map() == {str(room.relative_to(ROOT)): modules(room) for room in ROOMS}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_is_introduced_and_not_crowded(room: Path) -> None:
    """Its first lines say what enters, what leaves and where to begin; it has no more modules than one can see."""
    assert len(modules(room)) <= MODULES
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert said
    if room.parent != ROOT:
        assert all(word in said for word in ("In:", "Out:", "Start with"))


def test_nothing_lies_about() -> None:
    """What a program left where it ran is not kept with the source."""
    needs("git")
    kept = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    assert {name.partition("/")[0] for name in kept.split("\0") if name} == TOP


def test_a_function_is_more_than_a_step() -> None:
    """Few private functions are used once and shorter than six lines: those are paragraphs of their caller."""
    sources = [path.read_text() for room in ROOMS for path in room.glob("*.py")]
    uses = Counter(name for source in sources for name in re.findall(r"\w+", source))
    found = [
        node.name
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.match("_[^_]", node.name)
        if uses[node.name] <= 2 and lines_of(node) < SHORT
    ]
    assert len(found) < FEW, found


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without its head and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(
    "word", ["_told", "_elsewhere", "_later", "_left_of", "class Asked", "_said", "_news", "_way", "_obey"]
)
def test_no_riddle_is_left(word: str) -> None:
    """Names say what comes back (the glossary has the words that are ours)."""
    for package in ("hub", "transports", "bench", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            if path != Path(__file__):
                assert not re.search(rf"(?<!\w){word}(?!\w)", path.read_text()), path
