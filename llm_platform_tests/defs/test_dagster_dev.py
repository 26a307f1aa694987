"""Dagster's webserver and daemon as `llm-platform dev` starts them, and Dagster's own commands on the checkout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import PlatformError
from llm_platform.nim.engine_process import free_port
from llm_platform.settings.settings import CHECKOUT
from llm_platform_tests.defs.tables import LakeTable
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team

BIN = Path(sys.executable).parent
DEADLINE_SECONDS = 120.0
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "llm_platform"}

WRITE = """
import json, sys
from pathlib import Path
from llm_platform_tests.defs.tables import LakeTable
LakeTable(Path(sys.argv[1])).write(json.loads(sys.argv[2]))
"""

LAUNCH = """
mutation Launch($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on InvalidSubsetError { message }
  }
}
"""
RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"
RUNS = "{ runsOrError { ... on Runs { results { runId status pipelineName tags { key value } } } } }"
SENSORS = """
query($selector: RepositorySelector!) {
  sensorsOrError(repositorySelector: $selector) {
    ... on Sensors { results { name minIntervalSeconds sensorState { status ticks(limit: 1) { status skipReason } } } }
  }
}
"""
CHECKS = """
query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode { assetChecksOrError { ... on AssetChecks { checks { name jobNames } } } }
  }
}
"""
ASSETS = "{ assetNodes { assetKey { path } staleStatus isMaterializable } }"


@dataclass
class Dev:
    """A running webserver and daemon."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def query(self, text: str, **variables: Any) -> Any:
        """Data of a GraphQL answer; None while nobody answers."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from error
        except OSError:
            return None
        assert not answer.get("errors"), answer
        return answer["data"]

    def wait_for(self, what: str, condition: Callable[[], Any], *, every_seconds: float = 0.25) -> Any:
        """The first true value of `condition`."""
        deadline, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
        while not (found := condition()):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = self.log.read_text(encoding="utf-8", errors="replace")[-6000:]
                raise AssertionError(f"{what} did not happen; {'it ended' if ended else 'too late'}.\n{said}")
            pause.wait(every_seconds)
        return found


@contextmanager
def dev(environment: dict[str, str], log: Path) -> Iterator[Dev]:
    """`llm-platform dev`, in a process group of its own."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / "llm-platform", "dev", "--port", str(port), "--page-port", "0"],
            env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield Dev(f"http://127.0.0.1:{port}", process, log)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        deadline, pause = time.monotonic() + 30, threading.Event()
        while process.poll() is None or members(process.pid):
            if time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
            pause.wait(0.1)


