"""Whose a document is: one answer for what publishes, what serves and what asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import TransientError
from llm_platform.operations.live import live_rollouts
from llm_platform.records.rollout import RolloutPolicy, RolloutStage, RolloutStep
from llm_platform.rollout.decision import StageEvidence
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import NOON, RELEASE_ID, answer_all, event, fill

POLICY = RolloutPolicy(
    stages=(
        RolloutStage(stage="shadow", share=0.4, shows="nothing"),
        RolloutStage(stage="canary", share=0.2, shows="nothing"),
        RolloutStage(stage="canary", share=0.6, shows="nothing"),
        RolloutStage(stage="champion"),
    )
)
KEYS = [f"document {number}" for number in range(300)]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Warehouse]:
    """A lake whose documents `release-1` has answered and serves."""
    location = LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))
    with Warehouse.attach(location) as found:
        fill(found, KEYS)
        answer_all(found)
        found.application("reviews").rollout.append(event("first"), expected_previous=None)
        yield found


def step(rollout_id: str, *, stage: int, step_id: str, policy: RolloutPolicy = POLICY, **values: Any) -> RolloutStep:
    """A row of a rollout whose challenger is the release of its name."""
    fields: dict[str, Any] = {
        "application": "reviews",
        "rollout_id": rollout_id,
        "step_id": step_id,
        "kind": "decide",
        "variant": f"variant of {rollout_id}",
        "release_id": f"release of {rollout_id}",
        "champion_release_id": RELEASE_ID,
        "stage": stage,
        "stage_name": policy.stages[stage].name,
        "share": policy.stages[stage].share,
        "status": "running",
        "underneath": "{}",
        "policy": policy.model_dump_json(),
        "policy_hash": policy.hash,
        "by": "test",
        "at": NOON,
    }
    return RolloutStep(**{**fields, **values})


def started(
    lake: Warehouse,
    rollout_id: str,
    *,
    stage: int,
    policy: RolloutPolicy = POLICY,
    held: bool = False,
    release_id: str | None = None,
) -> str:
    """Enter a challenger and decide it, on a stored report, until it is at a stage; the id of its newest step."""
    steps = lake.application("reviews").rollout_steps
    report_id, released = f"report of {rollout_id}", release_id or f"release of {rollout_id}"
    gates = [gate.model_dump(mode="json") for gate in event("any").evidence]
    lake.application("reviews").reports.append(
        report_id=report_id,
        release_id=released,
        variant=f"variant of {rollout_id}",
        evaluation_id="e",
        measured_on="m",
        passed=True,
        report=json.dumps({"release_id": released, "gates": gates}),
        created_at=NOON,
    )
    same: dict[str, Any] = {"policy": policy, "release_id": released}
    seen = {"evidence": StageEvidence().model_dump_json(), "report_id": report_id, **same}
    rows = [step(rollout_id, stage=0, step_id=f"{rollout_id}-0", kind="start", **same)]
    rows += [
        step(rollout_id, stage=reached, step_id=f"{rollout_id}-{reached}", decision="promote", **seen)
        for reached in range(1, stage + 1)
    ]
    if held:
        seen["evidence"] = StageEvidence(held_by="ann").model_dump_json()
        last = f"{rollout_id}-held"
        rows.append(step(rollout_id, stage=stage, step_id=last, decision="hold", status="held", **seen))
    for before, row in zip([None, *rows], rows, strict=False):
        steps.append(row, expected_previous=None if before is None else before.step_id)
    return rows[-1].step_id


def test_readers_get_what_the_routing_says(lake: Warehouse) -> None:
    """Online callers are routed in Python and the table in SQL: a document must be the same challenger's in both."""
    store = lake.application("reviews")
    started(lake, "older", stage=1)
    started(lake, "younger", stage=2)
    for rollout_id in ("older", "younger"):
        answer_all(lake, release_id=f"release of {rollout_id}")
    live = live_rollouts(store)

    store.published.publish(RELEASE_ID, 1, variant="plain", routes=live.routes)

    rows = store.published.table(1).to_pylist()
    wanted = {key: live.variant_of(key) for key in KEYS}
    assert {row["document_id"]: (row["variant"], row["release_id"]) for row in rows} == {
        key: (one.variant, one.release_id) for key, one in wanted.items() if one is not None
    }
    assert {row["release_id"] for row in rows} == {RELEASE_ID, "release of older", "release of younger"}


def test_a_shadow_is_never_published_and_answers_its_share(lake: Warehouse) -> None:
    """What nobody has judged yet must reach no reader."""
    started(lake, "shade", stage=0)
    live = live_rollouts(lake.application("reviews"))

    assert live.routes == ()
    assert {live.variant_of(key) for key in KEYS} == {live.champion}
    share = sum(bool(live.shadows_of(key)) for key in KEYS) / len(KEYS)
    assert 0.3 < share < 0.5


