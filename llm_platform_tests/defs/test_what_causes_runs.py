"""Each kind of change causes the run that it should, once; what changes nothing causes none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import APPLICATION_TAG
from llm_platform.defs.sensors import (
    JUDGING_SECONDS,
    files_changed_sensor,
    known_answers_changed_sensor,
    source_changed_sensor,
)
from llm_platform.defs.sources import source_asset
from llm_platform.models.lock import pin
from llm_platform.operations.answering.documents import known_answers, update_documents
from llm_platform.records import AdapterManifest, Release, RolloutEvent, TrainingData
from llm_platform_tests.operations.answering.rows import verdict
from llm_platform_tests.team import ENTRY, NAME, Team, right_answer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILES, ANSWERS = "files changed", "known answers changed"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """Its documents and known answers are stored, and an adapter of it could be trained."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=8)
    team.specification["finetuning"] = {"mood": {"prompt": "clear", "model": ENTRY}}
    team.specification["variants"]["tuned"] = {"prompt": "clear", "model": ENTRY, "adapter": "mood"}
    team.write_specification()
    team.write_references({f"{number}": right_answer(number) for number in range(7)})
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
    take_over(team)
    return team


def take_over(team: Team) -> None:
    """What a run does with known answers."""
    with team.warehouse.open() as lake:
        lake.application(NAME).references.replace(known_answers(lake, team.loaded.application).rows)


class Watch:
    """The sensors of one application, and the runs that they ask for, as Dagster's daemon keeps them."""

    def __init__(self, team: Team, instance: dg.DagsterInstance) -> None:
        self.team, self.instance = team, instance
        self.cursors: dict[str, str | None] = {}
        self.now = NOW.timestamp() + 10 * JUDGING_SECONDS

    def tick(self) -> dict[str, dg.RunRequest]:
        """Trigger → the run that it asks for."""
        graph = Graph(self.team.loaded, self.team.settings)
        found: dict[str, dg.RunRequest] = {}
        for make in (files_changed_sensor, known_answers_changed_sensor):
            sensor = make(graph, job_name=NAME, clock=lambda: self.now)
            with dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursors.get(sensor.name),
                resources={"warehouse": self.team.warehouse},
            ) as context:
                said: Any = sensor(context)
                self.cursors[sensor.name] = context.cursor
            if isinstance(said, dg.RunRequest):
                found[said.tags["llm_platform/trigger"]] = said
        return found

    def run(self, request: dg.RunRequest) -> None:
        """The run that was asked for: under way, nothing else is asked for; then it ends."""
        tags = {**request.tags, APPLICATION_TAG: NAME}
        run = dg.DagsterRun(job_name=NAME, tags=tags, status=dg.DagsterRunStatus.STARTED)
        self.instance.add_run(run)
        assert self.tick() == {}
        take_over(self.team)
        self.instance.report_engine_event("ends", run)
        self.instance.handle_run_event(run.run_id, ended(run))

    def settle(self) -> None:
        """Have everything asked for that there is, until nothing is."""
        for _ in range(4):
            asked = self.tick()
            for request in asked.values():
                self.run(request)
            if not asked:
                return
        raise AssertionError("it never settles")


def ended(run: dg.DagsterRun) -> dg.DagsterEvent:
    return dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)


def prompt(team: Team) -> None:
    team.write_prompt("vague", "Is this HAPPY, or SAD? {{ text }}")


def lock_entry(team: Team) -> None:
    team.lock["served_name"] = "test/other"
    team.write_lock()


def gate(team: Team) -> None:
    team.specification["evaluation"]["gates"]["accuracy"]["minimum"] = 0.6
    team.write_specification()


def adapter(team: Team) -> None:
    loaded = team.loaded
    manifest = AdapterManifest(
        application=NAME,
        name="mood",
        base=pin(loaded.lock[ENTRY]),
        base_sha256="b" * 64,
        prompt_version=loaded.prompts["clear"].version,
        files={"adapter_model.safetensors": "c" * 64},
        data=TrainingData(content_hash="0123456789abcdef", train=40, validation=5, evaluation=15),
        recipe=loaded.application.finetuning["mood"].recipe(),
        created_at=NOW,
        imported_from="a colleague",
    )
    with team.warehouse.open() as lake:
        lake.application(NAME).adapters.append(manifest, inputs_hash="i")


