"""Approval that cannot be talked into: what was measured on other answers, earlier or elsewhere approves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from llm_platform.errors import EvidenceMissing, TransientError
from llm_platform.operations.release.branches import make_branch
from llm_platform.operations.release.plan import plan
from llm_platform.operations.release.rollout import promote, rollback
from llm_platform.records import RolloutEvent
from llm_platform.workbench.summary import print_summary
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team, right_answer

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DOCUMENTS, HOPELESS = 60, 45
FIRST_HOPELESS = 1000


def answer(seen: Seen) -> str:
    """Right, but for documents from `FIRST_HOPELESS` on, of which nobody can say anything."""
    number = int(seen.document_id)
    return "neither of the two" if number >= FIRST_HOPELESS else right_answer(number)


class Site:
    """A team of one variant, whose first champion a person chooses."""

    def __init__(self, root: Path, model: ScriptedServer, *, first_champion: str = "manual", **settings: Any) -> None:
        self.team, self.model = Team(root, model.url, documents=DOCUMENTS, **settings), model
        self.team.specification["variants"] = {"clear": self.team.specification["variants"]["clear"]}
        self.team.specification["rollout"] = {"first_champion": first_champion}
        self.team.specification["max_failed_share"] = 0.9
        self.team.specification["source"]["max_drop"] = 1.0
        self.team.write_specification()
        # On a busy machine the model may be silent for longer than a test of outages waits.
        self.team.settings = self.team.settings.model_copy(update={"outage_seconds": 60.0})
        self.instance = dg.DagsterInstance.ephemeral()

    def documents(self, *, hopeless: int = 0) -> None:
        """Make the source table the answerable documents and that many that are not."""
        numbers = [*range(DOCUMENTS), *range(FIRST_HOPELESS, FIRST_HOPELESS + hopeless)]
        self.team.write_documents({f"{number}": self.team.text(number) for number in numbers})

    def run(self, only: Sequence[str] | None = None) -> dg.ExecuteInProcessResult:
        keys = None if only is None else [dg.AssetKey([NAME, *name.split("/")]) for name in only]
        job = self.team.definitions().resolve_job_def(NAME)
        return job.execute_in_process(
            instance=self.instance, asset_selection=keys, raise_on_error=False, run_config=QUIET
        )

    def ran(self, only: Sequence[str] | None = None) -> None:
        """A run that has to succeed."""
        done = self.run(only)
        assert done.success, failure(done)

    def promote(self, variant: str = "clear") -> RolloutEvent:
        with self.team.warehouse.open() as lake:
            store, loaded = lake.application(NAME), self.team.loaded
            release = loaded.release(variant, store)
            assert release is not None
            return promote(store, loaded, variant, release=release, by="somebody")

    def rollback(self) -> RolloutEvent:
        with self.team.warehouse.open() as lake:
            return rollback(lake.application(NAME), self.team.loaded, by="somebody")

    def summary(self) -> str:
        console = Console(file=StringIO(), width=300)
        with self.team.warehouse.open(read_only=True) as lake:
            print_summary(lake, self.team.loaded, self.team.settings, console=console, checks=None)
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    def published(self) -> list[dict[str, Any]]:
        with self.team.warehouse.open(read_only=True) as lake:
            rows: list[dict[str, Any]] = lake.application(NAME).published.table(1).to_pylist()
        return rows

    def prompt(self, text: str) -> None:
        """Another release of the variant."""
        self.team.write_prompt("clear", f"Say clearly{text} whether this is HAPPY or SAD: {{{{ text }}}}")


MakeSite = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[MakeSite]:
    with ScriptedServer(answer=answer) as model:
        yield lambda **values: Site(tmp_path, model, **values)


def failure(result: dg.ExecuteInProcessResult) -> str:
    events = [event for event in result.all_node_events if event.is_step_failure]
    data: Any = events[0].step_failure_data
    return str(data.user_failure_data.description)


def test_an_approval_of_fewer_documents_is_none_of_those_that_came_back(site: MakeSite) -> None:
    """Refused, approved, and the same documents again: the second verdict must not outlive what it judged."""
    there = site()
    for hopeless in (HOPELESS, 0, HOPELESS):
        there.documents(hopeless=hopeless)
        there.ran()

    said = there.summary()
    with pytest.raises(EvidenceMissing, match="valid_rate: lower bound"):
        there.promote()

    assert "clear       refused" in said
    assert "also approved" not in said
    assert there.published() == []


@pytest.mark.slow
def test_documents_that_came_after_the_report_void_it(site: MakeSite) -> None:
    """Between the report and the promotion the documents changed: nobody has looked at these answers."""
    there = site()
    there.ran()
    there.documents(hopeless=HOPELESS)
    there.ran(["documents", "completions_clear"])

    said = there.summary()
    with pytest.raises(EvidenceMissing, match="has no report on the present"):
        there.promote()

    assert "no report on the present documents and answers" in said
    with there.team.warehouse.open() as lake:
        steps = [step.asset for step in plan(lake, there.team.loaded)]
    assert steps == ["report"]


@pytest.mark.slow
def test_a_clock_that_was_ahead_has_not_the_last_word(site: MakeSite) -> None:
    """A host whose clock is an hour ahead reports once; for an hour, its verdict would be the newest."""
    there = site()
    there.ran()
    with there.team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = there.team.loaded.release("clear", store)
        assert release is not None
        stored = store.reports.latest(release.release_id)
        assert stored is not None
        ahead = {**vars(stored), "report_id": "ahead", "created_at": datetime.now(UTC) + timedelta(hours=1)}
        store.reports.append(**ahead)
    there.documents(hopeless=HOPELESS)
    there.ran()

    with pytest.raises(EvidenceMissing, match="valid_rate: lower bound"):
        there.promote()


@pytest.mark.slow
def test_a_champion_that_the_present_gates_refuse_is_not_published(site: MakeSite) -> None:
    """Approved on sixty documents; with as many unanswerable ones beside them, readers keep what they have."""
    there = site(first_champion="automatic")
    there.ran()
    before = there.published()
    there.documents(hopeless=HOPELESS)

    refused = there.run()
    alone = there.run(["published"])

    assert "does not pass on the present documents" in failure(refused)
    assert "valid_rate: lower bound" in failure(alone)
    assert there.published() == before
    there.documents()
    there.ran()


@pytest.mark.slow
def test_an_attribute_that_a_slice_reads_is_part_of_what_was_judged(site: MakeSite) -> None:
    """No prompt reads the attribute, so the texts and answers are the same; the gate of a slice is not."""
    there = site()
    gates = there.team.specification["evaluation"]["gates"]
    gates["slices"] = {"minimum": 0.5, "documents": 5, "reason": "no team may be served badly"}
    there.team.write_specification()
    there.ran()
    texts = {f"{number}": there.team.text(number) for number in range(DOCUMENTS)}
    there.team.write_documents(dict(reversed(texts.items())))
    there.ran(["documents"])

    with pytest.raises(EvidenceMissing, match="has no report on the present"):
        there.promote()


def serve(there: Site, prompt: str) -> RolloutEvent:
    there.prompt(prompt)
    with there.team.warehouse.open() as lake:
        is_new = lake.application(NAME).documents.counts() == {}
    judged = ["completions_clear", "scores", "report"]
    there.ran(["documents", "references", *judged] if is_new else judged)
    return there.promote()


@pytest.mark.slow
def test_rollbacks_go_down_the_history_and_never_back_up(site: MakeSite) -> None:
    """Two operators who roll back one after the other must not bring back what the first one took away."""
    there = site()
    first, second, _ = serve(there, ""), serve(there, " and well"), serve(there, " and soon")

    assert there.rollback().release_id == second.release_id
    assert there.rollback().release_id == first.release_id
    with pytest.raises(EvidenceMissing, match="no earlier champion to go back to"):
        there.rollback()

    fourth = serve(there, " and kindly")
    assert fourth.release_id not in {first.release_id, second.release_id}
    assert there.rollback().release_id == first.release_id


@pytest.mark.slow
def test_a_rollback_that_was_decided_against_another_champion_is_refused(
    site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators at the same moment: the second one's decision was about what the first one has already left."""
    there = site()
    for prompt in ("", " and well", " and soon"):
        serve(there, prompt)
    with there.team.warehouse.open() as lake:
        store = lake.application(NAME)
        seen = store.rollout.champion()
        there.rollback()
        monkeypatch.setattr(store.rollout, "champion", lambda: seen)
        with pytest.raises(TransientError, match="decide again"):
            rollback(store, there.team.loaded, by="somebody else")


