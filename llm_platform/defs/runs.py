"""Runs as a sensor has to see them: under way, ended, or left behind by a process that is gone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import dagster as dg

from llm_platform.warehouse.holders import node, process_started

STATE_TAG = "llm_platform/source_state"
APPLICATION_TAG = "llm_platform/application"
PROCESS_TAG = "llm_platform/process"
PRIORITY_TAG = "dagster/priority"
"""Dagster's own: of the runs that wait in the queue, and of the steps that wait for a pool, the highest goes first."""

BACKFILL_YIELDS = 20
"""How far the priority of a backfill's runs is below that of the deployment's other runs."""

PARTITION_TAG = "dagster/partition"
FOLLOWED_TAG = "llm_platform/followed"
"""On runs of training after which a terminal starts the everyday job itself."""

NO_RETRY_TAG = "dagster/retry_on_asset_or_op_failure"
"""Dagster's own tag; with the value `false` on runs that ended with a permanent error."""

# A run that was never started is not here: asked for again under its run key, the daemon starts that very run.
UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Attempts:
    """Ended runs for one state of a source.

    Attributes:
        ended: How many have ended.
        failed: How many of them ended without success since the last success.
        permanent: Whether the last one failed with an error that comes again until somebody changes something.
        last_run_id: The last one, or None.
        last_ended: When it ended, in seconds since 1970.
    """

    ended: int
    failed: int
    permanent: bool
    last_run_id: str | None
    last_ended: float


def attempts(instance: dg.DagsterInstance, state: str) -> Attempts:
    """What became of the runs that were asked for because of a state of a source."""
    records = [
        record
        for record in instance.get_run_records(dg.RunsFilter(tags={STATE_TAG: state}))
        if record.dagster_run.is_finished
    ]
    failed = next((at for at, record in enumerate(records) if record.dagster_run.is_success), len(records))
    last = records[0] if records else None
    return Attempts(
        ended=len(records),
        failed=failed,
        permanent=last is not None and last.dagster_run.tags.get(NO_RETRY_TAG) == "false",
        last_run_id=last.dagster_run.run_id if last else None,
        last_ended=(last.end_time or 0.0) if last else 0.0,
    )


def under_way(instance: dg.DagsterInstance, application: str) -> str | None:
    """Id of a run of the application that has not ended, whoever asked for it."""
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)):
        if works_on(run, application):
            return run.run_id
    return None


def backfill_job(application: str) -> str:
    """Name of the job whose partitions are the buckets of an application's documents."""
    return f"{application}_backfill"


def finetune_job(application: str) -> str:
    """Name of the job that trains an application's adapters."""
    return f"{application}_finetune"


def studies_job(application: str) -> str:
    """Name of the job that compares recipes and numbers of examples of an application's adapters."""
    return f"{application}_studies"


def judge_job(application: str) -> str:
    """Name of the job that asks an application's judges that score nothing yet."""
    return f"{application}_judge"


def works_on(run: dg.DagsterRun, application: str) -> bool:
    """Whether a run is of one of the application's jobs, or of a selection of its assets, as the UI makes them.

    A run of one bucket is not: it publishes nothing, and others share the work with it.
    """
    if PARTITION_TAG in run.tags:
        return False
    selected = any(key.path[0] == application for key in run.asset_selection or ())
    return selected or application in (run.job_name, run.tags.get(APPLICATION_TAG))


def take_up(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
    """Write down which process works on the run, and end runs whose process is gone: one may hold our pool slot."""
    mark = json.dumps([node(), os.getpid(), process_started(os.getpid())])
    if context.run.tags.get(PROCESS_TAG) != mark:
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: mark})
    end_dead_runs(context.instance)


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report runs as failed whose process on this machine is gone, and give their pool slots back; returns their ids.

    Dagster's run monitoring asks the launcher, and the one for local processes cannot say: a killed run would stay
    started, keep its slot, and the next one would wait for ever. Runs of other machines are left to their launcher.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])):
        where, pid, started = json.loads(run.tags.get(PROCESS_TAG, '["", 0, null]'))
        if where and where == node() and process_started(pid) != started:
            instance.report_run_failed(run, f"Process {pid} of this run is gone. What it had stored stays.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended.append(run.run_id)
    return ended
