"""docs/operations.md against the code: every line of the log and every metric is there, and nothing else is."""

import ast
import json
import re
import subprocess
from pathlib import Path

from hub.observe.counts import Ended, Failure
from hub.observe.metrics import NAMES
from hub.problems import Reason
from tests.needs import needs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations.md"
CALLS = {
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "begin": "error",
    "end": "warning",
    "info": "info",
}
"""How a line is written, and with which level."""


def text_of(node: ast.expr) -> str | None:
    """A message as the page has it: what differs from line to line is an ellipsis."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:[-\d.]*[sdrgf])", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
    return None


def lines_in_the_code() -> set[tuple[str, str]]:
    found = set()
    for path in [*(ROOT / "hub").rglob("*.py"), *(ROOT / "transports").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr in CALLS and re.fullmatch(r"(self\._)?(logger|full|replaced|trouble|outage)", owner):
                text = text_of(node.args[0])
                if text and text != "…":
                    found.add((CALLS[node.func.attr], text.replace("|", "\\|")))
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    _, _, section = PAGE.read_text().partition(f"## {heading}\n")
    lines = re.findall(r"^\| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[1:]]


def test_every_line_of_the_log_is_explained() -> None:
    """Its level, its text, what it means and what to do; and no line that the code does not write."""
    explained = {(level, text.strip("`")) for level, text, *_ in rows("Lines of the log")}
    assert explained == lines_in_the_code()


def test_every_metric_is_explained() -> None:
    """By its name, with what it says."""
    assert [name.strip("`") for name, *_ in rows("Metrics")] == list(NAMES)


def test_every_reason_is_explained() -> None:
    """The words that the log, the metric and `explain` share."""
    assert [name.strip("`") for name, *_ in rows("Why somebody was refused")] == [each.value for each in Reason]
    text = PAGE.read_text()
    assert all(f"`{each}`" in text for each in (*Ended, *Failure))


def metrics_in(text: str) -> set[str]:
    """The names of metrics of ours in a text, without what a histogram or a query puts behind them."""
    return {re.sub(r"_(bucket|count|sum)$", "", each) for each in re.findall(r"\bmercure_[a-z_]+\b", text)}


def test_the_dashboard_and_the_alerts_know_the_metrics() -> None:
    """Each metric that they name exists; the dashboard shows all of them."""
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    shown = metrics_in(" ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]))
    assert shown == set(NAMES)
    assert metrics_in((ROOT / "deploy/prometheus/alerts.yml").read_text()) <= set(NAMES)


def test_prometheus_takes_the_alerts() -> None:
    """Its own tool finds no fault with them."""
    needs("promtool")
    subprocess.run(["promtool", "check", "rules", ROOT / "deploy/prometheus/alerts.yml"], check=True)
