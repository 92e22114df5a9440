"""Where the program begins: what containers run every few seconds is done without importing the rest.

``mercure-hub health`` and ``--version`` take the short way where nothing has to be read for them but variables. Click
alone takes 20 ms of CPU to import, the settings as much again.
"""

import os
import sys

TIMEOUT = 4.0
"""Seconds; below the default timeout of a container's health check."""
_OURS = ("MERCURE_CADDYFILE", "MERCURE_EXTRA_DIRECTIVES", "MERCURE_EXTRA_DIRECTIVES_FILE", "SERVER_NAME")
"""Variables that have to be understood before it is known where the hub listens."""


def main() -> None:
    """The command line."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        _say_version()
    elif arguments in (["health"], ["health", "--ready"]) and (address := _plain_address()):
        sys.exit(_probe(address, "ready" if "--ready" in arguments else "live"))
    else:
        from hub.cli.commands import main as whole

        whole()


def _say_version() -> None:
    """As the folder of the package's metadata is named: `importlib.metadata` takes 50 ms to say the same."""
    for folder in sys.path:
        try:
            found = [name for name in os.listdir(folder or ".") if name.startswith("mercure_hub-")]
        except OSError:
            continue
        for name in found:
            if name.endswith(".dist-info"):
                sys.stdout.write(f"mercure-hub {name.removeprefix('mercure_hub-').removesuffix('.dist-info')}\n")
                return
    sys.stdout.write("mercure-hub, not installed as a package\n")


def _plain_address() -> tuple[str, int] | None:
    """Where the hub answers, if a variable says so in the plainest way; None: look closer."""
    said = os.environ.get("MERCURE_ADMIN_LISTEN")
    if not said and not any(map(os.environ.get, _OURS)):
        said = os.environ.get("MERCURE_LISTEN")
    host, colon, port = (said or "").rpartition(":")
    simple = colon and port.isdigit() and host.replace(".", "").replace("-", "").isalnum()
    return (host, int(port)) if simple and host != "0.0.0.0" else None  # noqa: S104 - compared, not bound


def _probe(address: tuple[str, int], what: str) -> int:
    """Ask, print the answer, and say with the exit code whether it is a 2xx."""
    import socket

    request = f"GET /mercure/health/{what} HTTP/1.1\r\nHost: {address[0]}\r\nConnection: close\r\n\r\n".encode()
    answer = b""
    try:
        with socket.create_connection(address, TIMEOUT) as connection:
            connection.sendall(request)
            while part := connection.recv(65536):
                answer += part
    except OSError as error:
        sys.stderr.write(f"mercure-hub: http://{address[0]}:{address[1]} does not answer ({error.strerror or error})\n")
        return 1
    head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
    well = head[9:10] == "2"
    (sys.stdout if well else sys.stderr).write(f"{body}\n")
    return 0 if well else 1
