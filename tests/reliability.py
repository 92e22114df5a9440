"""``python -m tests.reliability``: runs what docs/reliability.md names, long, and writes its last column."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")
LONG = {"KILLS": "100", "SOAK": "600", "STREAMS": "1000", "APPENDS": "200000"}
"""What makes tests long, where the environment does not say otherwise."""


def rows() -> Iterator[tuple[str, Sequence[str], str]]:
    """Each line of the table that names tests, with them, and its last column."""
    for line in PAGE.read_text().splitlines():
        tests = TEST.findall(line)
        if line.startswith("| ") and tests:
            yield line, tests, line.rsplit("|", 2)[1].strip()


def figures(told: str, outcomes: Path) -> Mapping[str, Sequence[str]]:
    """For each test, without its parameters: what it said, or how long it took."""
    found = defaultdict[str, list[str]](list)
    for line in told.splitlines():
        test, _, what = line.partition("\t")
        found[test.partition("[")[0]].append(what)
    took = defaultdict[str, float](float)
    for case in ElementTree.parse(outcomes).iter("testcase"):
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        took[name] += float(case.attrib["time"])
    return {test: found.get(test) or [f"passed in {seconds:.1f} s"] for test, seconds in took.items()}


def written(line: str, tests: Sequence[str], found: Mapping[str, Sequence[str]]) -> str:
    """The row with its last column."""
    cells = [each for test in tests for each in found[test]]
    return f"{line.rsplit('|', 2)[0]}| {'; '.join(cells)} |"


def main() -> int:
    wanted = [test for _, tests, _ in rows() for test in tests]
    soaking = [test for test in wanted if "test_soak" in test]
    found: dict[str, Sequence[str]] = {}
    with TemporaryDirectory() as place:
        # What is level is so under any load; what takes time is measured before, without that.
        for processes, chosen in (2, [test for test in wanted if test not in soaking]), (4, soaking):
            told, outcomes = Path(place, f"figures-{processes}"), Path(place, f"outcomes-{processes}.xml")
            told.touch()
            command = [sys.executable, "-m", "pytest", f"-n{processes}", "--dist=load", f"--junitxml={outcomes}"]
            environment = {**LONG, **os.environ, "FIGURES": str(told)}
            if code := subprocess.call([*command, *chosen], cwd=ROOT, env=environment):
                return code
            found |= figures(told.read_text(), outcomes)
    text = PAGE.read_text()
    for line, tests, _ in list(rows()):
        text = text.replace(line, written(line, tests, found))
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
