"""A challenger from its start to the champion, and out again: on stored evidence, a step at a time."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llm_platform.errors import EvidenceMissing, SpecificationError, StorageError, TransientError
from llm_platform.evaluation.drift import DriftReport, Measurement
from llm_platform.evaluation.drift_accuracy import FreshAccuracy
from llm_platform.operations.live import live_rollouts
from llm_platform.operations.release.explain import explain_document
from llm_platform.operations.release.guards import breaches
from llm_platform.operations.release.replay import Window, replay
from llm_platform.operations.release.rollout import promote, rollback, withdrawn_releases
from llm_platform.operations.release.rollout_panels import rollout_panels
from llm_platform.operations.release.rollouts import Who, decide_rollout, preview
from llm_platform.operations.release.underneath import moved
from llm_platform.operations.release.watching import GUARD, HELD, ROLLED_BACK, UNDECIDED, WITHDRAWN, watch_rollouts
from llm_platform.operations.reviewing.status import application_status
from llm_platform.operations.watching.alerts import note
from llm_platform.records import Release
from llm_platform.records.tables import FLAGS_SCHEMA
from llm_platform.rollout.routing import place_of
from llm_platform.warehouse.alerts import Event
from llm_platform.warehouse.drift import StoredDrift
from llm_platform.warehouse.rollout_steps import RolloutSteps
from llm_platform_tests.operations.release.site import ANN, STAGES, Site, answers
from llm_platform_tests.servers.faults import Fault, Status
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, right_answer


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedServer]:
    def refuses(seen: Seen) -> Fault | None:
        return Status(400, "no") if "too long" in json.dumps(seen.body) and int(seen.document_id) % 2 else None

    with ScriptedServer(answer=answers, script=refuses, keep_bodies=True) as server:
        yield server


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, model: ScriptedServer) -> Site:
    """`clear` serves, and every variant has answered what it can be judged by."""
    site = Site(tmp_path_factory.mktemp("site"), model)
    site.serve()
    site.answer()
    return site


@pytest.fixture
def site(serving: Site) -> Iterator[Site]:
    """The same for each test: rollouts are forgotten, and files are as they were."""
    team = serving.team
    files = [path for path in team.root.rglob("*") if path.is_file() and path.suffix in (".yaml", ".md", ".csv")]
    before = {path: path.read_bytes() for path in files if "state" not in path.parts}
    specification, lock = copy.deepcopy(team.specification), dict(team.lock)
    yield serving
    for path, content in before.items():
        path.write_bytes(content)
    team.specification, team.lock, serving.later = specification, lock, timedelta()
    serving.forget()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Site]:
    """A site and a model of its own, for what counts requests."""
    with ScriptedServer(answer=answers, keep_bodies=True) as model:
        site = Site(tmp_path, model)
        site.serve()
        yield site


def with_policy(site: Site, **rollout: Any) -> None:
    site.team.specification["rollout"] = {**site.team.specification["rollout"], **rollout}
    site.team.write_specification()


def share_of(rollout_id: str, share: float, documents: int = 120) -> set[str]:
    return {f"{number}" for number in range(documents) if place_of(rollout_id, f"{number}") < share}


def of(published: dict[str, str], variant: str) -> set[str]:
    return {document for document, by in published.items() if by == variant}


@pytest.mark.slow
def test_a_challenger_goes_through_its_stages_to_the_champion(fresh: Site) -> None:
    """Shadow, 5 %, 25 %, all: each stage reaches the readers it says, those it had stay, and each is paid once."""
    before = fresh.asked_of("Please say clearly")
    rollout_id = fresh.start("clearer").rollout_id
    assert set(fresh.published().values()) == {"clear"}

    fresh.run()
    assert (fresh.newest().stage_name, fresh.newest().status) == ("canary 0.05", "running")
    five = of(fresh.published(), "clearer")
    assert five == share_of(rollout_id, 0.05)
    # Known answers and the share of the shadow were asked for, and nothing else.
    asked = {f"{number}" for number in range(60)} | share_of(rollout_id, 0.5)
    assert fresh.asked_of("Please say clearly") <= len(asked)
    assert fresh.asked_of("Please say clearly") > before

    fresh.run()
    quarter = of(fresh.published(), "clearer")
    assert quarter == share_of(rollout_id, 0.25)
    assert five <= quarter

    fresh.run()
    assert fresh.newest().status == "champion"
    assert set(fresh.published().values()) == {"clearer"}
    with fresh.store() as store:
        champion = store.rollout.champion()
        assert champion is not None
        assert (champion.variant, champion.by) == ("clearer", "rollout")
        assert rollout_id in champion.note
        decided = [one for one in store.rollout_steps.of(rollout_id) if one.kind == "decide"]
        assert [one.decision for one in decided] == ["promote", "promote", "promote"]
        assert all(one.evidence and one.report_id and one.git_commit == "commit" for one in decided)
    assert fresh.asked_of("Please say clearly") == 120


def test_a_challenger_that_is_worse_is_withdrawn_and_never_published(site: Site) -> None:
    """Paired evidence that it is worse ends a shadow by itself."""
    site.start("vague")
    site.shares()

    site.tick()
    site.publish()

    newest = site.newest()
    assert (newest.status, newest.decision) == ("withdrawn", "withdraw")
    assert "worse than the champion" in newest.reasons[0]
    assert set(site.published().values()) == {"clear"}
    assert newest.spent_tokens > 0


@pytest.mark.slow
def test_a_release_that_cannot_fill_what_readers_have_is_no_challenger(site: Site) -> None:
    """It would go through every stage with its rows left out, and as the champion keep all of them from readers."""
    site.publish()
    site.team.specification["labels"] = ["HAPPY", "SAD", "ANGRY"]
    site.team.specification["publish"] = {"contract": 2}
    for path in (site.team.folder / "prompts").glob("*.md"):
        path.write_text(path.read_text().replace("SAD: SAD}", "SAD: SAD, ANGRY: ANGRY}"))
    site.team.write_specification()

    with pytest.raises(EvidenceMissing, match=r"published_v1 .*has the values 'HAPPY', 'SAD', and not 'ANGRY'"):
        site.start("clearer")


GUARDED: dict[str, Any] = {
    "guards": {"valid_rate": {"minimum": 0.9, "action": "withdraw", "reason": "a hole in ten is too many"}}
}


def test_a_guard_withdraws_a_challenger_within_one_look(site: Site) -> None:
    """Nobody has to be awake when a challenger answers with what is no label."""
    with_policy(site, **GUARDED)
    site.start("mumbles")
    site.shares()

    watched = site.tick()

    newest = site.newest()
    assert newest.status == "withdrawn"
    assert newest.reasons[0].startswith("valid_rate is 0.000")
    assert [one.step.variant for one in watched.decided] == ["mumbles"]
    with site.team.warehouse.open() as lake:
        assert {("rollout_withdrawn", "mumbles")} <= {(one.kind, one.variant) for one in lake.alerts.open()}
    assert site.tick().decided == ()


def broken(site: Site, guards: dict[str, Any], variant: str, rollout_id: str | None) -> dict[str, str]:
    """Guard → what was measured, of a policy that is read by nobody else."""
    policy = {
        name: {**guard, "action": "withdraw", "reason": "what a team can live with"} for name, guard in guards.items()
    }
    with_policy(site, guards=policy)
    with site.store() as store:
        release = site.team.loaded.release(variant, store)
        assert release is not None
        found = breaches(store, site.team.loaded, release, rollout_id=rollout_id, share=0.5)
    return {one.name: one.measured for one in found}


def test_each_guard_is_broken_by_what_it_is_for_and_by_nothing_else(site: Site) -> None:
    """A limit that nobody saw broken may as well not be there; one that breaks by itself withdraws what is good."""
    site.team.write_prompt("refused", "This context is too long: {{ text }}")
    clear = site.team.specification["variants"]["clear"]
    site.team.specification["variants"]["refused"] = {**clear, "prompt": "refused"}
    site.team.write_specification()
    started = [site.start(variant) for variant in ("clearer", "refused", "mumbles")]
    site.shares()
    rollouts = {step.variant: step.rollout_id for step in started}
    site.team.lock["price_per_million_input_tokens_usd"] = 1.0
    site.team.write_lock()
    strict = {
        "valid_rate": {"minimum": 0.9},
        "error_rate": {"maximum": 0.1},
        "p95_latency_seconds": {"maximum": 1000.0},
        "cost_usd_per_document": {"maximum": 1000.0},
    }

    assert broken(site, strict, "clearer", rollouts["clearer"]) == {}
    assert set(broken(site, strict, "refused", rollouts["refused"])) == {"valid_rate", "error_rate"}
    assert set(broken(site, strict, "mumbles", rollouts["mumbles"])) == {"valid_rate"}
    tiny = {name: {"maximum": 1e-9} for name in ("p95_latency_seconds", "cost_usd_per_document")}
    measured = broken(site, tiny, "clearer", rollouts["clearer"])
    assert measured["p95_latency_seconds"].endswith(" answers, above 1e-09 s")
    assert "USD over" in measured["cost_usd_per_document"]
    early = {name: {**guard, "documents": 100_000} for name, guard in (strict | tiny).items()}
    assert broken(site, early, "refused", rollouts["refused"]) == {}
    # The others' reports were made beside it.
    del site.team.specification["variants"]["refused"], site.team.lock["price_per_million_input_tokens_usd"]
    site.team.write_lock()
    with_policy(site, guards={})
    site.known()


def test_the_champion_is_held_to_what_is_live(site: Site) -> None:
    """Drift and the labels of live documents say what no answer says of itself; a challenger is not judged by them."""
    with site.store() as store:
        champion = store.rollout.champion()
        assert champion is not None
        now = datetime.now(UTC)
        report = DriftReport(
            drift_id="planted",
            windows_id="planted",
            application=NAME,
            release_id=champion.release_id,
            since=now,
            reference_texts=60,
            current_texts=60,
            measurements=(
                Measurement(
                    name="length",
                    verdict="drifted",
                    effect_name="separation",
                    effect=0.9,
                    maximum=0.6,
                    reason="planted here",
                ),
            ),
            accuracy=FreshAccuracy(
                considered=60, drawn=60, labelled=60, value=0.5, lower=0.3, upper=0.7, confidence=0.95
            ),
            created_at=now,
        )
        row = StoredDrift("planted", champion.release_id, "length", report.model_dump_json(), now)
        store.drift.append(row, FLAGS_SCHEMA.empty_table())
    guards: dict[str, Any] = {"drift": {}, "live_accuracy": {"minimum": 0.8}}
    try:
        measured = broken(site, guards, "clear", None)
        assert measured["drift"] == "length"
        assert measured["live_accuracy"].startswith("0.500 of 60 labels")
        assert set(broken(site, {**guards, "live_accuracy": {"minimum": 0.6}}, "clear", None)) == {"drift"}
        assert broken(site, guards, "clearer", "some rollout") == {}
        assert site.tick().champion_trouble is not None
    finally:
        with site.store() as store, store._session.cursor() as cursor:
            cursor.execute(f"DELETE FROM lake.{NAME}.drift_reports")


@pytest.mark.slow
def test_a_canary_that_breaks_is_withdrawn_and_its_documents_are_the_champions_again(site: Site) -> None:
    """What was good enough yesterday may break today: readers are given back what the champion says."""
    site.start("clearer")
    site.tick()
    site.shares()
    site.publish()
    assert "clearer" in site.published().values()
    with site.team.warehouse.open() as lake:
        document = min(of(site.published(), "clearer"))
        explained = explain_document(lake, site.team.loaded.application, document)
    assert explained["rollout_step"]["stage_name"] == "canary 0.05"
    assert explained["report"]["release_id"] == site.newest().release_id

    site.ask("withdraw")
    watched = site.tick()
    assert watched.changes_readers
    site.publish()

    assert set(site.published().values()) == {"clear"}
    assert site.newest().status == "withdrawn"
    with pytest.raises(SpecificationError, match="is running"):
        site.ask("resume")


def test_who_withdraws_is_heard_though_somebody_came_in_between(site: Site) -> None:
    """Whoever takes a challenger out has no time to look again; whoever lets it go on has to have seen what it was."""
    site.start("clearer")
    seen = site.newest()
    site.ask("hold")

    with pytest.raises(TransientError, match="Look at it again"):
        site.ask("resume", seen=seen)
    site.ask("withdraw", seen=seen)
    site.tick()
    over = site.newest()
    with site.store() as store:
        # As the other of two who asked at once does.
        decide_rollout(store, site.team.loaded, over.rollout_id, look=site.look)

    assert (over.status, over.decision) == ("withdrawn", "withdraw")
    assert site.newest() == over
    with pytest.raises(SpecificationError, match="is running"):
        site.ask("withdraw", seen=seen)


def test_a_held_challenger_goes_no_further_until_it_is_resumed(site: Site) -> None:
    """A person's word is stored before it is acted on, and outlives the process that took it."""
    site.start("clearer")
    site.ask("hold")
    site.tick()
    assert (site.newest().status, site.newest().stage) == ("held", 0)
    site.tick()
    assert (site.newest().status, site.newest().stage) == ("held", 0)

    site.ask("resume")
    site.tick()

    assert site.newest().stage == 1


