"""One look at a lake: windows around the promotion, a draw of live documents, and what their labels say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llm_platform.application.model import Application
from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.drift import DriftReport
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.watching.drift import Monitored, boundary, latest_report, monitor, to_label
from llm_platform.records import Score
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.warehouse.builders import RELEASE_ID, batch, completion, consumed, document, event
from llm_platform_tests.warehouse.conftest import sqlite_location

NAME = "reviews"
OLD = {f"old {number}": f"the film was as long as the book and it was good {number}" for number in range(100, 160)}


def specification(**monitoring: Any) -> Application:
    return Application.model_validate(
        {
            "name": NAME,
            "title": "Reviews",
            "task": "classify",
            "labels": ["HAPPY", "SAD"],
            "source": {"url": "reviews.csv", "key": "id", "text": "text"},
            "variants": {"plain": {"prompt": "plain", "model": "small"}},
            "evaluation": {"gates": {"accuracy": {"minimum": 0.7, "reason": "better than always one label"}}},
            "monitoring": {"drift": {"minimum_texts": 30}, "labelling": {"audit_share": 1.0}, **monitoring},
        }
    )


class Live:
    """A lake with a champion, to which documents come."""

    def __init__(self, lake: Warehouse, folder: Path) -> None:
        self.lake, self.folder = lake, folder
        self.texts: dict[str, str] = {}
        self.application = specification()
        self.now = datetime.now(UTC)

    @property
    def store(self) -> ApplicationStore:
        return self.lake.application(NAME)

    def arrive(self, texts: dict[str, str], *, answer: str = "HAPPY", confidence: float = 0.9) -> None:
        """Documents come and are answered."""
        self.texts |= texts
        rows = [{**document(key), "text": text, "fingerprint": text} for key, text in self.texts.items()]
        self.store.documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())
        missing = self.store.completions.missing(RELEASE_ID).to_pylist()
        values = {"answer": answer, "confidence": confidence}
        with self.store.completions.lease(RELEASE_ID, holder="test") as lease:
            answers = [completion(row["document_id"], fingerprint=row["fingerprint"], **values) for row in missing]
            self.store.completions.append(lease, answers)

    def promote(self) -> None:
        self.store.rollout.append(event("1").model_copy(update={"at": datetime.now(UTC)}), expected_previous=None)

    def label(self, scores: dict[str, float]) -> None:
        """People say what is right of these documents."""
        rows = [{"document_id": key, "answer": "HAPPY", "split": "evaluation"} for key in scores]
        self.store.references.replace(pa.Table.from_pylist(rows))
        version = self.store.references.version()
        keys = {"release_id": RELEASE_ID, "scorer": "exact/1", "references_version": version}
        self.store.scores.append(
            [Score(document_id=key, fingerprint=self.texts[key], score=score, **keys) for key, score in scores.items()]
        )

    def look(self) -> Monitored:
        self.now += timedelta(minutes=5)
        loaded = LoadedApplication(self.application, prompts={}, lock={})
        return monitor(self.lake, loaded, cards_folder=self.folder, now=self.now)

    def verdicts(self) -> dict[str, str]:
        return {found.name: found.verdict for found in self.look().report.measurements}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with Warehouse.attach(sqlite_location(tmp_path)) as lake:
        found = Live(lake, tmp_path / "cards")
        found.arrive(OLD)
        found.promote()
        yield found


def english(count: int, *, start: int = 0) -> dict[str, str]:
    return {
        f"new {n}": f"the film was as long as the book and it was good {n + 200}" for n in range(start, start + count)
    }


def german(count: int) -> dict[str, str]:
    return {f"neu {n}": f"der Film ist nicht so lang wie das Buch und das war gut {n}" for n in range(count)}


def test_before_a_promotion_there_is_nothing_to_drift_from(tmp_path: Path) -> None:
    """The reference window is what the champion was judged on; without one the question has no meaning."""
    with (
        Warehouse.attach(sqlite_location(tmp_path), threads=1) as lake,
        pytest.raises(EvidenceMissing, match="no champion"),
    ):
        boundary(lake.application(NAME), specification())


def test_the_windows_meet_at_the_promotion(live: Live) -> None:
    """What came before was seen by whoever approved the release; what came after was not."""
    live.arrive(english(45))

    report = live.look().report

    assert (report.reference_texts, report.current_texts) == (60, 45)


def test_a_rollback_brings_back_the_boundary_of_the_release(live: Live) -> None:
    """A release that returns was judged when it was first promoted, not when it came back."""
    first = boundary(live.store, live.application)
    other = event("2", release_id="release-2").model_copy(update={"at": datetime.now(UTC)})
    back = event("3").model_copy(update={"at": datetime.now(UTC), "action": "rollback"})
    live.store.rollout.append(other, expected_previous="1")
    later = boundary(live.store, live.application)

    live.store.rollout.append(back, expected_previous="2")

    assert later > first
    assert boundary(live.store, live.application) == first


def test_a_stated_boundary_takes_the_place_of_the_promotion(live: Live) -> None:
    """A team that knows of a change of its own can say from when on it counts."""
    live.application = specification(since="2020-01-01T00:00:00Z")

    assert live.look().report.current_texts == 60


def test_equal_documents_do_not_drift_and_others_do(live: Live) -> None:
    """The whole way through the lake, on texts that are alike and on texts of another language."""
    live.arrive(english(60))
    before = live.verdicts()

    live.arrive(german(120), answer="SAD")
    after = live.verdicts()

    assert set(before.values()) == {"no drift shown"}
    assert {name for name, verdict in after.items() if verdict == "drifted"} >= {"language", "answers", "texts"}


def test_what_has_not_changed_is_not_measured_again(live: Live) -> None:
    """A run without news must cost nothing and store nothing."""
    live.arrive(english(40))
    first = live.look()
    snapshot = live.lake.snapshot()

    second = live.look()

    assert first.measured
    assert not second.measured
    assert live.lake.snapshot() == snapshot
    assert second.report.measurements == first.report.measurements


def test_flagged_documents_are_there_for_the_review_queue_until_their_text_changes(live: Live) -> None:
    """A reviewer must not be shown a text that is no longer the document's."""
    live.arrive({**english(60), "odd": "zzz qqq xxx vvv"})
    live.look()
    flagged = live.store.drift.flagged().to_pylist()

    live.arrive({"odd": "the film was as long as the book and it was good 999"})

    assert flagged[0]["document_id"] == "odd"
    assert flagged[0]["novelty"] > 0.9
    assert "odd" not in live.store.drift.flagged().column("document_id").to_pylist()