def decision(team: Team) -> None:
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = team.loaded.release("clear", store)
        assert isinstance(release, Release)
        store.releases.put(release)
        event = RolloutEvent(
            application=NAME,
            event_id="e",
            action="promote",
            variant="clear",
            release_id=release.release_id,
            report_id="r",
            evaluation_id="v",
            by="test",
            at=NOW,
            evidence=(),
        )
        store.rollout.append(event, expected_previous=None)


def labels(team: Team) -> None:
    team.write_references({f"{number}": right_answer(number) for number in range(6)})


def evaluation_set(team: Team) -> None:
    team.specification["references"]["seed"] = 11
    team.write_specification()


def person(team: Team) -> None:
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        row = store.documents.some(["7"], ["fingerprint"]).to_pylist()[0]
        said = verdict("7", fingerprint=row["fingerprint"], answer=right_answer(7))
        store.annotations.append([said.model_copy(update={"at": NOW})])


@pytest.mark.parametrize(
    ("change", "trigger"),
    [
        pytest.param(prompt, FILES, id="prompt"),
        pytest.param(lock_entry, FILES, id="lock-entry", marks=pytest.mark.slow),
        pytest.param(gate, FILES, id="gate", marks=pytest.mark.slow),
        pytest.param(adapter, FILES, id="imported-adapter", marks=pytest.mark.slow),
        pytest.param(decision, FILES, id="rollout-decision"),
        pytest.param(labels, ANSWERS, id="labels"),
        pytest.param(person, ANSWERS, id="verdict-of-a-person", marks=pytest.mark.slow),
    ],
)
def test_a_change_causes_its_run_and_that_once(
    team: Team, instance: dg.DagsterInstance, change: Callable[[Team], None], trigger: str
) -> None:
    """What is merged, trained, decided or judged arrives without anybody's asking, and is not paid for twice."""
    watch = Watch(team, instance)
    watch.settle()

    change(team)
    asked = watch.tick()

    assert list(asked) == [trigger]
    assert watch.tick()[trigger].run_key == asked[trigger].run_key
    watch.run(asked[trigger])
    assert [watch.tick() for _ in range(3)] == [{}, {}, {}]


def test_another_evaluation_set_is_one_run_although_two_sensors_see_it(
    team: Team, instance: dg.DagsterInstance
) -> None:
    """It is written in application.yaml, and it changes which known answers there are."""
    watch = Watch(team, instance)
    watch.settle()

    evaluation_set(team)
    asked = watch.tick()
    watch.run(asked[FILES])

    assert list(asked) == [FILES]
    assert [watch.tick() for _ in range(3)] == [{}, {}, {}]


def materialized(team: Team, instance: dg.DagsterInstance) -> None:
    for name in ("prompt_vague", "references", "documents", "report"):
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey([NAME, name])))


def touched(team: Team, instance: dg.DagsterInstance) -> None:
    for path in (team.root / "known.csv", team.folder / "application.yaml", team.folder / "prompts" / "vague.md"):
        os.utime(path, (1, 1))


def described(team: Team, instance: dg.DagsterInstance) -> None:
    team.specification["description"] = "Moods of tickets."
    team.write_specification()


@pytest.mark.parametrize(
    "change",
    [materialized, pytest.param(touched, marks=pytest.mark.slow), pytest.param(described, marks=pytest.mark.slow)],
)
def test_what_changes_nothing_causes_no_run(
    team: Team, instance: dg.DagsterInstance, change: Callable[[Team, dg.DagsterInstance], None]
) -> None:
    """Data decides, and not that somebody pressed a button or checked the files out again."""
    watch = Watch(team, instance)
    watch.settle()

    change(team, instance)

    assert [watch.tick() for _ in range(2)] == [{}, {}]


