"""What a lake needs by itself: the jobs that merge files and let go of what is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from llm_platform.defs.care import COMPACTION, RETENTION
from llm_platform.resources.dagster_history import forget_runs
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import load_settings
from llm_platform_tests.defs.conftest import QUIET
from llm_platform_tests.team import Team
from llm_platform_tests.warehouse.builders import fill


def test_the_job_of_compaction_merges_the_files_of_the_lake(team: Team, instance: dg.DagsterInstance) -> None:
    """Micro-batches leave small files whether or not somebody thinks of them."""
    warehouse = WarehouseResource.of(team.settings)
    with warehouse.open() as lake:
        for number in range(4):
            fill(lake, [f"d{one}" for one in range(number + 1)])
        before = len(list(Path(lake.location.data_path).rglob("documents/*.parquet")))

    done = team.definitions().resolve_job_def(COMPACTION).execute_in_process(run_config=QUIET, instance=instance)

    assert done.success
    with warehouse.open() as lake:
        assert lake.frame("reviews", "documents").num_rows == 4
        assert lake.compact().files_before < before


def test_the_job_of_retention_lets_go_of_old_runs_and_rows(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Dagster's history grows with every run, and a policy that nobody carries out is none."""
    team = Team(tmp_path, "http://127.0.0.1:9", retention_days={"events": 1e-9})
    definitions = team.definitions()
    past = definitions.resolve_job_def(COMPACTION).execute_in_process(run_config=QUIET, instance=instance)

    done = definitions.resolve_job_def(RETENTION).execute_in_process(run_config=QUIET, instance=instance)

    assert done.success
    assert [run.run_id for run in instance.get_runs()] == [done.run_id]
    assert past.run_id != done.run_id


def test_only_runs_that_ended_long_ago_are_forgotten(instance: dg.DagsterInstance) -> None:
    """One that waits or works must not lose its events."""
    states = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.SUCCESS]
    for status in states:
        instance.add_run(dg.DagsterRun(job_name=str(status), status=status))
    now = datetime.now(UTC)

    assert forget_runs(instance, days=90, now=now) == 0
    assert forget_runs(instance, days=90, now=now + timedelta(days=91), dry_run=True) == 1
    assert forget_runs(instance, days=90, now=now + timedelta(days=91)) == 1
    assert {run.status for run in instance.get_runs()} == set(states[:2])


def test_both_are_scheduled_where_sensors_are_on_and_a_time_is_stated(tmp_path: Path) -> None:
    """A deployment that acts by itself cares for itself; a notebook's does not."""
    on = Team(tmp_path / "on", "http://127.0.0.1:9", sensors=True, compaction_schedule="")
    off = Team(tmp_path / "off", "http://127.0.0.1:9")

    assert {RETENTION: dg.DefaultScheduleStatus.RUNNING}.items() <= scheduled(on).items()
    assert COMPACTION not in scheduled(on)
    branch = Team(tmp_path / "branch", "http://127.0.0.1:9", sensors=True, upstream="production")
    assert RETENTION not in scheduled(branch), "its files may keep documents for fewer days, and all namespaces would"
    assert scheduled(off)[COMPACTION] == scheduled(off)[RETENTION] == dg.DefaultScheduleStatus.STOPPED


def scheduled(team: Team) -> dict[str, dg.DefaultScheduleStatus]:
    """Job → whether its schedule starts switched on."""
    return {one.job_name: one.default_status for one in team.definitions().schedules or []}


def test_a_time_that_cron_does_not_know_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster would say it when the code location loads, without the name of the setting."""
    monkeypatch.setenv("LLM_PLATFORM_COMPACTION_SCHEDULE", "weekly")

    with pytest.raises(Exception, match=r"LLM_PLATFORM_COMPACTION_SCHEDULE.+cron has five"):
        load_settings()