def approving(count: int, *roles: str) -> list[dict[str, Any]]:
    stages = [dict(stage) for stage in STAGES]
    stages[0] |= {"approvals": count, **({"roles": list(roles)} if roles else {})}
    return stages


def test_people_approve_who_are_who_they_say(site: Site) -> None:
    """A login is whatever somebody sets: where approvals are asked for it approves nothing."""
    with_policy(site, stages=approving(2, "adjudicator"))
    site.start("clearer")
    site.tick()
    assert site.newest().reasons == ("0 of 2 approvals of adjudicator",)

    assert "LLM_PLATFORM_IDENTITY_TOKEN" in site.refusal("approve")
    assert "'ben' is reviewer" in site.refusal("approve", Who("ben", "reviewer", authenticated=True))
    site.ask("approve", ANN)
    site.ask("approve", ANN)
    site.tick()
    assert site.newest().stage == 0
    assert site.newest().reasons == ("1 of 2 approvals of adjudicator",)

    site.ask("approve", Who("eve", "adjudicator", authenticated=True))
    # Whoever has left the file of people by now, or is a reviewer, has let nothing through.
    with site.store() as store:
        for role in (None, "reviewer"):
            look = replace(site.look, role_of={"ann": "adjudicator", "eve": role}.get)
            waiting = preview(store, site.team.loaded, site.newest().rollout_id, look=look)
            assert waiting.step.reasons == ("1 of 2 approvals of adjudicator",)
    site.tick()

    assert site.newest().stage == 1


