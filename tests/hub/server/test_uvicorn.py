"""What we lean on in uvicorn that is not its public interface, by name: a new version that changes it fails here."""

import inspect
from importlib.metadata import requires, version

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

PROTOCOL = [
    *(
        "transport",
        "flow",
        "server",
        "client",
        "scheme",
        "pipeline",
        "scope",
        "headers",
        "expect_100_continue",
        "cycle",
    ),
    *("config", "app", "loop", "logger", "access_logger", "access_log", "parser", "root_path", "timeout_keep_alive"),
    *("server_state", "connections", "tasks"),
]
"""Set by the protocol for itself; `hub.server.http1` reads or replaces them."""
METHODS = {
    HttpToolsProtocol: [
        "on_message_begin",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "_start_asgi_task",
    ],
    RequestResponseCycle: ["run_asgi", "send", "receive"],
    FlowControl: ["pause_reading", "resume_reading"],
    uvicorn.Server: ["startup", "shutdown", "main_loop", "on_tick", "capture_signals", "serve"],
}
CYCLE = [
    *("scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event"),
    *("expect_100_continue", "keep_alive", "on_response"),
]
STATE = ["disconnected", "waiting_for_100_continue", "body", "more_body", "response_started", "response_complete"]
STATE += ["chunked_encoding", "expected_content_length"]


def test_the_version_is_one_that_was_tried() -> None:
    """It is bounded above in pyproject.toml: private names may change with any minor."""
    (bound,) = [each for each in map(Requirement, requires("mercure-hub") or ()) if each.name == "uvicorn"]
    assert version("uvicorn") in bound.specifier
    assert any(each.operator == "<" for each in bound.specifier)


@pytest.mark.parametrize(("owner", "names"), METHODS.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_the_methods_that_we_call_or_replace(owner: type, names: list[str]) -> None:
    """Each is there, under its name."""
    assert [name for name in names if not inspect.isfunction(getattr(owner, name, None))] == []


@pytest.mark.parametrize("name", PROTOCOL)
def test_the_attributes_of_the_protocol(name: str) -> None:
    """Each is set in its constructor."""
    assert f"self.{name}" in inspect.getsource(HttpToolsProtocol.__init__)


def test_the_cycle_of_a_request() -> None:
    """We make it ourselves: it takes these arguments, and has this state."""
    assert list(inspect.signature(RequestResponseCycle.__init__).parameters)[1:] == CYCLE
    source = inspect.getsource(RequestResponseCycle.__init__)
    assert [name for name in STATE if f"self.{name}" not in source] == []


def test_the_rest() -> None:
    """The state that all connections share, status lines, and the middleware whose effect we want without its call."""
    assert (STATUS_LINE[200], STATUS_LINE[507]) == (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 507 Insufficient Storage\r\n")
    state = ServerState()
    assert {"connections", "tasks", "default_headers"} <= vars(state).keys()
    assert list(inspect.signature(ProxyHeadersMiddleware.__init__).parameters)[1:3] == ["app", "trusted_hosts"]
