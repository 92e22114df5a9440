"""What systemd puts into the environment of a service: sockets (sd_listen_fds(3)), and where to say that it serves."""

import os
import socket
from collections.abc import Mapping

from hub.server.notify import Notify

FIRST = 3
"""The descriptor of the first socket."""


def sockets_in(environment: Mapping[str, str]) -> list[socket.socket]:
    """Those that were bound for this process, if any."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or not environment.get("LISTEN_FDS", "").isdigit():
        return []
    return [socket.socket(fileno=FIRST + number) for number in range(int(environment["LISTEN_FDS"]))]


def notify_in(environment: Mapping[str, str]) -> Notify:
    """Where to notify, and how often a watchdog wants to hear of us."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    watchdog = int(microseconds) / 1e6 if ours and microseconds.isdigit() else 0.0
    return Notify(environment.get("NOTIFY_SOCKET", ""), watchdog)