def test_an_approval_is_void_when_the_prompt_moved(site: Site) -> None:
    """Somebody approved something; what stands in the files now is something else."""
    with_policy(site, stages=approving(1))
    site.start("clearer")
    site.ask("approve", ANN)
    site.team.write_prompt("clearer", "Say very clearly whether this is HAPPY or SAD: {{ text }}")

    site.tick()

    assert (site.newest().status, site.newest().stage) == ("held", 0)
    assert "the prompt has changed since it was entered" in site.newest().reasons[0]


def test_an_approval_beside_one_champion_is_none_beside_another(site: Site) -> None:
    """Two challengers at once: who let this one pass had it compared with what does not serve any more."""
    with_policy(site, stages=approving(1))
    site.start("clearer")
    site.ask("approve", ANN)
    with site.store() as store:
        other, served = site.team.loaded.release("vague", store), store.rollout.champion()
        assert other is not None
        assert served is not None
        rollout_id = site.newest().rollout_id
        before = preview(store, site.team.loaded, rollout_id, look=site.look).observed.evidence.approvals
        store.releases.put(other)
        moved = {"event_id": "another", "variant": "vague", "release_id": other.release_id}
        store.rollout.append(served.model_copy(update=moved), expected_previous=served.event_id)
        after = preview(store, site.team.loaded, rollout_id, look=site.look).observed.evidence.approvals
    site.ask("approve", ANN)
    with site.store() as store:
        anew = preview(store, site.team.loaded, rollout_id, look=site.look).observed.evidence.approvals

    assert ([one.by for one in before], after, [one.by for one in anew]) == (["ann"], (), ["ann"])


