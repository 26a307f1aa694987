"""The job that looks at every endpoint: a row, checks and a card, without a request to a model."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from llm_platform.defs.monitoring import JOB
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import ENTRY, Team

QUIET: Any = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def test_a_look_stores_a_row_and_asks_no_model(team: Team, model: ScriptedServer, instance: dg.DagsterInstance) -> None:
    """It runs every five minutes on endpoints that work for others."""
    job = team.definitions().resolve_job_def(JOB)

    done = job.execute_in_process(instance=instance, run_config=QUIET)

    found = {one.check_name: one.passed for one in done.get_asset_check_evaluations()}
    assert found == {"endpoints_healthy": True}  # of one look, there is nothing to say of a trend
    with team.warehouse.open(read_only=True) as lake:
        rows = lake.endpoint_metrics.latest().to_pylist()
    assert [(row["entry"], row["base_url"], row["waiting"]) for row in rows] == [(ENTRY, model.url, 0.0)]
    assert (team.settings.cards_folder / "endpoints" / f"{ENTRY}.html").is_file()
    assert model.counts.requests == model.counts.probes == 0


@pytest.mark.slow
def test_looks_that_find_nothing_new_start_no_run(
    team: Team, model: ScriptedServer, instance: dg.DagsterInstance
) -> None:
    """Two hundred and eighty-eight runs a day that say "as before" hide the few that people look for."""
    definitions = team.definitions()
    sensor = definitions.resolve_sensor_def("endpoints")
    cursor = None

    def tick() -> list[dg.RunRequest]:
        nonlocal cursor
        resources = {key: (definitions.resources or {})[key] for key in sensor.required_resource_keys}
        with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
            found = sensor.evaluate_tick(context)
        cursor = found.cursor
        return list(found.run_requests or [])

    first, second = tick(), tick()
    model.silent = True
    third, fourth = tick(), tick()

    assert [len(one) for one in (first, second, third, fourth)] == [1, 0, 1, 0]
    assert third[0].asset_selection == [dg.AssetKey(["models", f"endpoint_metrics_{ENTRY}"])]
    with team.warehouse.open(read_only=True) as lake:
        assert lake.endpoint_metrics.latest().num_rows == 1


def test_the_looks_are_off_unless_sensors_are_on(team: Team) -> None:
    """A laptop that loads the graph must not begin to look at the company's endpoints."""
    off = [one for one in team.definitions().sensors or [] if one.name == "endpoints"]
    team.settings = team.settings.model_copy(update={"sensors": True})
    on = [one for one in team.definitions().sensors or [] if one.name == "endpoints"]

    assert {one.default_status.value for one in off} == {"STOPPED"}
    assert {one.default_status.value for one in on} == {"RUNNING"}
