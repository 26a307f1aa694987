"""A real upgrade from one build of a model to another: difference, evaluation, approval, rollback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from llm_platform.errors import EndpointMismatch, EvidenceMissing
from llm_platform.models.lock import load_lock, pin
from llm_platform.models.probes import probe_differences
from llm_platform.operations.release.models import approvals, touched
from llm_platform.operations.release.rollout import promote, rollback
from llm_platform.records import RolloutEvent
from llm_platform.resources.handed import local_nim
from llm_platform.resources.nim import NIMResource
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.defs.test_graph_runs import failure, run
from llm_platform_tests.embedded import Q4_0, link_weights, stop_embedded
from llm_platform_tests.team import NAME, Team

OLD, NEW = "smollm2-135m", "smollm2-135m-q4"
DOCUMENTS = 20


class Upgrade(Team):
    """Some tickets answered by the embedded NIM; the second build is in the lock file, and nothing names it yet."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "http://127.0.0.1:9", documents=DOCUMENTS)
        self.specification["variants"] = {"now": self.variant(OLD)}
        # What is tested is that evidence is asked for, not that a small model knows the mood of a printer.
        self.specification["evaluation"]["gates"].pop("accuracy")
        self.specification["evaluation"]["gates"]["valid_rate"]["minimum"] = 0.6
        self.write_specification()
        for name in (OLD, NEW):
            link_weights(load_lock(self.lock_file)[name], self.settings.state)

    @staticmethod
    def variant(model: str) -> dict[str, object]:
        return {"prompt": "clear", "model": model, "sampling": {"max_tokens": 4}}

    def write_lock(self) -> None:
        super().write_lock()
        lock = yaml.safe_load(self.lock_file.read_text(encoding="utf-8"))
        shipped = lock["models"][OLD]
        other = {name: value for name, value in shipped.items() if name not in ("profile", "fingerprint")}
        lock["models"][NEW] = {**other, "weights": Q4_0}
        lock["models"].pop("scripted")
        self.lock_file.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Upgrade]:
    made = Upgrade(tmp_path)
    yield made
    for entry in load_lock(made.lock_file).values():
        stop_embedded(entry, local_nim(made.settings))


@pytest.mark.slow
def test_an_upgrade_is_approved_on_its_own_evidence_and_can_be_taken_back(team: Upgrade) -> None:
    """Another quantization is another model: nothing that was approved on the old one counts for it."""
    instance = dg.DagsterInstance.ephemeral()
    ran = run(team, instance)
    assert ran.success, failure(ran)
    lock = load_lock(team.lock_file)

    # What would it touch?
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        (moved,) = touched(store, team.loaded, entry=OLD, before=lock[OLD], after=lock[NEW])
        champion = store.rollout.champion()
    assert champion is not None
    assert (moved.variant, moved.prompt, moved.serves, moved.stale) == ("now", "clear", True, True)
    assert moved.void == (champion.report_id,)

    # The new build beside the old one: it cannot be published before it has been evaluated.
    team.specification["variants"]["next"] = team.variant(NEW)
    team.write_specification()
    with team.warehouse.open() as lake, pytest.raises(EvidenceMissing, match="has no report"):
        promote_variant(team, lake.application(NAME), "next")
    ran = run(team, instance, ["completions_next", "scores", "report"])
    assert ran.success, failure(ran)
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        assert store.rollout.champion() == champion
        event = promote_variant(team, store, "next")
        assert [one.void for one in approvals(store, team.loaded, lock[NEW])] == [None]
        assert [one.void for one in approvals(store, team.loaded, lock[OLD])] == [None]

    # What readers get is the new build's, then the old one's again, without a request.
    assert published_by(team, instance) == {event.release_id}
    with team.warehouse.open() as lake:
        rollback(lake.application(NAME), team.loaded, by="test")
    assert published_by(team, instance) == {champion.release_id}

    # An entry that is changed in place voids what was approved on it.
    changed = yaml.safe_load(team.lock_file.read_text(encoding="utf-8"))
    changed["models"][OLD] = changed["models"][NEW]
    team.lock_file.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    with team.warehouse.open() as lake:
        found = approvals(lake.application(NAME), team.loaded, load_lock(team.lock_file)[OLD])
    assert [one.event.action for one in found] == ["promote", "rollback"]
    assert all("the lock entry moved: profile, weights.sha256" in str(one.void) for one in found)
    with pytest.raises(EndpointMismatch, match="evaluated on another"):
        NIMResource.of(team.settings, OLD).verified_targets(pin(lock[OLD]))


def promote_variant(team: Upgrade, store: ApplicationStore, variant: str) -> RolloutEvent:
    release = team.loaded.release(variant, store)
    assert release is not None
    return promote(store, team.loaded, variant, release=release, by="test")


def published_by(team: Upgrade, instance: dg.DagsterInstance) -> set[str]:
    """Releases whose answers readers get, once what serves has been published."""
    ran = run(team, instance, ["completions_champion", "published"])
    assert ran.success, failure(ran)
    with team.warehouse.open(read_only=True) as lake:
        return set(lake.application(NAME).published.table(1)["release_id"].to_pylist())


@pytest.mark.slow
def test_the_fingerprint_tells_the_builds_apart(team: Upgrade) -> None:
    """Same name, same tokenizer, same template: only what it answers shows another model."""
    old, new = (NIMResource.of(team.settings, name) for name in (OLD, NEW))

    same, other = old.observe(probes=True), new.observe(probes=True)
    held = other.entry.model_copy(update={"fingerprint": old.pinned.fingerprint})

    ((_, probed),) = other.probed.items()
    assert same.matches, same.mismatches
    assert probed.tokenizer_sha256 == old.pinned.tokenizer_sha256
    assert len(probe_differences(held, probed)) >= 3