@pytest.mark.slow
def test_a_rollback_is_held_against_present_labels(site: MakeSite) -> None:
    """What served last year was approved on last year's known answers; it must not come back on those."""
    there = site()
    serve(there, "")
    serve(there, " and well")
    there.team.write_references({f"{number}": "SAD" for number in range(DOCUMENTS)})
    there.ran(["references"])

    with pytest.raises(EvidenceMissing, match=r"would not pass on the present known answers(.|\n)*accuracy: lower"):
        there.rollback()


@pytest.mark.slow
def test_a_rollback_asks_for_what_came_meanwhile_before_it_publishes(site: MakeSite) -> None:
    """The former champion has no answers to documents that came since: work for the run, and no reason to refuse."""
    there = site()
    first = serve(there, "")
    serve(there, " and well")
    texts = {f"{number}": there.team.text(number) for number in range(DOCUMENTS + 4)}
    there.team.write_documents(texts)
    there.team.write_references({f"{number}": right_answer(number) for number in range(DOCUMENTS + 4)})
    there.ran()

    assert there.rollback().release_id == first.release_id
    there.ran(["rollout", "completions_champion", "published"])

    rows = there.published()
    assert {row["release_id"] for row in rows} == {first.release_id}
    assert len(rows) == len(texts)


@pytest.mark.slow
def test_a_catalog_that_is_gone_stops_the_run_before_it_pays(site: MakeSite) -> None:
    """One deleted file, and everything would be asked again and a first champion promoted on nobody's word."""
    there = site(first_champion="automatic")
    there.ran()
    asked, catalog = there.model.counts.requests, there.team.settings.namespace_folder / "catalog.sqlite"
    kept = [path.rename(path.with_name(f"kept-{path.name}")) for path in catalog.parent.glob("catalog.sqlite*")]

    refused = there.run()

    assert "has no catalog, but something is left of it" in failure(refused)
    assert there.model.counts.requests == asked
    assert not catalog.exists()
    for path in kept:
        path.rename(path.with_name(path.name.removeprefix("kept-")))
    there.ran(["published"])


@pytest.mark.slow
def test_a_new_namespace_holds_upstreams_champion_against_its_own_gates(site: MakeSite) -> None:
    """Upstream's gates were laxer: what passed them there was never held against the ones that stand here."""
    there = site(first_champion="automatic")
    there.documents(hopeless=HOPELESS)
    gates = there.team.specification["evaluation"]["gates"]
    strict = gates["valid_rate"]
    gates["valid_rate"] = {"minimum": 0.1, "reason": "while we try things, holes are welcome"}
    there.team.write_specification()
    there.ran()
    assert len(there.published()) == DOCUMENTS + HOPELESS
    make_branch(there.team.settings.state, "fresh", there.team.settings.namespace)
    there.team.settings = there.team.settings.in_namespace("fresh")
    gates["valid_rate"] = strict
    there.team.write_specification()

    whole, alone = there.run(), there.run(["published"])

    for refused in (whole, alone):
        assert "valid_rate: lower bound" in failure(refused)
    assert there.published() == []
