"""How the log is written: text for a person, or JSON with the Go hub's names for a collector."""

import json
import logging
import sys
import time
from collections.abc import Mapping

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS = ("text", "json")
_GROUPS = ("update", "subscriber")
"""What a line may be about; each a mapping in ``extra``."""


class Text(logging.Formatter):
    """``2026-11-26T23:59:59.123Z INFO hub.server.server: …``, with the process where there are several."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, *, process: bool) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {'%(process)d ' if process else ''}%(name)s: %(message)s")


class Json(logging.Formatter):
    """One object a line: ``level``, ``ts`` in seconds, ``logger``, ``msg``, and ``error`` where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "level": record.levelname.lower(),
            "ts": record.created,
            "logger": record.name,
            "msg": record.getMessage(),
            "pid": record.process,
        }
        line |= {name: getattr(record, name) for name in _GROUPS if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = repr(record.exc_info[1])
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(*, level: str, form: str, process: bool) -> None:
    """Write the hub's own lines from ``level`` on, and other libraries' from warning on, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Text(process=process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))
    for name in ("hub", "transports"):
        logging.getLogger(name).setLevel(LEVELS[level])
