"""``--against``: what it says of a hub that it cannot load."""

import pytest
from click.testing import CliRunner

from bench.__main__ import main


@pytest.mark.parametrize("url", ["https://example.com/.well-known/mercure", "example.com"])
def test_only_plain_http_can_be_loaded(url: str) -> None:
    """Another scheme ends with a sentence and exit code 1."""
    result = CliRunner().invoke(main, ["--against", url])
    assert result.exit_code == 1
    assert "is no http:// URL" in result.output
