"""The sensor that decides on rollouts, tick by tick, and what a run of the graph makes of its decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.defs.graph import Graph
from llm_platform.defs.rollout_sensor import rollout_sensor
from llm_platform_tests.operations.release.site import Site, answers
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
GUARDS: dict[str, Any] = {
    "valid_rate": {"minimum": 0.9, "action": "withdraw", "documents": 5, "reason": "a hole in ten is too many"}
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ScriptedServer(answer=answers, keep_bodies=True) as model:
        yield Site(tmp_path, model, guards=GUARDS)


def tick(site: Site, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    sensor = rollout_sensor(Graph(site.team.loaded, site.team.settings), job_name=NAME)
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
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(site, instance)
        assert isinstance(first, dg.SensorResult)
        again = tick(site, instance, cursor=first.cursor)
        broken = site.newest()
        site.start("clearer")
        after = tick(site, instance, cursor=first.cursor)

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
def test_a_run_of_the_graph_goes_on_where_the_decision_left(site: Site) -> None:
    """Shadow, decision and published rows are steps of the everyday run; `published` alone goes around none of them."""
    site.serve()
    site.start("clearer")
    site.start("vague")
    with dg.DagsterInstance.ephemeral() as instance:
        job = site.team.definitions().resolve_job_def(NAME)
        assert job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET).success
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
