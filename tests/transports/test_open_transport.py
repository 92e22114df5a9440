"""From a URL to a transport."""

import sys
from pathlib import Path

import pytest

import transports
from transports import InvalidTransport, Transport, open_transport
from transports.memory import MemoryTransport


def refusal(url: str) -> str:
    with pytest.raises(InvalidTransport) as caught:
        open_transport(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_known_schemes(tmp_path: Path) -> None:
    """The scheme chooses the class, and nothing is touched before `open`."""
    assert isinstance(open_transport("memory://"), MemoryTransport)
    assert not open_transport(f"lmdb://{tmp_path}/hub").shared
    assert open_transport(f"lmdb://{tmp_path}/hub?lock=shared").shared
    assert not list(tmp_path.iterdir())


def test_unknown_scheme() -> None:
    """An unknown scheme is refused with the one that was meant, and the ones there are."""
    text = refusal("lmbd:///data/hub")
    assert text.startswith("\"lmbd:///data/hub\": invalid transport: unknown scheme 'lmbd'; did you mean lmdb://?")
    assert "memory://" in text
    assert "did you mean" not in refusal("bolt:///data/mercure.db")


@pytest.mark.parametrize("url", ["", "/data/hub", "memory", "lmdb:/data/hub"])
def test_no_scheme(url: str) -> None:
    """What has no scheme is told how to write one."""
    assert "no scheme; write" in refusal(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://?sise=1", "unknown parameter 'sise'; known are max_bytes, size"),
        ("memory://host", "takes no host"),
        ("memory://?size=0", "'0' is not a whole number"),
        ("lmdb:///d?lok=shared", "unknown parameter 'lok'; known are index, lock, lock_timeout"),
        ("lmdb:///d?lock=shared&lock=shared", "'lock' is given twice"),
        ("lmdb:///d?lock=", "'lock' has no value"),
        ("lmdb:///d?lock=both", "lock is exclusive or shared, not 'both'"),
        ("lmdb:///d?sync=yes", "sync is on or off, not 'yes'"),
        ("lmdb:///d?lock_timeout=soon", "'soon' is not a duration"),
        ("lmdb:///d?ttl=1w", "'1w' is not a duration"),
        ("lmdb:///d?size=many", "'many' is not a whole number"),
        ("lmdb:///d?map_size=1", "map_size is between"),
        ("lmdb:///d?map_size=9999TiB", "map_size is between"),
        ("lmdb://", "names no directory"),
        ("lmdb:///", "names no directory"),
        ("lmdb:///d%00", "names no directory"),
        ("lmdb:///d#x", "fragment"),
        ("lmdb://[/d", "not a URL"),
        ("redis://", "names no host"),
        ("redis://a:1,b:2", "it names several hosts"),
        ("redis://a,b", "it names several hosts; write redis://host:6379/0, redis+sentinel:// or"),
        ("redis://host:99999", "port is not a number"),
        ("redis://host/two", "the database is a number"),
        ("redis://host#x", "write / ? # and @ in a password as %2F"),
        ("redis://host?db=1", "unknown parameter 'db'"),
        ("redis://host?size=-1", "'-1' is not a whole number"),
        ("memory://?max_bytes=much", "'much' is not a size"),
        ("lmdb:///d?network_fs=on", "network_fs is yes or no, not 'on'"),
        ("redis://host?prefix={a}", "prefix must not contain braces"),
        ("unix://", "names no socket"),
        ("unix://run/redis.sock", "names no socket"),
        ("redis+sentinel://a,b", "names no service"),
        ("redis+sentinel://a,,b/service", "names no host"),
        ("redis+sentinel://a,b:0x/service", "port is not a number"),
        ("redis+sentinel://a/service/x", "the database is a number"),
        ("redis+cluster://a,b/0", "a cluster has no databases"),
        ("redis+cluster://", "names no host"),
        ("redis://host?wait_timeout=1s", "wait_replicas waits, which is missing"),
        ("redis://host?wait_replicas=0", "'0' is not a whole number"),
        ("redis://host?wait_replicas=1&wait_timeout=0", "wait_timeout must be longer than 0"),
        ("redis://host?ssl_ca_certs=ca.pem", "unknown parameter 'ssl_ca_certs'"),
        ("rediss://host?ssl_keyfile=key.pem", "ssl_certfile, which is missing"),
    ],
)
def test_wrong_urls(url: str, said: str) -> None:
    """A wrong URL is refused in one line that names what is wrong with it."""
    text = refusal(url)
    assert text.startswith(f'"{url}": invalid transport: ')
    assert said in text


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host?sise=1",
        "redis://:se/cret@host",
        "redis://user:se?cret@host",
        "redis://:se#cret@host",
        "redis://:cret:secret@host:x",
        "rediss://:secret@host/x",
        "redis://:secret@host?password_file=/run/password",
        "redis+sentinel://:secret@a,b",
        "redis+sentinel://:secret@a,b:c/service",
        "redis+cluster://:se/cret@a,b",
        "postgresql://u:secret@host/db?sise=1",
        "postgresql://u:se/cret@host/db",
        "postgresql://host/db?password=secret&size=x",
        "postgresql://host/db?sslpassword=secret&sslmod=require",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """No refusal holds a password, nor a piece of one that was not escaped."""
    assert "cret" not in refusal(url)


def forget(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test's end, that package has not been imported, as a module or as an attribute of its parent."""
    for name in [name for name in sys.modules if name.startswith(f"transports.{transport}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(transports, transport, raising=False)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster"])
def test_extra_of_many_schemes(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named after the module, whichever of its schemes was asked for."""
    forget("redis", monkeypatch)
    for name in ("redis", "redis.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'mercure-hub[redis]' brings it" in refusal(f"{scheme}://host")


def test_the_extra_of_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for PostgreSQL's driver."""
    forget("postgres", monkeypatch)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert "pip install 'mercure-hub[postgres]' brings it" in refusal("postgresql://host")


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme whose driver is not installed says how to install it."""
    forget("lmdb", monkeypatch)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert "package 'lmdb' is missing; pip install lmdb brings it" in refusal("lmdb:///d")


def test_third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package adds a scheme by an entry point."""
    (tmp_path / "nowhere.py").write_text(
        "from transports.memory import MemoryTransport as Base\nclass Nowhere(Base): ...\n"
    )
    metadata = tmp_path / "nowhere-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nowhere\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[mercure_hub.transports]\nnowhere = nowhere:Nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    transport = open_transport("nowhere://")
    assert isinstance(transport, Transport)
    assert type(transport).__name__ == "Nowhere"
    (tmp_path / "nowhere.py").write_text("import no_such_driver\n")
    monkeypatch.delitem(sys.modules, "nowhere")
    said = refusal("nowhere://")
    assert "the package 'no_such_driver' is missing; it is needed by nowhere" in said
    assert "mercure-hub[" not in said