def test_verdicts_become_a_run_when_people_have_stopped_judging(team: Team, instance: dg.DagsterInstance) -> None:
    """A reviewer says something every few seconds: an afternoon of it is one run, and not three hundred."""
    watch = Watch(team, instance)
    watch.settle()
    person(team)

    watch.now = NOW.timestamp() + JUDGING_SECONDS - 1
    while_judging = watch.tick()
    watch.now += 2

    assert while_judging == {}
    assert list(watch.tick()) == [ANSWERS]


def test_a_change_of_documents_and_answers_together_is_one_run(team: Team, instance: dg.DagsterInstance) -> None:
    """Known answers are often a column of the same table, and its run takes both over."""
    watch = Watch(team, instance)
    watch.settle()

    team.write_documents({f"{number}": team.text(number, note="again") for number in range(8)})
    labels(team)
    with_the_source = watch.tick()
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
    take_over(team)

    assert with_the_source == {}
    assert [watch.tick() for _ in range(2)] == [{}, {}]


def test_known_answers_that_cannot_be_read_are_no_change(team: Team, instance: dg.DagsterInstance) -> None:
    """A share that is not mounted must not cost a run each minute, and what is stored stays."""
    watch = Watch(team, instance)
    watch.settle()

    (team.root / "known.csv").rename(team.root / "away.csv")
    gone = watch.tick()
    (team.root / "away.csv").rename(team.root / "known.csv")

    assert gone == {}
    assert watch.tick() == {}


def looked(team: Team, instance: dg.DagsterInstance, cursor: str | None, *, now: float) -> tuple[str, str | None]:
    """What a tick of the source's sensor says, and its cursor after it."""
    graph = Graph(team.loaded, team.settings)
    sensor = source_changed_sensor(graph, source=source_asset(graph.application), job_name=NAME, clock=lambda: now)
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"warehouse": team.warehouse}) as context:
        found: Any = sensor(context)
        kept = context.cursor
    return (str(found.skip_message) if isinstance(found, dg.SkipReason) else "a run"), kept


def test_a_source_is_looked_at_as_seldom_as_is_stated_and_when_it_is_notified(
    team: Team, instance: dg.DagsterInstance
) -> None:
    """A database that is asked every minute is one that its owners take away; who pushes is heard at once, and once."""
    team.specification["source"]["look_minutes"] = 60
    team.write_specification()
    now = NOW.timestamp()
    first, cursor = looked(team, instance, None, now=now)
    team.write_documents({f"{number}": team.text(number, note="again") for number in range(8)})

    waiting, cursor = looked(team, instance, cursor, now=now + 60)
    with team.warehouse.open() as lake:
        for _ in range(3):
            lake.application(NAME).notices.append("webhook", by="crm", at=NOW)
    notified, cursor = looked(team, instance, cursor, now=now + 120)
    team.write_documents({f"{number}": team.text(number) for number in range(8)})
    after, cursor = looked(team, instance, cursor, now=now + 180)
    later, _ = looked(team, instance, cursor, now=now + 120 + 3600)
    set_back, _ = looked(team, instance, cursor, now=now - 86_400)
    restored, _ = looked(team, instance, json.dumps({**json.loads(cursor or ""), "notice": 9}), now=now + 180)

    assert "as documents consumed it" in first
    assert waiting.endswith("is looked at again in 3540 s, or when it is notified")
    assert notified == "a run"
    assert after.endswith("is looked at again in 3540 s, or when it is notified")
    assert all("as documents consumed it" in said for said in (later, set_back, restored))


def test_the_cursor_of_an_older_version_is_read(team: Team, instance: dg.DagsterInstance) -> None:
    """A mass loss that was held before an upgrade is held after it, without reading the table again."""
    said, cursor = looked(team, instance, "0123456789abcdef:Held: 29 fewer", now=NOW.timestamp())

    assert "as documents consumed it" in said
    assert cursor is not None
    assert json.loads(cursor)["mark"] == "0123456789abcdef"