def test_every_live_text_is_drawn_at_most_once_with_a_stored_probability(live: Live) -> None:
    """A second draw would change the probability under which the first one was made."""
    live.application = specification(
        labelling={"audit_share": 0.3, "low_confidence_share": 0.9, "low_confidence_below": 0.6}
    )
    live.arrive(english(60), confidence=0.9)
    first = live.look().drawn_now
    live.arrive(english(60, start=60), confidence=0.5)
    second = live.look().drawn_now
    third = live.look().drawn_now

    drawn = live.store.drift.drawn(RELEASE_ID).to_pylist()

    assert (len(drawn), third) == (first + second, 0)
    assert {(row["probability"], row["reason"]) for row in drawn} == {(0.3, "audit"), (0.9, "low confidence")}
    assert live.store.drift.considered_count(RELEASE_ID) == 120
    assert not any(row["document_id"].startswith("old") for row in drawn)
    assert {row["document_id"] for row in to_label(live.store)} == {row["document_id"] for row in drawn}


def test_labels_of_live_documents_say_whether_it_is_still_right(live: Live) -> None:
    """Approved at 0.7; on what came since it is right in a third: the upper bound itself is below."""
    live.arrive(english(90))
    unlabelled = live.look().report.accuracy
    live.label({f"new {n}": float(n % 3 == 0) for n in range(90)})

    labelled = live.look().report.accuracy

    assert (unlabelled.standing, unlabelled.drawn) == ("cannot tell", 90)
    assert labelled.standing == "below its minimum"
    assert labelled.labelled == 90
    assert to_label(live.store) == []


def test_labels_that_nobody_drew_do_not_count(live: Live) -> None:
    """Whoever chooses what to label chooses the wrong ones: their share says nothing of the rest."""
    live.application = specification(labelling={"audit_share": 1e-9, "low_confidence_share": 0.0})
    live.arrive(english(50))
    live.look()
    live.label({f"new {n}": 0.0 for n in range(50)})

    found = live.look().report.accuracy

    assert (found.considered, found.labelled, found.standing) == (50, 0, "cannot tell")


def test_a_stored_look_is_read_back_as_it_was(live: Live) -> None:
    """The card, the command line and the next look all read it from the lake."""
    live.arrive(english(40))
    report = live.look().report

    stored = latest_report(live.store)

    assert isinstance(stored, DriftReport)
    assert stored == report


def test_the_page_holds_numbers_and_keys_and_no_text(live: Live) -> None:
    """It is linked from alerts, and alerts go to people who may not read the documents."""
    live.arrive({**english(60), "odd": "zzz qqq xxx vvv"})

    page = live.look().page.read_text(encoding="utf-8")

    assert "Are newer documents like those it was judged on?" in page
    assert "odd" in page
    assert "zzz" not in page
    assert "the film" not in page
