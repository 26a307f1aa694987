"""Documents answered as a backfill of many runs, on a real instance with Dagster's own queue and backfill daemons.

Only the launcher differs from a deployment's: a run is executed here instead of in a process of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import yaml

from llm_platform_tests.defs.deployment import BACKFILL, Deployment, deployed, wait_until
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team

# Dagster's snapshot of a schedule reads a property that Dagster calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")

BUCKETS = 3


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
    with deployed(team, processes=False) as running:
        yield running


@pytest.mark.slow
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
        deployment.launch("mails", ["documents", "completions_clear"])
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


def requests_sent(instance: dg.DagsterInstance) -> dict[str | None, int]:
    """Partition → requests of its newest materialization."""
    key = dg.AssetKey([NAME, "completion_buckets_clear"])
    events = instance.fetch_materializations(key, limit=10).records
    return {
        event.partition_key: int(event.asset_materialization.metadata["requests_sent"].value)
        for event in events
        if event.asset_materialization is not None
    }
