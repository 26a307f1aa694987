"""Documents answered as a backfill of many runs, on a real instance with Dagster's own queue and backfill daemons.

Only the launcher differs from a deployment's: a run is executed here instead of in a process of its own.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from llm_platform.resources.pools import apply_pool_limits
from llm_platform.settings import CHECKOUT
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, NAME, Team

# Dagster's snapshot of a schedule reads a property that Dagster calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")

BUCKETS = 3
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LAUNCHER = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
BACKFILL = """
mutation($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) { __typename ... on PythonError { message } }
}
"""
LAUNCH = """
mutation($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) { __typename ... on PythonError { message } }
}
"""


@dataclass
class Deployment:
    """Definitions in a file, as a code location, and an instance."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def click(self, mutation: str, **variables: Any) -> None:
        """Do what a button of the UI does."""
        context = self.workspace.create_request_context()
        (reply,) = execute_dagster_graphql(context, mutation, variables).data.values()
        assert reply["__typename"] in ("LaunchBackfillSuccess", "LaunchRunSuccess"), reply

    def launch(self, job: str, assets: Sequence[str] | None) -> None:
        """Launch a job, or a selection of its application's assets."""
        selected = None if assets is None else [{"path": [job, *name.split("/")]} for name in assets]
        selector = {**self.repository, "pipelineName": job, "assetSelection": selected, "assetCheckSelection": None}
        self.click(LAUNCH, executionParams={"selector": selector, "runConfigData": QUIET})

    @property
    def repository(self) -> dict[str, str]:
        context = self.workspace.create_request_context()
        return {
            "repositoryName": "__repository__",
            "repositoryLocationName": context.code_location_names[0],
        }

    def tick(self) -> None:
        """One look of the backfill daemon and of the queue; the runs that it starts go to their end."""
        for error in execute_backfill_iteration(self.workspace, logging.getLogger("backfills")):
            assert error is None, error
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
            list(daemon.run_iteration(self.workspace))


@pytest.fixture
def team(tmp_path: Path, model: ScriptedServer) -> Team:
    """Two applications on one model: the backfilled one has few buckets."""
    team = Team(tmp_path, model.url, documents=30)
    team.specification["documents"] = {"buckets": BUCKETS}
    team.specification["variants"].pop("vague")
    team.write_specification()
    other = team.folder.with_name("mails")
    shutil.copytree(team.folder, other)
    (other / "application.yaml").write_text(yaml.safe_dump({**team.specification, "name": "mails"}), encoding="utf-8")
    return team


@pytest.fixture
def deployment(team: Team) -> Iterator[Deployment]:
    home = team.root / "dagster"
    home.mkdir()
    settings = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"))
    (home / "dagster.yaml").write_text(yaml.safe_dump({**settings, "run_launcher": LAUNCHER}), encoding="utf-8")
    file = team.root / "location.py"
    file.write_text(
        "from llm_platform.definitions import build_definitions\n"
        "from llm_platform.settings import Settings\n"
        f"settings = Settings.model_validate_json({team.settings.model_dump_json()!r})\n"
        "defs = build_definitions(settings)\n",
        encoding="utf-8",
    )
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        apply_pool_limits(instance, {}, entries=[ENTRY])
        target = InProcessTestWorkspaceLoadTarget(
            InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(file), attribute="defs"))
        )
        yield Deployment(instance, stack.enter_context(WorkspaceProcessContext(instance, target)))


def test_a_backfill_is_a_run_for_each_bucket_and_a_production_run_goes_before_the_rest(
    team: Team, model: ScriptedServer, deployment: Deployment
) -> None:
    """One place in the model's pool: what people wait for comes next, and the backfill goes on afterwards."""
    deployment.launch(NAME, ["documents"])
    deployment.tick()
    partitions = {"repositorySelector": deployment.repository, "partitionSetName": f"{NAME}_backfill_partition_set"}
    deployment.click(BACKFILL, backfillParams={"selector": partitions, "partitionNames": ["0", "1", "2"]})
    model.latency_seconds = 2.0
    with ThreadPoolExecutor(1) as daemon:
        under_way = daemon.submit(deployment.tick)
        wait_until(lambda: model.counts.requests > 0)
        model.latency_seconds = 0.0
        deployment.launch("mails", ["documents", "completions/clear"])
        deployment.tick()
        under_way.result()
    deployment.tick()
    deployment.tick()

    runs = deployment.instance.get_run_records(ascending=True)
    assert {run.dagster_run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    named = {run.dagster_run.tags.get("dagster/partition", run.dagster_run.job_name): run for run in runs}
    times = {name: (run.start_time or 0.0, run.end_time or 0.0) for name, run in named.items()}
    assert times["0"][0] < times["mails"][0] < times["0"][1] < times["mails"][1] < times["1"][0] < times["2"][0]
    sent = requests_sent(deployment.instance)
    assert sorted(sent) == ["0", "1", "2"]
    assert all(sent.values())
    assert sum(sent.values()) == 30
    assert set(model.counts.asked.values()) == {2}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + 60.0, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.05)


def requests_sent(instance: dg.DagsterInstance) -> dict[str | None, int]:
    """Partition → requests of its newest materialization."""
    key = dg.AssetKey([NAME, "completion_buckets", "clear"])
    events = instance.fetch_materializations(key, limit=10).records
    return {
        event.partition_key: int(event.asset_materialization.metadata["requests_sent"].value)
        for event in events
        if event.asset_materialization is not None
    }
