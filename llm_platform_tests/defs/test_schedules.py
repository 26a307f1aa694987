"""What an application states to be done at times."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.application.cron import cron_mistake
from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import APPLICATION_TAG
from llm_platform.defs.schedules import schedules_of
from llm_platform.defs.sensors import files_state
from llm_platform.errors import SpecificationError
from llm_platform.operations.answering.documents import FULL_TAG
from llm_platform_tests.team import NAME, Team


@pytest.fixture
def team(tmp_path: Path) -> Team:
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.specification["schedules"] = {
        "run": "0 6 * * 1-5",
        "full": "0 3 * * 0",
        "drift": "*/30 * * * *",
        "timezone": "Europe/Berlin",
    }
    team.specification["publish"] = {"freshness_hours": 26}
    team.write_specification()
    return team


def test_stated_times_become_runs_of_the_right_job_and_none_beside_another(team: Team) -> None:
    """Two runs of one application do the same work; a full one says so by its tag."""
    schedules = {one.name: one for one in schedules_of(Graph(team.loaded, team.settings))}
    with dg.instance_for_test() as instance:

        def asked(name: str) -> Any:
            with dg.build_schedule_context(instance=instance) as context:
                return schedules[f"{NAME}_{name}"](context)

        found = {name: asked(name).tags.get(FULL_TAG) for name in ("run", "full", "drift")}
        instance.add_run(dg.DagsterRun(job_name=NAME, tags={APPLICATION_TAG: NAME}, status=dg.DagsterRunStatus.STARTED))
        beside = str(asked("run").skip_message)

    assert found == {"run": None, "full": "true", "drift": None}
    assert {one.job_name for one in schedules.values()} == {NAME, f"{NAME}_drift"}
    assert {one.execution_timezone for one in schedules.values()} == {"Europe/Berlin"}
    assert "is under way" in beside


def test_the_graph_has_what_is_stated(team: Team) -> None:
    """A promise of freshness is Dagster's too, once something publishes when nothing has changed."""
    definitions = team.definitions()
    published = definitions.resolve_asset_graph().get(dg.AssetKey([NAME, "published"]))

    stated = {one.name for one in definitions.schedules or [] if one.name.startswith(NAME)}
    assert stated == {f"{NAME}_run", f"{NAME}_full", f"{NAME}_drift"}
    assert definitions.resolve_job_def(f"{NAME}_drift") is not None
    assert published.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26))
    before = files_state(team.loaded)
    del team.specification["schedules"]
    team.write_specification()
    assert files_state(team.loaded) == before
    without = team.definitions()
    # Whoever promises and states no time has a run all the same, or the table would look overdue while nothing changes.
    assert [one.name for one in without.schedules or [] if one.name.startswith(NAME)] == [f"{NAME}_kept_fresh"]
    kept = without.resolve_asset_graph().get(dg.AssetKey([NAME, "published"]))
    assert kept.freshness_policy == published.freshness_policy


@pytest.mark.parametrize(
    ("hours", "when"),
    [(0.01, "*/1 * * * *"), (0.5, "*/15 * * * *"), (2, "0 */1 * * *"), (24, "0 */12 * * *"), (200, "0 3 * * *")],
)
def test_a_promise_of_freshness_is_looked_after_in_time_and_never_beside_a_run(
    team: Team, hours: float, when: str
) -> None:
    """An hourly run does not keep the promise of half an hour; and a second run would do the work of the first."""
    del team.specification["schedules"]
    team.specification["publish"] = {"freshness_hours": hours}
    team.write_specification()
    (schedule,) = schedules_of(Graph(team.loaded, team.settings))
    with dg.instance_for_test() as instance:
        instance.add_run(dg.DagsterRun(job_name=NAME, tags={APPLICATION_TAG: NAME}, status=dg.DagsterRunStatus.STARTED))
        with dg.build_schedule_context(instance=instance) as context:
            beside: Any = schedule(context)

    assert (schedule.name, schedule.cron_schedule, schedule.job_name) == (f"{NAME}_kept_fresh", when, NAME)
    assert "is under way" in str(beside.skip_message)


@pytest.mark.parametrize(
    ("schedules", "said"),
    [
        ({"run": "every day"}, "application.yaml:.* found 2 fields; cron has five"),
        ({"run": "0 25 * * *"}, "'25' for the hour; write"),
        ({"timezone": "Mars/Olympus"}, "time zone 'Mars/Olympus' is not known"),
        ({"nightly": "0 3 * * *"}, "'nightly'"),
    ],
)
def test_a_time_that_cannot_be_is_a_mistake_at_its_line(team: Team, schedules: dict[str, str], said: str) -> None:
    """Dagster would refuse the whole application, and not say where it stands."""
    team.specification["schedules"] = schedules
    team.write_specification()

    with pytest.raises(SpecificationError, match=said):
        team.loaded  # noqa: B018


@pytest.mark.parametrize(
    ("text", "is_time"),
    [
        ("0 6 * * 1-5", True),
        ("*/5 0-6,22 1 */2 7", True),
        ("0 6 29 2 *", True),
        ("0 6 31 1/3 *", True),
        ("0 6 31 2 *", False),
        ("0 6 30-31 2,2 1", False),
        ("60 * * * *", False),
        ("5-1 * * * *", False),
        ("*/0 * * * *", False),
        ("* * * * mon", False),
        ("", False),
    ],
)
def test_times_of_cron(text: str, is_time: bool) -> None:
    """What is taken here, Dagster takes."""
    assert (cron_mistake(text) is None) == is_time
    if is_time:
        dg.ScheduleDefinition(job_name="one", cron_schedule=text)
