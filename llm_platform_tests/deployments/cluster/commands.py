"""What scenes say, run and wait for."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import helm_python
import yaml

CLUSTER = Path(os.environ.get("CLUSTER", ""))
"""The folder with `cluster.py` and `services.sh`."""
ROOT = Path(os.environ.get("CLUSTER_ROOT", "/tmp/kubernetes"))
STATE = ROOT / "cluster"
KEPT = ROOT / "test-cluster"
"""What the scenes hand to each other, and the logs of what fails."""
NETWORK = "kubetest"
NODE = "10.99.0.1"
NAMESPACE = "llm-platform"

say = print
started = time.monotonic()


def step(text: str) -> None:
    say(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)


def run(*command: str | Path, **options: Any) -> str:
    """Output of a program; its errors on failure."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))[:300]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None) -> str:
    return run("kubectl", "--kubeconfig", STATE / "admin.kubeconfig", *arguments, input=given)


def helm(namespace: str) -> helm_python.Config:
    """Helm, for releases in one namespace."""
    helm_python.disable_logging()
    return helm_python.Config(kubeconfig_path=str(STATE / "admin.kubeconfig"), namespace=namespace)


def apply(*objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))


def look() -> None:
    """What there is, said when a step has failed."""
    with suppress(SystemExit):
        say(kubectl("-n", NAMESPACE, "get", "pods,jobs", "-o", "wide"))
        say(kubectl("-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp")[-3000:])
        for pod in kubectl("-n", NAMESPACE, "get", "pods", "-o", "name").split():
            with suppress(SystemExit):
                say(f"== {pod}\n" + kubectl("-n", NAMESPACE, "logs", pod, "--tail=25"))


def wait(what: str, holds: Callable[[], Any], seconds: float, pause: float = 2.0) -> Any:
    """What `holds` returns once that is true."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if found := holds():
            step(f"{what}: after {time.monotonic() - begun:.0f} s")
            return found
        time.sleep(pause)
    look()
    raise SystemExit(f"{what}: not within {seconds:.0f} s")
