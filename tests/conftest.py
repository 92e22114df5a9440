"""What all tests share: one line at the end says what could not be tested here."""

import pytest

from tests.needs import missing, packages


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if missing:
        names = sorted(missing)
        terminalreporter.section("not everything was tested")
        terminalreporter.write_line(
            f"Tests that need {', '.join(names)} were skipped; Debian: apt-get install {packages(names)}"
        )