def moved_prompt(site: Site) -> None:
    site.team.write_prompt("clearer", "Say very clearly whether this is HAPPY or SAD: {{ text }}")


def moved_lock(site: Site) -> None:
    site.team.lock = {**site.team.lock, "context_length": 2048}
    site.team.write_lock()


def moved_gates(site: Site) -> None:
    site.team.specification["evaluation"]["gates"]["accuracy"]["minimum"] = 0.1
    site.team.write_specification()


def moved_policy(site: Site) -> None:
    site.team.specification["rollout"]["stages"] = [{**STAGES[0], "margin": 0.9}, *STAGES[1:]]
    site.team.write_specification()


def no_policy(site: Site) -> None:
    del site.team.specification["rollout"]
    site.team.write_specification()


def no_variant(site: Site) -> None:
    del site.team.specification["variants"]["clearer"]
    site.team.write_specification()


def moved_seed(site: Site) -> None:
    site.team.specification["references"]["seed"] = 4
    site.team.write_specification()


def moved_label(site: Site) -> None:
    known = {f"{number}": ("SAD" if number == 1 else "HAPPY" if number % 2 else "SAD") for number in range(60)}
    site.team.write_references(known)
    site.known()


def fewer_labels(site: Site) -> None:
    site.team.write_references({f"{number}": "HAPPY" if number % 2 else "SAD" for number in range(40)})
    site.known()


