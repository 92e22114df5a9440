"""What systemd is told: that the hub serves, that it is alive, that it ends (sd_notify(3)).

`hub.server.server` and the supervisor call it; who starts the hub says where the socket is.
"""

import socket
import time
from dataclasses import dataclass, field


@dataclass
class Notify:
    """``path``: of systemd's datagram socket, empty for nobody. ``watchdog``: seconds between two signs of life; 0."""

    path: str = ""
    watchdog: float = 0.0
    _alive: float = field(default=0.0)

    def ready(self) -> None:
        """It accepts connections, and serves or stands by."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The drain has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Called once a second by the event loop; says so twice in `watchdog`."""
        now = time.monotonic()
        if self.watchdog and now - self._alive >= self.watchdog / 2:
            self._alive = now
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self.path:
            return
        # A path that begins with @ is an abstract one (unix(7)).
        address = f"\0{self.path[1:]}" if self.path.startswith("@") else self.path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifying:
            try:
                notifying.sendto(state.encode(), address)
            except OSError:
                return  # whoever was to be told is gone
