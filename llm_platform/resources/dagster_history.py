"""Dagster's history: letting go of it, and what a storage says that keeps runs, events and schedules by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg
from dagster._serdes import ConfigurableClassData

ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def forget_runs(instance: dg.DagsterInstance, *, days: float, now: datetime, dry_run: bool = False) -> int:
    """Delete runs that ended and are older than so many days, with their events; returns how many there are."""
    filters = dg.RunsFilter(statuses=list(ENDED), created_before=now - timedelta(days=days))
    runs = [record.dagster_run.run_id for record in instance.get_run_records(filters)]
    for run_id in () if dry_run else runs:
        instance.delete_run(run_id)
    return len(runs)


class MakesAllThree:
    """Dagster asks a storage for three descriptions, to make its parts anew elsewhere: there are none."""

    @property
    def run_storage_data(self) -> ConfigurableClassData | None:
        """Of the runs."""
        return None

    @property
    def event_storage_data(self) -> ConfigurableClassData | None:
        """Of the events."""
        return None

    @property
    def schedule_storage_data(self) -> ConfigurableClassData | None:
        """Of the ticks."""
        return None
