"""What docs/security.md says of limits and of how the hub is run is so."""

import importlib
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/security.md").read_text()


def test_the_limits_are_those_of_the_code() -> None:
    """Each row's number is the value of the name beside it."""
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| `([\w.]+)\.(\w+)` \|$", PAGE, re.MULTILINE)
    assert len(rows) > 15
    for number, module, name in rows:
        assert getattr(importlib.import_module(module), name) == int(number), (module, name)


def test_the_image_is_nobodys() -> None:
    """It runs under a number that is not root's, without a shell, and its volume belongs to that number."""
    told = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", told, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["mercure-hub"]' in told
    assert "mkdir -m 0700 /data" in told
    assert "--chown=10001:10001 /data /data" in told


def test_stacks_give_a_hub_nothing() -> None:
    """Every service of ours that serves a hub: no place to write but its own, no rights, no new ones."""
    for name in ("docker-compose.yml", "stack.yml"):
        services = yaml.safe_load((ROOT / name).read_text())["services"]
        hubs = [service for service in services.values() if "MERCURE_TRANSPORT_URL" in service.get("environment", ())]
        assert hubs
        assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in hubs), name
        gains = [service.get("security_opt") for service in hubs]  # Swarm knows no such option
        assert gains == [None if name == "stack.yml" else ["no-new-privileges:true"]] * len(hubs)


def test_the_unit_may_do_little() -> None:
    """No rights, no new ones, and no place to write but its own."""
    said = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy/systemd/mercure-hub.service").read_text(), re.MULTILINE))
    wanted = {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": ""}
    assert wanted | {"StateDirectoryMode": "0700", "UMask": "0077"} == {
        name: said[name] for name in (*wanted, "StateDirectoryMode", "UMask")
    }


def test_the_chart_drops_everything() -> None:
    """As its template says it."""
    told = (ROOT / "deploy/helm/mercure-hub/templates/deployment.yaml").read_text()
    for line in (
        "runAsNonRoot: true",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
    ):
        assert line in told


def test_what_is_installed_is_pinned_with_its_hash() -> None:
    """Every requirement of the image, and no index is named."""
    told = (ROOT / "requirements.txt").read_text()
    names = re.findall(r"^([a-z][\w.-]*)==", told, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z][\w.-]*==)", told, flags=re.MULTILINE)[1:]
    assert len(names) == len(blocks) > 10
    assert all("--hash=sha256:" in block for block in blocks)
    assert "http" not in told.replace("httptools", "").replace("httpx", "").replace("httpcore", "")
    assert "--require-hashes" in (ROOT / "Dockerfile").read_text()
