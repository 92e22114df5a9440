"""``python -m tests.chart``: the Helm chart, rendered by Helm itself and held against Kubernetes' schemas.

No cluster is needed. Where ``helm`` is not on the PATH it is built from its Go module, which takes a minute or two.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from hub.config.settings import load

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "mercure-hub"
MODULE = "helm.sh/helm/v3/cmd/helm@v3.18.6"
BUILT = ROOT / ".venv" / "helm"
VERSION = "1.31"
KUBERNETES = ("--kube-version", f"{VERSION}.0")
"""A Helm that is built from its module alone takes an old one for granted."""
OF_OTHERS = ("ServiceMonitor",)
"""Kinds that Kubernetes itself does not know; that one is the Prometheus operator's."""

KEY = "a-secret-of-32-characters-at-least"
REDIS = ("--set", "transportUrl=redis://valkey:6379/0", "--set", "persistence.enabled=false")

Document = dict[str, Any]


def helm() -> str:
    """The program. Raises `subprocess.CalledProcessError` where it can't be built."""
    if found := shutil.which("helm"):
        return found
    if not (BUILT / "helm").exists():
        environment = {**os.environ, "GOBIN": str(BUILT), "GOFLAGS": "-mod=mod"}
        subprocess.run(["go", "install", MODULE], env=environment, check=True)
    return str(BUILT / "helm")


def rendered(*arguments: str) -> dict[str, Document]:
    """The documents by their kinds and, where there are several, names."""
    command = [helm(), "template", "x", str(CHART), *KUBERNETES, "--set", f"publisherJwtKey={KEY}", *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    documents = [each for each in yaml.safe_load_all(text) if each]
    for each in documents:
        if each["kind"] not in OF_OTHERS:
            # Raises `ValidationError`; a field that Kubernetes doesn't know is an error too.
            kubernetes_validate.validate(each, VERSION, strict=True)
    return {f"{each['kind']} {each['metadata']['name']}": each for each in documents}


def pod(documents: dict[str, Document]) -> Document:
    found: Document = documents["Deployment x-mercure-hub"]["spec"]["template"]["spec"]
    return found


def environment(documents: dict[str, Document]) -> dict[str, str]:
    """The variables of the hub, with a key in the place of what stands in the Secret."""
    (container,) = pod(documents)["containers"]
    return {each["name"]: each.get("value", KEY) for each in container["env"]}


def check_defaults() -> None:
    """One replica with a volume, read-only, not root, and a grace period above the drain; the hub would start."""
    documents = rendered()
    assert sorted(documents) == [
        *("Deployment x-mercure-hub", "PersistentVolumeClaim x-mercure-hub", "Secret x-mercure-hub"),
        "Service x-mercure-hub",
    ]
    found, (container,) = pod(documents), pod(documents)["containers"]
    settings, _ = load({}, environment(documents))
    assert found["terminationGracePeriodSeconds"] > settings.drain
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert found["securityContext"]["runAsNonRoot"] is True
    assert settings.transport_url == "lmdb:///data/hub?lock_timeout=60s"
    assert documents["Deployment x-mercure-hub"]["spec"]["replicas"] == 1


def check_many() -> None:
    """Replicas on Redis, scaled, with a budget and metrics."""
    switches = ("autoscaling.enabled", "podDisruptionBudget.enabled", "metrics.serviceMonitor.enabled")
    documents = rendered(*REDIS, *(part for each in switches for part in ("--set", f"{each}=true")))
    assert {each.split()[0] for each in documents} == {
        *("Deployment", "Secret", "Service", "ServiceMonitor", "PodDisruptionBudget", "HorizontalPodAutoscaler")
    }
    assert "replicas" not in documents["Deployment x-mercure-hub"]["spec"]
    monitor = documents["ServiceMonitor x-mercure-hub"]["spec"]["selector"]["matchLabels"]
    assert monitor.items() <= documents["Service x-mercure-hub-admin"]["metadata"]["labels"].items()


def check_settings() -> None:
    """Settings are variables of the hub's, and are understood; a Secret that is there already is named."""
    values = "settings.anonymous=1,settings.cors_origins=https://a.example,drainSeconds=30,existingSecret=mine"
    documents = rendered("--set", values, "--set", "transportUrl=")
    assert not any(each.startswith("Secret") for each in documents)
    said = environment(documents)
    said.pop("MERCURE_TRANSPORT_URL")
    settings, _ = load({}, said)
    assert (settings.anonymous, settings.cors_origins, settings.drain) == (True, ("https://a.example",), 30)
    assert pod(documents)["terminationGracePeriodSeconds"] == 45


def check_the_key_is_wanted() -> None:
    """Without a key, and without a Secret, nothing is rendered, and it is said what is missing."""
    command = [helm(), "template", "x", str(CHART), *KUBERNETES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "publisherJwtKey is not set" in done.stderr


def main() -> int:
    subprocess.run([helm(), "lint", "--strict", str(CHART), *KUBERNETES, "--set", f"publisherJwtKey={KEY}"], check=True)
    checks: Sequence[Any] = (check_defaults, check_many, check_settings, check_the_key_is_wanted)
    for each in checks:
        each()
        sys.stdout.write(f"{each.__name__}: {each.__doc__.splitlines()[0]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
