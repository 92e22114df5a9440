"""Whoever comes back after an import is served by a real process."""

from tests.e2e.conftest import hubs

__all__ = ["hubs"]
