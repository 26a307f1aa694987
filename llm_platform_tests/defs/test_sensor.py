"""The sensor that follows a source table, tick by tick, on real tables and a real lake."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import dagster as dg
import pytest

from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import PROCESS_TAG, end_dead_runs
from llm_platform.defs.sensors import LONGEST_PAUSE_SECONDS, MOST_PERMANENT_FAILURES, source_changed_sensor
from llm_platform.defs.sources import source_asset
from llm_platform.warehouse.holders import node
from llm_platform_tests.defs.tables import LakeTable, PostgresTable, SlotTable, expire_history
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DOCUMENTS = ["documents"]


class Follower:
    """Dagster's daemon in small: it evaluates the sensor, and starts a run once for each run key."""

    def __init__(self, team: Team, instance: dg.DagsterInstance) -> None:
        self.team, self.instance = team, instance
        self.keys: set[str | None] = set()
        self.seconds_ahead = 0.0

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.team.loaded, self.team.settings)

    @cached_property
    def job(self) -> dg.JobDefinition:
        found: dg.JobDefinition = self.team.definitions().resolve_job_def(NAME)
        return found

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        graph = self.graph
        sensor = source_changed_sensor(
            graph,
            source=source_asset(graph.application),
            job_name=NAME,
            clock=lambda: time.time() + self.seconds_ahead,
        )
        with dg.build_sensor_context(instance=self.instance, resources={"warehouse": self.team.warehouse}) as context:
            found = sensor(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    def asked(self) -> list[dg.RunRequest]:
        """Runs that a tick asks for and that were not started before."""
        result = self.tick()
        requests = list(result.run_requests or []) if isinstance(result, dg.SensorResult) else []
        return [request for request in requests if request.run_key not in self.keys]

    def why_not(self) -> str:
        result = self.tick()
        assert isinstance(result, dg.SkipReason), result
        return str(result.skip_message)

    def start(self, request: dg.RunRequest, only: Sequence[str] | None = DOCUMENTS) -> dg.ExecuteInProcessResult:
        self.keys.add(request.run_key)
        keys = None if only is None else [dg.AssetKey([NAME, *name.split("/")]) for name in only]
        return self.job.execute_in_process(
            instance=self.instance, asset_selection=keys, tags=request.tags, raise_on_error=False, run_config=QUIET
        )

    def follow(self, only: Sequence[str] | None = DOCUMENTS) -> dg.ExecuteInProcessResult:
        """One tick that asks for exactly one run, and that run."""
        (request,) = self.asked()
        return self.start(request, only)

    def read(self) -> str:
        """How documents read the source in their newest run."""
        event = self.instance.get_latest_materialization_event(dg.AssetKey([NAME, "documents"]))
        assert event is not None
        assert event.asset_materialization is not None
        return str(event.asset_materialization.metadata["read"].value)

    def documents(self) -> dict[str, str]:
        with self.team.warehouse.open(read_only=True) as lake:
            rows = lake.application(NAME).documents.table(columns=["document_id", "text"]).to_pylist()
        return {row["document_id"]: row["text"] for row in rows}


def texts(*numbers: int, note: str = "") -> dict[str, str]:
    return {str(number): Team.text(number, note=note) for number in numbers}


@pytest.fixture(params=["lake", "postgres"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LakeTable | PostgresTable]:
    """Three tickets in a table of one kind or the other."""
    made: LakeTable | PostgresTable
    if request.param == "lake":
        made = LakeTable(tmp_path / "upstream")
    else:
        made = (SlotTable if request.param == "slot" else PostgresTable)(request.getfixturevalue("postgres_dsn"))
    made.write(texts(1, 2, 3))
    yield made
    if isinstance(made, SlotTable):
        made.remove()


@pytest.fixture
def lake_table(tmp_path: Path) -> LakeTable:
    """Three tickets in a DuckLake, where the kind of table makes no difference or only a DuckLake will do."""
    made = LakeTable(tmp_path / "upstream")
    made.write(texts(1, 2, 3))
    return made


def follower(root: Path, url: str, table: LakeTable | PostgresTable, instance: dg.DagsterInstance) -> Follower:
    team = Team(root / "team", url, warehouses={"desk": table.url})
    team.specification["source"] = table.source
    team.write_specification()
    return Follower(team, instance)


@pytest.fixture
def following(
    tmp_path: Path, model: ScriptedServer, table: LakeTable | PostgresTable, instance: dg.DagsterInstance
) -> Follower:
    return follower(tmp_path, model.url, table, instance)


@pytest.fixture
def on_lake(tmp_path: Path, model: ScriptedServer, lake_table: LakeTable, instance: dg.DagsterInstance) -> Follower:
    return follower(tmp_path, model.url, lake_table, instance)


@pytest.mark.parametrize(
    "table", ["lake", *(pytest.param(one, marks=pytest.mark.slow) for one in ("postgres", "slot"))], indirect=True
)
def test_each_change_of_the_table_becomes_one_run_and_no_change_becomes_none(
    following: Follower, table: LakeTable | PostgresTable
) -> None:
    """Inserts, updates and deletes reach the documents; a quiet table costs nothing."""
    assert following.follow().success
    for change in (texts(1, 2, 3, 4), texts(1, 2, 3, 4, note="!"), texts(2, 3, 4, note="!")):
        assert "is as documents consumed it" in following.why_not()
        table.write(change)

        assert following.follow().success

        assert following.documents() == change
    assert "is as documents consumed it" in following.why_not()
    if isinstance(table, SlotTable):
        assert following.read() == f"changes only: 1 keys changed, says slot {table.name!r}"
        assert following.why_not().endswith(f"; slot {table.name!r} holds back 0 MB of WAL")


def test_a_repeated_tick_asks_for_the_same_run(following: Follower) -> None:
    """The daemon may die between a tick and its run; a run key that changed would mean two runs."""
    first, second = following.asked(), following.asked()

    assert [request.run_key for request in first] == [request.run_key for request in second]
    assert len(first) == 1


def test_a_run_that_is_under_way_is_waited_for(following: Follower) -> None:
    """Two runs for one change would meet at the lease, and one of them would fail for nothing."""
    (request,) = following.asked()
    run = following.instance.create_run_for_job(following.job, tags=request.tags, status=dg.DagsterRunStatus.STARTED)

    assert following.why_not() == f"run {run.run_id} of {NAME} is under way"


def test_a_run_that_somebody_started_by_hand_is_waited_for_too(on_lake: Follower) -> None:
    """It may well be reading the very change."""
    run = on_lake.instance.create_run_for_job(on_lake.job, status=dg.DagsterRunStatus.STARTED)

    assert run.run_id in on_lake.why_not()


def test_a_failed_run_is_asked_for_again_after_a_pause(following: Follower, table: LakeTable | PostgresTable) -> None:
    """What it would have read is still different; the pause grows, so an outage is not hammered."""
    (request,) = following.asked()
    table.break_it()
    failed = following.start(request)
    table.mend_it()

    assert not failed.success
    assert f"run {failed.run_id} failed; it is asked for again in" in following.why_not()
    following.seconds_ahead = LONGEST_PAUSE_SECONDS
    assert following.follow().success
    assert following.documents() == texts(1, 2, 3)
    assert "is as documents consumed it" in following.why_not()


@pytest.mark.slow
def test_a_run_that_failed_after_the_documents_is_asked_for_again(on_lake: Follower, model: ScriptedServer) -> None:
    """Documents are up to date then, and readers still see the past."""
    (request,) = on_lake.asked()
    model.die()
    on_lake.team.settings = on_lake.team.settings.model_copy(update={"outage_seconds": 0.1})
    assert not on_lake.start(request, ["documents", "completions_clear"]).success
    assert on_lake.documents() == texts(1, 2, 3)
    model.come_back()
    on_lake.seconds_ahead = LONGEST_PAUSE_SECONDS

    assert on_lake.follow(only=None).success

    assert model.counts.answered.keys() == {"1", "2", "3"}
    assert "is as documents consumed it" in on_lake.why_not()


def test_runs_that_fail_for_good_end_with_a_reason_and_not_with_a_loop(
    on_lake: Follower, lake_table: LakeTable
) -> None:
    """Two rows for one document fail the same way every time; a person has to look, and is told so."""
    lake_table.run("INSERT INTO up.tickets SELECT * FROM up.tickets WHERE ticket = '2'")
    on_lake.seconds_ahead = LONGEST_PAUSE_SECONDS
    runs = [on_lake.follow() for _ in range(MOST_PERMANENT_FAILURES)]

    reason = on_lake.why_not()

    assert not any(run.success for run in runs)
    assert f"{MOST_PERMANENT_FAILURES} runs for this state of the source failed" in reason
    assert runs[-1].run_id in reason
    assert f"llm-platform run {NAME}" in reason
    lake_table.run("DELETE FROM up.tickets WHERE ticket = '2'")
    assert on_lake.follow().success


def test_a_table_that_returns_to_an_earlier_state_is_followed_there(on_lake: Follower) -> None:
    """Dagster starts a run key once and never again; two states that alternate must not use theirs up."""
    team = on_lake.team
    team.specification["source"] = {"url": "../../tickets.csv", "key": "ticket", "text": "body", "attributes": ["team"]}
    team.write_specification()
    for _ in range(2):
        for change in (texts(1), texts(1, 2)):
            team.write_documents(change)
            assert on_lake.follow().success
            assert on_lake.documents() == change


def test_an_unreadable_table_is_skipped_with_its_reason_and_is_never_an_empty_one(
    following: Follower, table: LakeTable | PostgresTable
) -> None:
    """An empty table would delete every published row."""
    assert following.follow().success
    table.break_it()

    reason = following.why_not()

    assert f"Cannot say whether desk.{table.name} has changed: " in reason
    assert following.documents() == texts(1, 2, 3)
    table.mend_it()
    assert "is as documents consumed it" in following.why_not()


def test_a_removed_column_becomes_a_run_whose_check_fails(
    following: Follower, table: LakeTable | PostgresTable
) -> None:
    """A skipped tick is seen by nobody; a failed check is."""
    assert following.follow().success
    table.remove_column()

    run = following.follow()

    assert not run.success
    (check,) = run.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("source_columns_present", False)
    assert following.documents() == texts(1, 2, 3)


@pytest.mark.parametrize("event", ["replaced", "expired"])
def test_a_table_without_usable_history_is_compared_whole(on_lake: Follower, lake_table: LakeTable, event: str) -> None:
    """The change feed of another table, or one with a hole, would leave documents behind that are gone."""
    assert on_lake.follow().success
    if event == "replaced":
        lake_table.run("CREATE OR REPLACE TABLE up.tickets AS SELECT * FROM up.tickets WHERE ticket <> '1'")
    else:
        lake_table.write(texts(2, 3, 4))
        lake_table.write(texts(2, 3))
        expire_history(lake_table)

    assert on_lake.follow().success

    assert on_lake.read().startswith("everything")
    assert on_lake.documents() == texts(2, 3)


def test_the_source_is_shown_in_the_state_that_was_seen(on_lake: Follower, lake_table: LakeTable) -> None:
    """Staleness above the table follows from this event; equal states must have equal versions."""
    seen = []
    for _ in range(2):
        result = on_lake.tick()
        assert isinstance(result, dg.SensorResult)
        (event,) = result.asset_events
        assert isinstance(event, dg.AssetMaterialization)
        assert event.asset_key == dg.AssetKey(["desk", "tickets"])
        seen.append((event.tags or {})["dagster/data_version"])
    lake_table.write(texts(1))
    result = on_lake.tick()
    assert isinstance(result, dg.SensorResult)

    assert seen[0] == seen[1]
    (event,) = result.asset_events
    assert isinstance(event, dg.AssetMaterialization)
    assert (event.tags or {})["dagster/data_version"] != seen[0]


DEAD = 2**22 + 1
"""No process has this id: it is above the largest that Linux gives."""


@pytest.mark.parametrize(
    ("where", "pid", "ended"),
    [
        pytest.param(node(), DEAD, True, id="process-is-gone"),
        pytest.param("another machine", DEAD, False, id="of-another-machine"),
        pytest.param(None, 0, False, id="has-not-said-yet"),
    ],
)
def test_a_run_whose_process_was_killed_is_ended_and_gives_its_pool_slot_back(
    on_lake: Follower, where: str | None, pid: int, ended: bool
) -> None:
    """Dagster cannot tell for local processes: such a run would be under way for ever, and hold the model's slot."""
    tags = {PROCESS_TAG: json.dumps([where, pid, "1"])} if where else {}
    run = on_lake.instance.create_run_for_job(on_lake.job, tags=tags, status=dg.DagsterRunStatus.STARTED)

    assert end_dead_runs(on_lake.instance) == ([run.run_id] if ended else [])
    assert bool(on_lake.asked()) is ended


def test_a_mass_loss_is_held_until_a_run_accepts_it(
    on_lake: Follower, lake_table: LakeTable, instance: dg.DagsterInstance
) -> None:
    """A source that is nearly empty is more often broken than right, and a sensor confirms nothing."""
    lake_table.write(texts(*range(40)))
    assert on_lake.follow().success
    lake_table.write(texts(1, 2, 3))

    held = [on_lake.why_not() for _ in range(2)]
    (check,) = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey([NAME, "documents"]), "no_mass_loss"), limit=1
    )
    documents = len(on_lake.documents())
    job = on_lake.job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey([NAME, "documents"])],
        tags={"llm_platform/accept_drop": "true"},
        run_config=QUIET,
    )

    assert held[0] == held[1]
    assert "3 rows are left of 40 documents" in held[0]
    assert "llm-platform run tickets --accept-drop" in held[0]
    assert check.status.value == "FAILED"
    assert documents == 40
    assert job.success
    assert on_lake.documents() == texts(1, 2, 3)
    assert "is as documents consumed it" in on_lake.why_not()
