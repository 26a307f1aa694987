"""A team with a scripted model, and a Dagster instance of its own; a team whose job has run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pytest
from dagster._core.debug import DebugRunPayload

from llm_platform_tests.kept import KeptTeam
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team, answer

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SOURCE = dg.AssetKey([NAME, "source"])


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    """A model that answers right when asked clearly."""
    with ScriptedServer(answer=answer) as server:
        yield server


@pytest.fixture
def team(tmp_path: Path, model: ScriptedServer) -> Team:
    """Sixty tickets, two variants."""
    return Team(tmp_path, model.url)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's history, in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


Kept = tuple[KeptTeam[Team], list[DebugRunPayload]]


class Ran(NamedTuple):
    """A team whose job has run, its model, and Dagster's history of it."""

    team: Team
    model: ScriptedServer
    instance: dg.DagsterInstance


@pytest.fixture(scope="session")
def kept_after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedServer, list[Kept]]]:
    """A team after one run of its job and after two: the first one promotes, in the second one the champion answers."""
    with ScriptedServer(answer=answer) as server, dg.DagsterInstance.ephemeral() as instance:
        team = Team(tmp_path_factory.mktemp("ran") / "team", server.url)
        instance.report_runless_asset_event(dg.AssetMaterialization(SOURCE, tags={"dagster/data_version": "1"}))
        kept = []
        for _ in range(2):
            job = team.definitions().resolve_job_def(NAME)
            assert job.execute_in_process(instance=instance, run_config=QUIET).success
            kept.append((KeptTeam(team), history(instance)))
        yield server, kept


def history(instance: dg.DagsterInstance) -> list[DebugRunPayload]:
    """All runs and events of an instance in memory, for another one to begin with."""
    first, *others = (DebugRunPayload.build(instance, run) for run in reversed(instance.get_runs()))
    # Events point to each other by their numbers, so those without a run have to come back at their place, too.
    return [first._replace(event_list=[*instance.all_logs(""), *first.event_list]), *others]


@pytest.fixture
def ran_after(kept_after: tuple[ScriptedServer, list[Kept]]) -> Iterator[Callable[[int], Ran]]:
    """Makes a team whose job has run that often."""
    server, kept = kept_after
    with ExitStack() as stack:

        def ran(runs: int) -> Ran:
            team, events = kept[runs - 1]
            instance = stack.enter_context(dg.DagsterInstance.ephemeral(preload=events))
            return Ran(team.put_back(), server, instance)

        yield ran


@pytest.fixture
def ran_once(ran_after: Callable[[int], Ran]) -> Ran:
    """One variant is published and the other one refused."""
    return ran_after(1)


@pytest.fixture
def ran_twice(ran_after: Callable[[int], Ran]) -> Ran:
    """The same, and the champion has answered as such: nothing is stale."""
    return ran_after(2)
