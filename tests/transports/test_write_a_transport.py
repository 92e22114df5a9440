"""The page that shows how to write a transport: what it builds keeps the contract."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 200
"""Lines that the example may have."""


def test_the_documented_transport_keeps_the_contract(tmp_path: Path) -> None:
    """The page's two blocks of Python, installed as a package would be, pass the public suite."""
    page = (ROOT / "docs/write-a-transport.md").read_text()
    transport, suite = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(transport.splitlines()) < MOST
    (tmp_path / "mercure_sqlite.py").write_text(transport)
    (tmp_path / "test_sqlite.py").write_text(suite)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    metadata = tmp_path / "mercure_sqlite-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mercure-sqlite\nVersion: 1\n")
    (entry_points,) = re.findall(r"^```toml\n\[project\.entry-points\.(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (metadata / "entry_points.txt").write_text("[" + entry_points.replace('"', ""))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert int(re.findall(r"(\d+) passed", run.stdout)[0]) > 30
