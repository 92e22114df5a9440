"""The table of what was survived is whole, and its figures are those of its tests."""

import ast
from pathlib import Path

from tests.reliability import ROOT, figures, rows, written

OUTCOMES = """<testsuites><testsuite>
<testcase classname="tests.e2e.test_a" name="test_b[redis]" time="1.5"/>
<testcase classname="tests.e2e.test_a" name="test_b[memory]" time="1.0"/>
<testcase classname="tests.e2e.test_a" name="test_c" time="0.25"/>
</testsuite></testsuites>"""


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_test_that_is_named_exists() -> None:
    """Nothing is promised by a test that is no more."""
    for _, tests, _ in rows():
        for test in tests:
            file, _, name = test.partition("::")
            assert name in functions_of(file), test


def test_each_row_has_figures() -> None:
    """`make soak` has written all of them."""
    assert [line for line, _, told in rows() if not told] == []


def test_figures_are_written_where_they_belong(tmp_path: Path) -> None:
    """What a test said, or how long all of its cases took."""
    (tmp_path / "outcomes").write_text(OUTCOMES)
    found = figures(
        "tests/e2e/test_a.py::test_b[redis]\tmuch\ntests/e2e/test_a.py::test_b[memory]\tmore\n", tmp_path / "outcomes"
    )
    assert found == {
        "tests/e2e/test_a.py::test_b": ["much", "more"],
        "tests/e2e/test_a.py::test_c": ["passed in 0.2 s"],
    }
    tests = list(found)
    assert written("| a | b | c | old |", tests, found) == "| a | b | c | much; more; passed in 0.2 s |"
