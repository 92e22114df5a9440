"""Whether this process has siblings that serve the same: workers of uvicorn, gunicorn or hypercorn.

Each of them has a hub of its own then. With a store in memory they would not hear of each other, without a word.
"""

import os
import re
from pathlib import Path

_HANDLES = re.compile(rb"(tracker_fd|pipe_handle|parent_pid)=\d+")
"""What differs between the command lines of processes that `multiprocessing` starts for the same."""


def has_siblings() -> bool:
    """True where the parent process has another child that was started as this one; False where it can't be seen."""
    parent = os.getppid()
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        ours = _command_line(os.getpid())
    except OSError:
        return False
    return any(_command_line(int(each)) == ours for each in children if int(each) != os.getpid())


def _command_line(process: int) -> bytes:
    try:
        return _HANDLES.sub(rb"\1", Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:  # it has ended
        return b""
