"""A launch decides what runs, never on which lake or against which endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_graphql.test.utils import execute_dagster_graphql

from llm_platform_tests.defs.deployment import LAUNCH, deployed
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team

# Dagster's snapshot of a schedule reads a property that Dagster calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")


def overrides(folder: Path) -> list[Any]:
    other = {"catalog": f"sqlite:{folder / 'other.sqlite'}", "data_path": str(folder / "other")}
    return [
        pytest.param({"warehouse": {"config": other}}, id="lake"),
        pytest.param({"warehouse": {"config": {"sources": {"desk": "postgres:dbname=other"}}}}, id="sources"),
        pytest.param({"nim_scripted": {"config": {"lock_file": str(folder / "other.yaml")}}}, id="endpoint"),
        pytest.param({"nim_scripted": {"config": {"api_key": {"env": "HOME"}}}}, id="secret"),
        pytest.param({"alerts": {"config": {"slack_url": "http://127.0.0.1:9"}}}, id="alerts"),
    ]


@pytest.mark.parametrize("resources", overrides(Path("elsewhere")))
def test_run_config_cannot_say_what_a_resource_is(
    team: Team, model: ScriptedServer, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    """Whoever may launch a run would publish another endpoint's answers under an approved release."""
    job = team.definitions().resolve_job_def(NAME)

    with pytest.raises(dg.DagsterInvalidConfigError, match=r"unexpected config entr"):
        job.execute_in_process(instance=instance, run_config={"resources": resources})

    assert model.counts.requests == 0
    assert not (team.root / "state" / "namespaces").exists()


def test_a_launch_through_the_ui_cannot_either(team: Team, model: ScriptedServer) -> None:
    """The launchpad takes any configuration that the schema allows, and so does whoever can reach its port."""
    with deployed(team, processes=False) as there:
        selector = {**there.repository, "pipelineName": NAME, "assetSelection": None, "assetCheckSelection": None}
        config = {"resources": {"warehouse": {"config": {"catalog": "sqlite:other.sqlite", "data_path": "other"}}}}
        parameters = {"selector": selector, "runConfigData": config}

        answer = execute_dagster_graphql(
            there.workspace.create_request_context(), LAUNCH, {"executionParams": parameters}
        )

        assert answer.data["launchPipelineExecution"]["__typename"] == "RunConfigValidationInvalid"
        assert there.instance.get_runs() == []
    assert model.counts.requests == 0


def test_published_launched_alone_through_the_ui_publishes_nothing_that_nobody_approved(
    team: Team, model: ScriptedServer
) -> None:
    """No check, no report, and events that somebody reported by hand: what decides is read from the lake."""
    with deployed(team, processes=False) as there:
        for asset in ("report", "rollout", "completions_champion"):
            there.instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey([NAME, asset])))
        run_id = there.launch(NAME, ["published"])
        there.tick()

        run = there.instance.get_run_by_id(run_id)

        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        assert store.rollout.champion() is None
        assert store.published.table(1).num_rows == 0
    assert model.counts.requests == 0
