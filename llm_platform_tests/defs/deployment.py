"""Definitions in a code location, an instance with this checkout's settings, and what the UI's buttons do with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from llm_platform.resources.pools import apply_pool_limits
from llm_platform.settings.settings import CHECKOUT
from llm_platform_tests.team import ENTRY, Team

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LAUNCHER = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
# Logs are captured by redirecting this process's output, which two runs in it cannot do at once.
NO_LOGS = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
BACKFILL = """
mutation($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) { __typename ... on PythonError { message } }
}
"""
LAUNCH = """
mutation($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
TERMINATE = """
mutation($runId: String!) {
  terminateRun(runId: $runId) { __typename ... on TerminateRunFailure { message } ... on PythonError { message } }
}
"""
DONE = ("LaunchBackfillSuccess", "LaunchRunSuccess", "TerminateRunSuccess")


@dataclass
class Deployment:
    """Definitions in a file, as a code location, and an instance."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def click(self, mutation: str, **variables: Any) -> dict[str, Any]:
        """Do what a button of the UI does."""
        context = self.workspace.create_request_context()
        (reply,) = execute_dagster_graphql(context, mutation, variables).data.values()
        assert reply["__typename"] in DONE, reply
        return dict(reply)

    def launch(self, job: str, assets: Sequence[str] | None) -> str:
        """Launch a job, or a selection of its application's assets; the run's id."""
        selected = None if assets is None else [{"path": [job, *name.split("/")]} for name in assets]
        selector = {**self.repository, "pipelineName": job, "assetSelection": selected, "assetCheckSelection": None}
        reply = self.click(LAUNCH, executionParams={"selector": selector, "runConfigData": QUIET})
        return str(reply["run"]["runId"])

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


@contextmanager
def deployed(team: Team, *, processes: bool) -> Iterator[Deployment]:
    """A team's deployment, with a code server and a process for each run, or with both in this process."""
    home = team.root / "dagster"
    home.mkdir()
    settings = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"))
    launcher = (
        {"code_servers": {"wait_for_local_processes_on_shutdown": True}}
        if processes
        else {"run_launcher": LAUNCHER, "compute_logs": NO_LOGS}
    )
    (home / "dagster.yaml").write_text(yaml.safe_dump({**settings, **launcher}), encoding="utf-8")
    file = team.root / "location.py"
    file.write_text(
        "from llm_platform.definitions import build_definitions\n"
        "from llm_platform.settings.settings import Settings\n"
        f"settings = Settings.model_validate_json({team.settings.model_dump_json()!r})\n"
        "defs = build_definitions(settings)\n",
        encoding="utf-8",
    )
    in_process = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(file), attribute="defs"))
    target = (
        PythonFileTarget(str(file), attribute="defs", working_directory=str(CHECKOUT), location_name="team")
        if processes
        else InProcessTestWorkspaceLoadTarget(in_process)
    )
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        apply_pool_limits(instance, {}, entries=[ENTRY])
        yield Deployment(instance, stack.enter_context(WorkspaceProcessContext(instance, target)))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + 60.0, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.05)
