"""The package `hub` under its distribution's name, for programs where another `hub` might be meant.

from mercure_hub import Hub, Settings
"""

TYPE_CHECKING = False
"""As type checkers take it."""

if TYPE_CHECKING:
    from hub import Grants, HistoryLost, Hub, Problem, Settings, create_app

__all__ = ["Grants", "HistoryLost", "Hub", "Problem", "Settings", "create_app"]

import hub as _hub  # noqa: E402 - PEP 8 has __all__ before imports

if not hasattr(_hub, "_PLACES"):
    raise ImportError(
        f"'import hub' finds {_hub.__file__}, which is not mercure-hub's: it stands before it on sys.path;"
        " move or rename it"
    )


def __getattr__(name: str) -> object:
    return getattr(_hub, name)