@pytest.mark.parametrize(
    ("move", "said"),
    [
        pytest.param(moved_prompt, "the prompt", id="prompt"),
        pytest.param(moved_lock, "the lock entry", id="lock-entry"),
        pytest.param(moved_gates, "the way answers are judged", id="gates", marks=pytest.mark.slow),
        pytest.param(moved_policy, "the policy", id="policy", marks=pytest.mark.slow),
        pytest.param(no_policy, "the policy has changed", id="no-policy"),
        pytest.param(no_variant, "the variant has changed", id="no-variant"),
        pytest.param(moved_seed, "the way known answers are split", id="seed", marks=pytest.mark.slow),
        pytest.param(moved_label, "a known answer", id="known-answer-changed"),
        pytest.param(fewer_labels, "a known answer", id="known-answers-left-out", marks=pytest.mark.slow),
    ],
)
def test_evidence_is_void_when_anything_underneath_moved(site: Site, move: Any, said: str) -> None:
    """It was gathered about something else: nothing is promoted on it, however good it looks."""
    site.start("clearer")

    move(site)
    site.tick()
    site.team.write_references({f"{number}": "HAPPY" if number % 2 else "SAD" for number in range(60)})
    site.known()

    assert site.newest().status == "held"
    assert said in site.newest().reasons[0]


def test_a_split_that_goes_with_its_text_voids_nothing(site: Site) -> None:
    """Sources change every day, and a drawn split goes by the text; one that a person wrote down is evidence."""
    step = site.start("clearer")
    loaded = site.team.loaded
    references = loaded.application.references
    assert references is not None
    stated = references.model_copy(update={"split": "part"})
    by_hand = replace(loaded, application=loaded.application.model_copy(update={"references": stated}))

    with site.store() as store:
        known = store.references.table()
        other = pa.array("train" if one == "evaluation" else "evaluation" for one in known["split"].to_pylist())
        store.references.replace(known.set_column(known.column_names.index("split"), "split", other))
        found = [moved(store, one, step, present={}, stored={}) for one in (loaded, by_hand)]
        store.references.replace(known)

    assert found == [None, "a known answer"]


@pytest.mark.slow
def test_more_labels_void_nothing(site: Site) -> None:
    """That is what a stage waits for."""
    site.start("clearer")
    site.team.write_references({f"{number}": "HAPPY" if number % 2 else "SAD" for number in range(80)})
    site.known()

    site.tick()

    assert site.newest().status == "running"
    site.team.write_references({f"{number}": "HAPPY" if number % 2 else "SAD" for number in range(60)})
    site.known()


def test_a_dry_run_decides_and_changes_nothing(site: Site, model: ScriptedServer) -> None:
    """A policy is tried on live traffic before it may move anything, or spend anything."""
    with_policy(site, dry_run=True)
    before = model.counts.requests
    site.start("clearer")

    site.tick()
    site.shares()
    site.publish()

    newest = site.newest()
    assert (newest.decision, newest.applied, newest.stage) == ("promote", False, 0)
    assert set(site.published().values()) == {"clear"}
    assert model.counts.requests == before
    with site.store() as store:
        assert live_rollouts(store).challengers == ()


def test_a_dry_run_makes_room_for_the_rollout_in_earnest(site: Site) -> None:
    """A policy that was tried is meant to be used; the release that it was tried with is the one that is wanted."""
    with_policy(site, dry_run=True)
    site.start("clearer")
    site.ask("withdraw")
    site.tick()
    with_policy(site, dry_run=False)

    assert site.start("clearer").applied
    with site.store() as store:
        assert withdrawn_releases(store) == frozenset()


def test_people_are_told_no_more_of_a_rollout_that_is_over(site: Site) -> None:
    """A list of trouble in which the past stands for ever is read by nobody."""
    site.start("clearer")
    site.ask("hold")
    site.team.write_prompt("clearer", "Please, say clearly whether this is HAPPY or SAD: {{ text }}")
    anew = site.start("clearer")
    past = {(HELD, "vague"), (UNDECIDED, "vague"), (GUARD, "vague"), (WITHDRAWN, "clearer"), (ROLLED_BACK, "vague")}
    with site.team.warehouse.open() as lake:
        events = [Event(kind, NAME, variant, failing=True, message="trouble") for kind, variant in past]
        note(lake, events, now=site.look.now, quiet=timedelta(hours=6))

    site.tick()

    with site.team.warehouse.open() as lake:
        told = {(one.kind, one.variant) for one in lake.alerts.open() if one.application == NAME}
    assert (site.newest().rollout_id, site.newest().status) == (anew.rollout_id, "running")
    assert told & {*past, (HELD, "clearer")} == {(HELD, "clearer")}