def test_what_a_canary_has_not_answered_is_the_champions(lake: Warehouse) -> None:
    """Readers never wait for a challenger."""
    store = lake.application("reviews")
    started(lake, "slow", stage=2)

    store.published.publish(RELEASE_ID, 1, variant="plain", routes=live_rollouts(store).routes)

    table = store.published.table(1)
    assert set(table["variant"].to_pylist()) == {"plain"}
    assert set(table["status"].to_pylist()) == {"valid"}


def test_a_withdrawn_challengers_documents_are_the_champions_again(lake: Warehouse) -> None:
    """A withdrawal takes effect at the next publication, without anything being asked again."""
    store = lake.application("reviews")
    started(lake, "bad", stage=2)
    answer_all(lake, release_id="release of bad")
    store.published.publish(RELEASE_ID, 1, variant="plain", routes=live_rollouts(store).routes)
    assert "variant of bad" in store.published.table(1)["variant"].to_pylist()

    gone = StageEvidence(withdrawn_by="ann").model_dump_json()
    over = step("bad", stage=2, step_id="over", status="withdrawn", decision="withdraw", evidence=gone)
    store.rollout_steps.append(over, expected_previous="bad-2")
    store.published.publish(RELEASE_ID, 1, variant="plain", routes=live_rollouts(store).routes)

    assert set(store.published.table(1)["variant"].to_pylist()) == {"plain"}
    assert live_rollouts(store).challengers == ()


def test_a_dry_run_is_nowhere(lake: Warehouse) -> None:
    """It decides and reports; nothing is asked and nothing published for it."""
    started(lake, "dry", stage=1, policy=POLICY.model_copy(update={"dry_run": True}))

    assert live_rollouts(lake.application("reviews")).challengers == ()


def test_a_held_canary_keeps_its_documents_and_a_held_shadow_asks_nothing(lake: Warehouse) -> None:
    """A hold is a pause: readers are not thrown back and forth, and no money is spent on what waits for a person."""
    started(lake, "canary", stage=1, held=True)
    started(lake, "shade", stage=0, held=True)
    live = live_rollouts(lake.application("reviews"))

    assert [one.rollout_id for one in live.routes] == ["canary"]
    assert not any(live.shadows_of(key) for key in KEYS)


def test_a_step_that_was_decided_on_an_older_state_is_refused(lake: Warehouse) -> None:
    """Somebody withdraws while a tick promotes: one of them has to look again, or the withdrawal would be lost."""
    store = lake.application("reviews")
    started(lake, "raced", stage=0)
    store.rollout_steps.append(step("raced", stage=0, step_id="raced-1", kind="withdraw"), expected_previous="raced-0")

    with pytest.raises(TransientError, match="rollout status reviews"):
        store.rollout_steps.append(step("raced", stage=1, step_id="raced-2"), expected_previous="raced-0")

    assert [one.step_id for one in store.rollout_steps.of("raced")] == ["raced-0", "raced-1"]


def test_a_challenger_becomes_the_champion_in_one_transaction_or_not_at_all(lake: Warehouse) -> None:
    """A rollout that is over without a new champion, or the other way round, would be a state nobody decided."""
    store = lake.application("reviews")
    started(lake, "winner", stage=2)
    before_last = ["winner-0", "winner-1", "winner-2"]
    last = step("winner", stage=3, step_id="winner-3", status="champion", decision="promote")
    crowned = event("crowned", release_id="release of winner")

    with pytest.raises(TransientError):
        store.rollout_steps.append(last, expected_previous="winner-2", event=crowned, expected_champion="nobody")
    assert [one.step_id for one in store.rollout_steps.of("winner")] == before_last
    before = store.rollout.champion()
    assert before is not None

    store.rollout_steps.append(last, expected_previous="winner-2", event=crowned, expected_champion=before.event_id)

    champion = live_rollouts(store).champion
    assert champion is not None
    assert champion.release_id == "release of winner"
    assert live_rollouts(store).challengers == ()


def test_a_canary_without_evidence_is_nowhere(lake: Warehouse) -> None:
    """A row that says so makes no canary: neither one that no decision led to, nor one without a passing report."""
    store = lake.application("reviews")
    store.rollout_steps.append(step("forged", stage=1, step_id="f", kind="start"), expected_previous=None)
    started(lake, "bare", stage=1)
    started(lake, "real", stage=1)
    with store._session.cursor() as cursor:
        cursor.execute("DELETE FROM lake.reviews.reports WHERE report_id = 'report of bare'")

    assert [one.rollout_id for one in live_rollouts(store).routes] == ["real"]
