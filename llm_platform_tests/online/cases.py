"""What tests of the service stand on: a release that serves, the service as a process, and its caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_platform.operations.answering.documents import update_documents
from llm_platform.records import Calibration, RolloutEvent
from llm_platform_tests.team import NAME, Team

PATIENCE_SECONDS = 60.0


def promoted(team: Team, variant: str = "clear", *, calibration: Calibration | None = None) -> str:
    """Let a variant serve, as after a run whose report passed; the id of its release."""
    with team.warehouse.open() as lake:
        loaded, store = team.loaded, lake.application(NAME)
        update_documents(lake, loaded)
        release = loaded.release(variant, store)
        assert release is not None
        release = release.model_copy(update={"calibration": calibration})
        store.releases.put(release)
        before = store.rollout.champion()
        event = RolloutEvent(
            application=NAME,
            event_id=uuid.uuid4().hex,
            action="promote",
            variant=variant,
            release_id=release.release_id,
            report_id="report",
            evaluation_id="evaluation",
            by="test",
            at=datetime.now(UTC),
            evidence=(),
        )
        store.rollout.append(event, expected_previous=None if before is None else before.event_id)
        return release.release_id


@dataclass(frozen=True)
class Said:
    """A reply."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    _lines: list[str] = field(default_factory=list)

    def get(self, path: str, **headers: str) -> Said:
        return said(urllib.request.Request(self.url + path, headers=headers))

    def post(self, path: str, body: Any, **headers: str) -> Said:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", **{name.replace("_", "-"): one for name, one in headers.items()}}
        return said(urllib.request.Request(self.url + path, data=data, headers=given))

    def ask(self, text: str, *, application: str = NAME, **body: Any) -> Said:
        """One document of the team's."""
        return self.post(f"/v1/applications/{application}/answers", {"text": text, **body})

    def ready(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = self.get("/v1/health/ready").body
        return found

    def wait_until(self, holds: Any) -> dict[str, Any]:
        """Look at its health until something holds."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            found = self.ready()
            if holds(found["applications"][NAME]):
                return found
            threading.Event().wait(0.05)
        raise AssertionError(f"the service came to say: {found}")

    @property
    def said(self) -> str:
        """What it has printed and logged."""
        return self.log.read_text(encoding="utf-8")


def said(request: urllib.request.Request) -> Said:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as reply:
            status, body, headers = reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            status, body, headers = error.code, error.read(), error.headers
    given = {name.lower(): value for name, value in headers.items()}
    is_json = given.get("content-type", "").startswith("application/json")
    return Said(status, json.loads(body) if is_json else body.decode(), given)


@contextmanager
def service(
    team: Team, *arguments: str, core: int | None = None, wait: bool = True, **variables: str
) -> Iterator[Service]:
    """`llm-platform serve` in a process of its own, for the length of a `with` block."""
    environment = {
        **os.environ,
        "LLM_PLATFORM_STATE": str(team.settings.state),
        "LLM_PLATFORM_APPLICATIONS": str(team.root / "applications"),
        "LLM_PLATFORM_MODELS_LOCK": str(team.lock_file),
        "LLM_PLATFORM_NAMESPACE": "test",
        "LLM_PLATFORM_OUTAGE_SECONDS": "5",
        **variables,
    }
    command = [sys.executable, "-c", "from llm_platform.cli.main import main; main()", "serve", NAME, "--port", "0"]
    log = team.root / f"serve-{uuid.uuid4().hex}.log"
    with log.open("wb") as file:
        process = subprocess.Popen([*command, *arguments], env=environment, stdout=file, stderr=file)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    try:
        yield _started(process, log, wait=wait)
    finally:
        process.kill()
        process.wait()


def _started(process: subprocess.Popen[bytes], log: Path, *, wait: bool) -> Service:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("Answering at "):
                found = Service(process, line.split()[2].rstrip(";"), log)
                if wait:
                    found.wait_until(lambda state: state["ready"])
                return found
        threading.Event().wait(0.02)
    raise AssertionError(f"the service did not come up: {log.read_text(encoding='utf-8')}")


def stored(team: Team, release_id: str) -> list[dict[str, Any]]:
    """Answers of a release in the lake."""
    with team.warehouse.open(read_only=True) as lake:
        rows: list[dict[str, Any]] = lake.application(NAME).completions.of_release(release_id).to_pylist()
    return rows


def texts(numbers: Sequence[int]) -> dict[str, str]:
    """Documents of the team's by key."""
    return {str(number): Team.text(number) for number in numbers}