@pytest.mark.slow
def test_a_shadow_ends_when_its_budget_is_spent(tmp_path: Path, model: ScriptedServer) -> None:
    """It is asked nothing beyond its budget, and ends by itself with its cost beside the verdict."""
    stages = [{**STAGES[0], "least_labels": 1000, "budget_tokens": 200}, *STAGES[1:]]
    site = Site(tmp_path, model, stages=stages)
    site.serve()
    site.run()
    site.start("clearer")
    before = site.asked_of("Please say clearly")

    site.run()
    site.run()

    newest = site.newest()
    assert newest.status == "withdrawn"
    assert any("tokens" in reason for reason in newest.reasons)
    assert 0 < newest.spent_tokens <= 220
    assert 0 < site.asked_of("Please say clearly") - before < len(share_of(newest.rollout_id, 0.5))


def test_a_stage_that_takes_too_long_ends(site: Site) -> None:
    """A challenger that nobody labels for must not answer for ever."""
    with_policy(site, stages=[{**STAGES[0], "least_labels": 1000, "longest_hours": 24}, *STAGES[1:]])
    site.start("clearer")
    site.tick()
    assert site.newest().status == "running"

    site.later = timedelta(hours=25)
    site.tick()

    assert site.newest().status == "withdrawn"
    assert "of at most 24 hours" in site.newest().reasons[0]


@pytest.mark.slow
def test_documents_that_do_not_reach_a_canary_hold_it(fresh: Site) -> None:
    """A split that is not as stated makes every comparison over it wrong."""
    fresh.answer()
    rollout_id = fresh.start("clearer").rollout_id
    fresh.tick()
    fresh.shares()
    fresh.tick()
    assert fresh.newest().reasons[0].endswith("documents of its share are not published yet")
    fresh.publish()
    fresh.tick()
    assert fresh.newest().stage_name == "canary 0.25"
    fresh.shares()
    lost = share_of(rollout_id, 0.25)
    with fresh.store() as store, store._session.cursor() as cursor:
        # As a queue would that drops what is slow.
        listed = ", ".join(f"'{one}'" for one in lost)
        cursor.execute(
            f"DELETE FROM lake.{NAME}.completions WHERE release_id = '{fresh.newest().release_id}' "
            f"AND document_id IN ({listed})"
        )

    fresh.tick()

    assert fresh.newest().status == "held"
    assert "documents do not reach the variants in the stated shares" in fresh.newest().reasons


