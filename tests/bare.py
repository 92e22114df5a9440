"""``python -m tests.bare``: a quick part of the suite on a PATH with Python, make and Debian's base system alone.

What it lacks must be skipped with a word, and nothing may fail or time out for it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.needs import PACKAGES

ROOT = Path(__file__).parents[1]
ABSENT = {*PACKAGES, "gcc", "clang", "c99", "c89", "valkey-server", "nginx", "docker", "dockerd", "pg_lsclusters"} - {
    "bash",
    "git",
}
QUICK = [
    *("tests/bench", "tests/e2e/test_docs.py", "tests/e2e/test_browser.py", "tests/transports/test_contract.py"),
    *("tests/transports/redis/test_secrets.py", "tests/hub/cli"),
]
MUST_SAY = ("Tests that need", "redis-server", "postgres", "curl", "chromium", "apt-get install")


def main() -> int:
    """The exit code: pytest's, or 1 where it did not say what it has skipped."""
    with tempfile.TemporaryDirectory() as folder:
        for directory in reversed(os.environ["PATH"].split(":")):
            for program in Path(directory).glob("*"):
                if program.name not in ABSENT:
                    link = Path(folder, program.name)
                    link.unlink(missing_ok=True)
                    link.symlink_to(program)
        environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"PATH": folder}
        assert not any(shutil.which(program, path=folder) for program in ABSENT)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK, *sys.argv[1:]]
        run = subprocess.run(command, check=False, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(run.stdout)
    silent = [word for word in MUST_SAY if word not in run.stdout]
    if silent:
        sys.stdout.write(f"the end of the run does not say: {', '.join(silent)}\n")
    return run.returncode or bool(silent)


if __name__ == "__main__":
    sys.exit(main())