def members(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it has just gone
                continue
            if int(its_group) == group and state not in "ZX":
                found.append(int(folder.name))
    return found


def environment_of(team: Team, table: LakeTable) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_PLATFORM_", "DAGSTER_"))}
    return {
        **kept,
        "LLM_PLATFORM_STATE": str(team.settings.state),
        "LLM_PLATFORM_NAMESPACE": team.settings.namespace,
        "LLM_PLATFORM_APPLICATIONS": str(team.root / "applications"),
        "LLM_PLATFORM_MODELS_LOCK": str(team.lock_file),
        "LLM_PLATFORM_WAREHOUSES": json.dumps({"desk": table.url}),
        "LLM_PLATFORM_SENSOR_SECONDS": "1",
        "LLM_PLATFORM_OUTAGE_SECONDS": "5",
    }


def published(team: Team) -> set[str]:
    """Keys of what readers get; nothing while the lake is not there, or is just being made."""
    try:
        with team.warehouse.open(read_only=True) as lake:
            return set(lake.application(NAME).published.table(1)["document_id"].to_pylist())
    except PlatformError:
        return set()


@pytest.mark.slow
def test_the_daemon_follows_a_table_and_the_ui_shows_and_materializes_assets(
    tmp_path: Path, model: ScriptedServer
) -> None:
    """What a person sees after `make dev`: the sensor is on, a change of the table is published, buttons work."""
    table = LakeTable(tmp_path / "upstream")
    team = Team(tmp_path / "team", model.url, documents=40, warehouses={"desk": table.url})
    team.specification["source"] = table.source
    team.write_specification()
    before = {str(number): team.text(number) for number in range(40)}
    after = {**before, "40": team.text(40), "1": team.text(1, note="again")}
    del after["0"]
    table.write(before)

    with dev(environment_of(team, table), tmp_path / "dev.log") as ui:
        ui.wait_for("The first publication", lambda: published(team) == before.keys(), every_seconds=1.0)
        subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / "upstream"), json.dumps(after)],
            check=True, cwd=CHECKOUT, timeout=60,
        )  # fmt: skip
        ui.wait_for("The publication of the change", lambda: published(team) == after.keys(), every_seconds=1.0)
        quiet = ui.wait_for("A quiet sensor", lambda: sensor_that_waits(ui))
        # The sensor that looks at endpoints starts runs of its own.
        runs = [run for run in ui.query(RUNS)["runsOrError"]["results"] if run["pipelineName"] == NAME]
        launched = ui.query(LAUNCH, executionParams=as_the_button_does(ui, ["models", "model_scripted"]))
        assert launched["launchPipelineExecution"]["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["launchPipelineExecution"]["run"]["runId"]
        ui.wait_for("The launched run", lambda: status(ui, run_id) in ("SUCCESS", "FAILURE"))
        assets = {"/".join(node["assetKey"]["path"]): node for node in ui.query(ASSETS)["assetNodes"]}

        assert quiet["sensorState"]["status"] == "RUNNING"
        assert quiet["minIntervalSeconds"] == 1
        assert [run["status"] for run in runs] == ["SUCCESS", "SUCCESS"]
        assert status(ui, run_id) == "SUCCESS"
        assert assets[f"{NAME}/documents"]["staleStatus"] == "FRESH"
        assert assets[f"{NAME}/published"]["staleStatus"] == "FRESH"
        assert assets["desk/tickets"]["isMaterializable"] is False
        # 40 texts and two that changed, by two variants; the champion is one of them.
        assert model.counts.requests == 2 * (40 + 2)


def as_the_button_does(ui: Dev, path: list[str]) -> dict[str, Any]:
    """What the button "Materialize" sends: one asset, and its checks."""
    job, key = "__ASSET_JOB", {"path": path}
    checks = ui.query(CHECKS, key=key)["assetNodeOrError"]["assetChecksOrError"]["checks"]
    names = [check["name"] for check in checks if job in check["jobNames"]]
    selected = {"assetSelection": [key], "assetCheckSelection": [{"assetKey": key, "name": name} for name in names]}
    return {
        "mode": "default",
        "executionMetadata": {"tags": []},
        "runConfigData": "{}",
        "selector": {**LOCATION, "pipelineName": job, **selected},
    }


def status(ui: Dev, run_id: str) -> str:
    return str(ui.query(RUN, id=run_id)["runOrError"]["status"])


def sensor_that_waits(ui: Dev) -> Any:
    sensors = {sensor["name"]: sensor for sensor in ui.query(SENSORS, selector=LOCATION)["sensorsOrError"]["results"]}
    sensor = sensors[f"{NAME}_source_changed"]
    ticks = sensor["sensorState"]["ticks"]
    reason = (ticks[0]["skipReason"] or "") if ticks else ""
    return sensor if "is as documents consumed it" in reason else None


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["dg", "check", "defs"], id="dg"),
        pytest.param(
            ["dagster", "definitions", "validate", "-w", "workspace.yaml"], id="dagster", marks=pytest.mark.slow
        ),
    ],
)
def test_dagsters_own_commands_find_the_definitions_in_the_checkout(tmp_path: Path, command: list[str]) -> None:
    """`dg` reads pyproject.toml and the others workspace.yaml; both have to name the same location."""
    environment = {**os.environ, "LLM_PLATFORM_STATE": str(tmp_path / "state"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("DAGSTER_HOME", None)
    environment["VIRTUAL_ENV"] = sys.prefix  # dg warns about any other one

    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not match" not in done.stdout + done.stderr
