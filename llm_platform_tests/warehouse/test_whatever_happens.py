"""After any changes, deletions, promotions and new labels, what is moved on is what counting everything anew gives."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llm_platform.contracts.files import contract_files
from llm_platform.records import RolloutEvent, Score
from llm_platform.records.contracts import text_contract
from llm_platform.warehouse.copies import FolderPlace
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.warehouse.builders import RELEASE_ID, event, fill
from llm_platform_tests.warehouse.conftest import sqlite_location
from llm_platform_tests.warehouse.test_small_tables import references
from llm_platform_tests.warehouse.test_tallies import OTHER, _answer, _change, _compact, _lose, _retry

CONTRACT = text_contract(1, application="reviews")
EVER = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("steps", [4, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_whatever_happens_to_a_lake_is_counted_as_by_a_process_that_has_just_begun(tmp_path: Path, steps: int) -> None:
    """Promotions and new labels change what numbers are about, not the tables that they are moved on by."""
    draw, place = random.Random(11), FolderPlace(tmp_path / "copies")
    done: set[str] = set()
    with Warehouse.attach(sqlite_location(tmp_path), threads=2) as lake:
        store = lake.application("reviews")
        fill(lake, [f"{number:03d}" for number in range(60)])
        store.references.replace(references([("001", "HAPPY", "train"), ("002", "SAD", "evaluation")]))
        since = datetime.now(UTC)
        kinds = [_change, _change, _answer, _answer, _promote, _promote, _label, _label, _lose, _retry, _compact]
        for number in range(2, 2 + steps):
            step = _compact if number % 9 == 0 else draw.choice(kinds)
            step(lake, store, draw, number)
            done.add(step.__name__)
            _grade(store, draw)
            champion = store.rollout.champion()
            release = RELEASE_ID if champion is None else champion.release_id
            if draw.random() < 0.8:
                store.published.publish(release, [CONTRACT])
                store.copies.bring([CONTRACT], [place], files=contract_files)
                moved, anew = _published(store, release), _published_anew(store, release)
                assert moved == anew, step.__name__
                with Warehouse.attach(sqlite_location(tmp_path), threads=1) as other:
                    other._session.recount.add("reviews")
                    assert _published(other.application("reviews"), release) == anew
            if draw.random() < 0.5:
                store.tallies.keep()
                lake._session.counted.clear()
                lake._session.stored_tallies.clear()
                lake._session.tallies_read_at.clear()
            moved_on = _said(store, since)

            with Warehouse.attach(sqlite_location(tmp_path), threads=1) as other:
                other._session.recount.add("reviews")
                assert moved_on == _said(other.application("reviews"), since), step.__name__

    assert steps < 10 or len(done) == len(set(kinds))


def _promote(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    before = store.rollout.champion()
    chosen: RolloutEvent = event(f"event {number}", release_id=draw.choice([RELEASE_ID, OTHER]))
    store.rollout.append(chosen, expected_previous=None if before is None else before.event_id)


def _label(lake: Warehouse, store: ApplicationStore, draw: random.Random, number: int) -> None:
    keys = sorted(draw.sample(range(70), 12))
    rows = [(f"{key:03d}", draw.choice(["HAPPY", "SAD"]), draw.choice(["train", "evaluation"])) for key in keys]
    store.references.replace(references(rows))


def _grade(store: ApplicationStore, draw: random.Random) -> None:
    """What the step that grades does: a score for each known answer that is answered."""
    version = store.references.version()
    known = store.documents.known(["document_id", "fingerprint", "status"]).to_pylist()
    for release in (RELEASE_ID, OTHER):
        answered = store.completions.answered(release, document_ids=[row["document_id"] for row in known]).to_pylist()
        store.scores.append(
            [
                Score(
                    release_id=release,
                    fingerprint=row["fingerprint"],
                    document_id=row["document_id"],
                    scorer="exact",
                    score=float(draw.random() < 0.5),
                    references_version=version,
                )
                for row in answered
            ]
        )


def _said(store: ApplicationStore, since: datetime) -> dict[str, Any]:
    """Everything that is decided by, as this process says it."""
    said: dict[str, Any] = {
        "documents": store.documents.counts(),
        "version": store.documents.data_version(),
        "references": store.references.version(),
        "known": store.documents.known(["document_id", "fingerprint", "attributes", "status"]).to_pylist(),
        "champion": store.rollout.champion(),
        "history": store.rollout.history(),
    }
    for release in (RELEASE_ID, OTHER):
        version = store.references.version()
        completions = store.completions
        unanswered = store.tallies.unanswered(release)
        missing = completions.missing(release).to_pylist()
        assert unanswered is None or unanswered == sorted({row["fingerprint"] for row in missing})
        windows = [
            store.drift.window(release, since=at, live=live, limit=20, seed=3).to_pylist()
            for at in (EVER, since + timedelta(days=1))
            for live in (False, True)
        ]
        said[release] = {
            "missing": missing,
            "missing_count": completions.missing_count(release),
            "size": completions.missing_size(release, room_bytes=4),
            "answers": completions.tally(release),
            "judged": completions.judged_version(release),
            "counts": completions.counts(release),
            "known": completions.answered(release, document_ids=["001", "002", "017", "069"]).to_pylist(),
            "scores": store.scores.of_release(release, version).to_pylist(),
            "scores_version": store.scores.version(release, version),
            "causes": store.failures.causes(release),
            "windows": windows,
        }
    return said


def _published(store: ApplicationStore, release: str) -> dict[str, Any]:
    return {
        "rows": _shown(store.published.table(1)),
        "version": store.published.data_version(1),
        "violations": store.published.violations(CONTRACT),
        "pending": store.published.pending(release, [CONTRACT]),
    }


def _published_anew(store: ApplicationStore, release: str) -> dict[str, Any]:
    """The same of the tables of documents and answers alone."""
    answers = {row["fingerprint"]: row for row in store.completions.of_release(release).to_pylist()}
    rows = {}
    for document in store.documents.table().to_pylist():
        answer = answers.get(document["fingerprint"]) if document["status"] == "sendable" else None
        valid = answer is not None and answer["status"] == "valid"
        rows[document["document_id"]] = (document["fingerprint"], answer["answer"] if valid else None)
    return {**_published(store, release), "rows": rows, "pending": 0}


def _shown(table: pa.Table) -> dict[str, tuple[str, str | None]]:
    return {row["document_id"]: (row["fingerprint"], row["answer"]) for row in table.to_pylist()}
