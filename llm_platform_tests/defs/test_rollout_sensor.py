"""The sensor that decides on rollouts, tick by tick, and what a run of the graph makes of its decision."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.testclient import TestClient

from llm_platform.defs.graph import Graph
from llm_platform.defs.rollout_sensor import rollout_sensor
from llm_platform_tests.defs.deployment import LAUNCH, QUIET, Deployment, deployed
from llm_platform_tests.defs.test_graph_runs import failure
from llm_platform_tests.operations.release.site import STAGES, Site, answers
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME

GUARDS: dict[str, Any] = {
    "valid_rate": {"minimum": 0.9, "action": "withdraw", "documents": 5, "reason": "a hole in ten is too many"}
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ScriptedServer(answer=answers, keep_bodies=True) as model:
        yield Site(tmp_path, model, guards=GUARDS)


def tick(
    site: Site, instance: dg.DagsterInstance, now: datetime, cursor: str | None = None
) -> dg.SensorResult | dg.SkipReason:
    sensor = rollout_sensor(Graph(site.team.loaded, site.team.settings), job_name=NAME, clock=lambda: now)
    resources = {"warehouse": site.team.warehouse}
    with dg.build_sensor_context(instance=instance, resources=resources, cursor=cursor) as context:
        found = sensor(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


@pytest.mark.slow
def test_a_tick_decides_without_a_person_and_asks_for_a_run_where_readers_get_something_else(site: Site) -> None:
    """A challenger that mumbles is out within one tick; one that has shown enough is published by the run asked for.

    The decision is stored before the run is asked for, so a tick that is killed in between loses the request alone.
    """
    site.serve()
    site.answer()
    site.start("mumbles")
    site.shares()
    # One hour for all of them: at the full one everything is looked at again.
    now = datetime.now(UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(site, instance, now)
        assert isinstance(first, dg.SensorResult)
        again = tick(site, instance, now, cursor=first.cursor)
        broken = site.newest()
        site.start("clearer")
        after = tick(site, instance, now, cursor=first.cursor)

    assert broken.status == "withdrawn"
    assert broken.reasons[0].startswith("valid_rate is 0.000")
    # No reader had an answer of a shadow, so no run is needed for it.
    assert not first.run_requests
    assert isinstance(again, dg.SkipReason)
    assert again.skip_message == "nothing has changed since the last look"
    assert isinstance(after, dg.SensorResult)
    assert site.newest().stage == 1
    assert after.run_requests is not None
    (request,) = after.run_requests
    assert request.tags["llm_platform/trigger"] == "rollout"


@pytest.mark.slow
def test_what_a_killed_tick_withdrew_is_asked_to_be_published_by_the_next_and_once(site: Site) -> None:
    """Out within a tick: without a change upstream no other run would take a withdrawn canary from readers."""
    site.serve()
    site.answer()
    site.start("clearer")
    site.tick()
    site.shares()
    site.publish()
    assert "clearer" in site.published().values()
    site.ask("withdraw")
    # All that a tick has done which was killed before it asked.
    site.tick()
    now = datetime.now(UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        asked, again = (tick(site, instance, now) for _ in range(2))
        site.publish()
        after = tick(site, instance, now)

    keys = [[one.run_key for one in found.run_requests or ()] for found in (asked, again, after)]  # type: ignore[union-attr]
    assert keys == [[f"rollout:{site.newest().step_id}"], [f"rollout:{site.newest().step_id}"], []]
    assert set(site.published().values()) == {"clear"}


@pytest.mark.slow
def test_a_run_of_the_graph_goes_on_where_the_decision_left(site: Site) -> None:
    """Shadow, decision and published rows are steps of the everyday run; `published` alone goes around none of them."""
    site.serve()
    # A variant without one valid answer ends its own step, and with it the run.
    del site.team.specification["variants"]["mumbles"]
    site.team.write_specification()
    site.start("clearer")
    site.start("vague")
    with dg.DagsterInstance.ephemeral() as instance:
        job = site.team.definitions().resolve_job_def(NAME)
        whole = job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
        assert whole.success, failure(whole)
        published = set(site.published().values())
        alone = [dg.AssetKey([NAME, "published"])]
        result = job.execute_in_process(
            instance=instance, asset_selection=alone, raise_on_error=False, run_config=QUIET
        )

    assert result.success
    with site.store() as store:
        found = {one.variant: (one.status, one.stage) for one in store.rollout_steps.newest()}
    assert found == {"clearer": ("running", 1), "vague": ("withdrawn", 0)}
    assert published <= {"clear", "clearer"}
    assert set(site.published().values()) == published


def launch(pages: TestClient, there: Deployment, assets: list[str], checks: list[Any] | None) -> str:
    """Ask Dagster's server for a run of assets; what it says."""
    selected = [{"path": [NAME, asset]} for asset in assets]
    job = {**there.repository, "pipelineName": NAME, "assetSelection": selected, "assetCheckSelection": checks}
    variables = {"executionParams": {"selector": job, "runConfigData": QUIET}}
    reply = pages.post("/graphql", json={"query": LAUNCH, "variables": variables}).json()
    return str(reply["data"]["launchPipelineExecution"]["__typename"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whatever_is_told_to_dagsters_own_server_moves_no_challenger(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and checks that somebody reports, steps that are launched alone, a name in the environment: none approves.

    The server is Dagster's own, without the guard that ours has: what decides is read from the lake.
    """
    stages = [{**STAGES[0], "approvals": 1, "roles": ["adjudicator"]}, *STAGES[1:]]
    site.team.specification["rollout"]["stages"] = stages
    site.team.write_specification()
    site.serve()
    site.answer()
    site.start("clearer")
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("LLM_PLATFORM_ROLLOUT", "off")
    forged = {"check_name": "champion_passes", "passed": True, "data_version": "forged", "metadata": {"stage": 3}}
    with deployed(site.team, processes=False) as there:
        app = create_app_from_workspace_process_context(there.workspace)
        with TestClient(app, base_url="http://localhost") as pages:
            for asset in ("rollout", "published", "report", "completions_champion"):
                for report in ("materialization", "observation", "check"):
                    reported = pages.post(f"/report_asset_{report}/{NAME}/{asset}", json=forged)
                    assert reported.status_code in (200, 400)
            for alone in (["published"], ["rollout"], ["rollout", "published"]):
                launched = {launch(pages, there, alone, checks) for checks in ([], None)}
                # Dagster refuses to leave out the checks of a step that yields them itself.
                assert "LaunchRunSuccess" in launched
                assert launched <= {"LaunchRunSuccess", "InvalidSubsetError"}
                there.tick()
        assert {run.status for run in there.instance.get_runs()} <= {
            dg.DagsterRunStatus.SUCCESS,
            dg.DagsterRunStatus.FAILURE,
        }

    newest = site.newest()
    assert (newest.variant, newest.status, newest.stage) == ("clearer", "running", 0)
    assert newest.reasons == ("0 of 1 approvals of adjudicator",)
    assert set(site.published().values()) == {"clear"}
    assert "LLM_PLATFORM_IDENTITY_TOKEN" in site.refusal("approve")