def test_a_kill_in_the_middle_of_a_decision_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked and answered stays, and the next look decides the same, once."""
    site.start("clearer")

    def killed(*_: Any, **__: Any) -> int:
        raise StorageError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(RolloutSteps, "append", killed)
        assert site.tick().troubles == {"clearer": "the machine is gone"}
    assert [one.kind for one in _steps(site)] == ["start"]

    site.tick()
    site.tick()

    decided = [one for one in _steps(site) if one.kind == "decide"]
    assert next((one.decision, one.stage) for one in decided) == ("promote", 1)


def _steps(site: Site) -> list[Any]:
    with site.store() as store:
        return store.rollout_steps.history()


def test_a_look_that_finds_nothing_new_writes_nothing(site: Site) -> None:
    """A sensor looks every half minute; the table is a history and no clock."""
    site.start("clearer")
    site.ask("hold")
    site.tick()
    before = len(_steps(site))

    site.tick()
    site.tick()

    assert len(_steps(site)) == before


def test_a_preview_writes_nothing(site: Site) -> None:
    """`rollout status` may be run by whoever may read."""
    rollout = site.start("clearer")
    with site.store() as store:
        found = preview(store, site.team.loaded, rollout.rollout_id, look=site.look)

    assert found.step.decision == "promote"
    assert [one.kind for one in _steps(site)] == ["start"]


@pytest.mark.slow
def test_what_a_rollout_withdrew_is_not_gone_back_to(site: Site) -> None:
    """`clear` served, lost, was tried again and withdrawn: a rollback must not bring it back in a hurry."""
    site.start("clearer")
    for _ in range(3):
        site.tick()
        site.shares()
        site.publish()
    assert site.newest().status == "champion"
    site.start("clear")
    site.ask("withdraw")
    site.tick()

    with site.store() as store, pytest.raises(EvidenceMissing, match="no earlier champion"):
        rollback(store, site.team.loaded, by="somebody")


def test_stages_are_not_walked_around_by_promote(site: Site) -> None:
    """Otherwise they would be a recommendation."""
    loaded = site.team.loaded
    with site.store() as store:
        release = loaded.release("clearer", store)
        assert release is not None
        with pytest.raises(EvidenceMissing, match="rollout start tickets clearer"):
            promote(store, loaded, "clearer", release=release, by="somebody")


def test_a_forged_row_publishes_nothing(site: Site) -> None:
    """Whoever may write to the lake may write a row; evidence that leads to it cannot be written as easily."""
    site.start("vague")
    with site.store() as store:
        newest = store.rollout_steps.newest()[-1]
        policy = newest.stages()
        forged = newest.model_copy(
            update={
                "step_id": "forged",
                "kind": "decide",
                "decision": "promote",
                "evidence": json.dumps({"documents": 60, "labels": 60}),
                "stage": 2,
                "stage_name": policy.stages[2].name,
                "share": 0.25,
            }
        )
        store.rollout_steps.append(forged, expected_previous=newest.step_id)
        assert live_rollouts(store).challengers == ()

    watched = site.tick()
    site.publish()

    assert set(site.published().values()) == {"clear"}
    assert "Somebody wrote to 'rollout_steps'" in watched.troubles["vague"]


def test_a_rollout_starts_from_what_can_be_held_against_something(site: Site) -> None:
    """What serves, what runs already, and what is not there are refused with what to do."""
    site.start("clearer")
    with pytest.raises(EvidenceMissing, match="is in the rollout"):
        site.start("clearer")
    with pytest.raises(EvidenceMissing, match="serves already"):
        site.start("clear")
    with pytest.raises(SpecificationError, match="has no variant 'clearest'"):
        site.start("clearest")
    del site.team.specification["rollout"]["stages"]
    site.team.write_specification()
    with pytest.raises(SpecificationError, match="states no stages"):
        site.start("vague")


def test_challengers_run_beside_each_other(site: Site) -> None:
    """Two at once: each has its own share and its own verdict, and the worse one's end is no matter of the better."""
    site.start("clearer")
    site.start("vague")

    site.tick()
    site.publish()

    with site.store() as store:
        found = {one.variant: one.status for one in store.rollout_steps.newest()}
    assert found == {"clearer": "running", "vague": "withdrawn"}
    assert "vague" not in site.published().values()


def test_two_looks_at_once_decide_once(site: Site) -> None:
    """A run and a sensor may look at the same moment; the loser looks again and finds it done."""
    rollout = site.start("clearer")
    with site.store() as store:
        real, raced = store.rollout_steps.append, []

        def append(*args: Any, **kwargs: Any) -> int:
            if not raced:
                raced.append(True)
                with site.team.warehouse.open() as other:
                    watch_rollouts(other, site.team.loaded, look=site.look)
            return real(*args, **kwargs)

        store.rollout_steps.append = append  # type: ignore[method-assign]
        decide_rollout(store, site.team.loaded, rollout.rollout_id, look=site.look)

    decided = [one.stage for one in _steps(site) if one.decision == "promote"]
    assert decided == sorted(set(decided))


def test_a_replay_answers_the_past_and_publishes_nothing(site: Site, model: ScriptedServer) -> None:
    """What a release would have said is known before any reader gets it, for what was asked and no more."""
    site.publish()
    before = site.published()
    with site.store() as store:
        found = replay(store, site.team.loaded, "vague", Window(most=90), asking=lambda one: site.asking("vague", one))
        again = replay(store, site.team.loaded, "vague", Window(most=90), asking=lambda one: site.asking("vague", one))
        past = Window(until=datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(SpecificationError, match="no document"):
            replay(store, site.team.loaded, "vague", past, asking=lambda one: site.asking("vague", one))
    site.publish()

    assert (found.documents, found.answered) == (90, 90)
    assert found.run is not None
    assert found.run.sent < 90
    assert again.run is None
    assert found.paired is not None
    assert found.paired.is_worse
    assert found.differing > 20
    assert site.published() == before


def test_the_card_shows_where_a_rollout_went(site: Site) -> None:
    """Who looks at the card sees what was decided, on how many labels, and how sure that was."""
    site.start("clearer")
    site.tick()
    with site.store() as store:
        shares, difference = rollout_panels(store, site.team.loaded)

    assert "clearer: canary 0.05" in shares.title
    assert [row[1] for row in shares.rows] == ["start", "promote"]
    assert "<svg" in shares.picture
    assert "interval that holds at every look" in difference.note
    assert "bar-line" in difference.picture


@pytest.mark.slow
def test_the_owners_page_says_how_far_a_challenger_is_and_who_it_waits_for(site: Site) -> None:
    """A challenger that somebody has stopped waits for that person until they are told so."""
    site.start("clearer")
    site.ask("hold")
    site.run()

    with site.team.warehouse.open(read_only=True) as lake:
        status = application_status(lake, site.team.loaded, cards_folder=site.team.root, now=datetime.now(UTC))

    assert [one.stage for one in status.challengers if one.variant == "clearer"] == ["shadow 0.5, held"]
    assert [one.who for one in status.waiting if "held at shadow 0.5" in one.what] == ["the owner"]
    assert not [one for one in status.waiting if "may serve" in one.what]


@pytest.mark.slow
def test_the_owners_page_says_whose_approval_a_challenger_waits_for(site: Site) -> None:
    """Evidence that is there waits for people only, and they have to know."""
    with_policy(site, stages=[{**STAGES[0], "approvals": 1, "roles": ["adjudicator"]}, *STAGES[1:]])
    site.start("clearer")
    site.run()

    with site.team.warehouse.open(read_only=True) as lake:
        status = application_status(lake, site.team.loaded, cards_folder=site.team.root, now=datetime.now(UTC))

    asked = [one for one in status.waiting if "0 of 1 approvals" in one.what]
    assert [one.who for one in asked] == ["an adjudicator"]
    assert asked[0].command == f"llm-platform rollout promote {NAME} clearer"


@pytest.mark.slow
def test_a_champion_that_falls_below_its_gate_publishes_nothing_new_or_is_published_and_told(site: Site) -> None:
    """What was right for half a year is wrong by new labels: that is stated policy, and people are told either way."""
    site.team.write_references({f"{number}": "HAPPY" if number % 4 < 2 else "SAD" for number in range(60)})
    site.known()

    assert site.tick().champion_trouble is not None
    with pytest.raises(EvidenceMissing, match="readers keep what they have"):
        site.publish()
    with_policy(site, on_champion_failure="publish_and_alert")
    site.publish()

    with site.team.warehouse.open() as lake:
        assert "champion_failing" in {one.kind for one in lake.alerts.open()}
    site.team.write_references({f"{number}": right_answer(number) for number in range(60)})
    site.known()
    site.tick()
    with site.team.warehouse.open() as lake:
        assert "champion_failing" not in {one.kind for one in lake.alerts.open()}


def with_history(site: Site) -> None:
    """What serves would not pass, and `clearer` served before."""
    with site.store() as store:
        for variant in ("clearer", "vague"):
            release, before = site.team.loaded.release(variant, store), store.rollout.champion()
            assert release is not None
            assert before is not None
            changed = {"event_id": variant, "release_id": release.release_id, "variant": variant}
            store.rollout.append(before.model_copy(update=changed), expected_previous=before.event_id)
    with_policy(site, on_champion_failure="rollback")


def test_what_served_before_serves_no_more_where_its_adapter_is_not_the_one_that_did(site: Site) -> None:
    """Whoever can write where adapters lie could have one served by making the champion fail, or by asking for it."""
    with_history(site)
    look, said = site.look, "is signed by none of the keys"

    def unsigned(_: Release) -> None:
        raise StorageError(said)

    with site.team.warehouse.open() as lake:
        store, loaded = lake.application(NAME), site.team.loaded
        with pytest.raises(StorageError, match=said):
            rollback(store, loaded, by="somebody", adapter_bytes=unsigned)
        watched = watch_rollouts(lake, loaded, look=replace(look, adapter_bytes=unsigned))
        champion = store.rollout.champion()

    assert watched.rolled_back is None
    assert said in (watched.champion_trouble or "")
    assert champion is not None
    assert (champion.variant, champion.action) == ("vague", "promote")


def test_a_champion_that_falls_below_its_gate_makes_room_for_what_served_before(site: Site) -> None:
    """With `rollback`, within one look, to what passes now, and once."""
    with_history(site)

    watched = site.tick()

    assert watched.rolled_back is not None
    assert watched.rolled_back.variant == "clearer"
    assert watched.changes_readers
    with site.store() as store:
        champion = store.rollout.champion()
        assert champion is not None
        assert (champion.action, champion.by, champion.authenticated) == ("rollback", "rollout", False)
    assert site.tick().rolled_back is None
