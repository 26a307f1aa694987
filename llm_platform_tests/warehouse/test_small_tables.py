"""Tables of few rows: each stores what is new, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from llm_platform.errors import ContractBroken, TransientError
from llm_platform.operations.releases import latest_calibrated
from llm_platform.records import Annotation, Calibration, InferenceRun, Score, TokenUsage, Verdict
from llm_platform.records.tables import FLAGS_SCHEMA
from llm_platform.warehouse.drift import StoredDrift
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import NOON, RELEASE_ID, event, fill, release


def references(rows: list[tuple[str, str, str]]) -> pa.Table:
    """References from (document_id, answer, split)."""
    return pa.Table.from_pylist([dict(zip(("document_id", "answer", "split"), row, strict=True)) for row in rows])


def test_equal_references_make_no_snapshot_whatever_their_order(local_lake: Warehouse) -> None:
    """A reloaded file with the same labels must not make the scores stale."""
    store = local_lake.application("reviews").references
    first = store.replace(references([("a", "HAPPY", "train"), ("b", "SAD", "evaluation")]))
    version = store.version()

    second = store.replace(references([("b", "SAD", "evaluation"), ("a", "HAPPY", "train")]))

    assert second == first
    assert store.version() == version


def test_a_changed_reference_changes_the_version_of_its_split_only(local_lake: Warehouse) -> None:
    """A calibration is fitted on the training split: a changed evaluation label must not refit it."""
    store = local_lake.application("reviews").references
    store.replace(references([("a", "HAPPY", "train"), ("b", "SAD", "evaluation")]))
    whole, train = store.version(), store.version(split="train")

    store.replace(references([("a", "HAPPY", "train"), ("b", "HAPPY", "evaluation"), ("c", "SAD", "evaluation")]))

    assert store.version(split="train") == train
    assert store.version() != whole
    assert store.table().column("answer").to_pylist() == ["HAPPY", "HAPPY", "SAD"]


def test_two_references_for_one_document_are_refused(local_lake: Warehouse) -> None:
    """Which of the two would the answer be held against?"""
    with pytest.raises(ContractBroken, match=r"1 documents have more than one reference \(first: 'a'\)"):
        local_lake.application("reviews").references.replace(references([("a", "x", "train"), ("a", "y", "train")]))


def test_prompts_and_releases_are_stored_once(local_lake: Warehouse) -> None:
    """Their id is their content, so a second time says nothing new."""
    store = local_lake.application("reviews")
    store.prompts.put(release().prompt)
    store.releases.put(release())
    snapshot = local_lake.snapshot()

    store.prompts.put(release().prompt)
    store.releases.put(release())

    assert local_lake.snapshot() == snapshot
    assert store.prompts.get(release().prompt.version) == release().prompt
    assert store.releases.get(release().release_id) == release()
    assert store.releases.get("unknown") is None
    assert (store.prompts.table().num_rows, store.releases.table().num_rows) == (1, 1)


def test_a_model_observation_is_stored_when_it_says_something_new(local_lake: Warehouse) -> None:
    """Every run looks at the endpoint; only a change is news."""
    models = local_lake.application("reviews").models
    seen: dict[str, Any] = {
        "entry": "small",
        "observed": "{}",
        "identity_hash": "i",
        "lock_hash": "l",
        "mismatches": "",
    }
    models.observe(**seen, matches=True, observed_at=NOON)
    models.observe(**seen, matches=True, observed_at=NOON + timedelta(hours=1))

    models.observe(**{**seen, "mismatches": "image"}, matches=False, observed_at=NOON + timedelta(hours=2))

    latest = models.latest("small")
    assert latest is not None
    assert (latest.matches, latest.mismatches, latest.observed_at) == (False, "image", NOON + timedelta(hours=2))
    assert models.latest("unknown") is None
    assert models.table().num_rows == 2


def score(key: str, *, value: float = 1.0, fingerprint: str | None = None) -> Score:
    """A score of an answer to document `key`."""
    return Score(
        release_id=RELEASE_ID,
        fingerprint=fingerprint or f"text of {key}",
        document_id=key,
        scorer="exact_match",
        score=value,
        references_version="v1",
    )


def test_scores_are_stored_once_and_follow_the_documents(local_lake: Warehouse) -> None:
    """A report is on the documents as they are: a deleted one, or the old text of a changed one, must not count."""
    fill(local_lake, "ab")
    scores = local_lake.application("reviews").scores
    scores.append([score("a"), score("b"), score("a")])
    snapshot = local_lake.snapshot()
    scores.append([score("a", value=0.0), score("b")])

    assert local_lake.snapshot() == snapshot
    assert scores.of_release(RELEASE_ID, "v1").column("score").to_pylist() == [1.0, 1.0]
    assert scores.of_release(RELEASE_ID, "v2").num_rows == 0
    scores.append([score("a", value=0.0, fingerprint="an older text")])
    fill(local_lake, "a")
    assert scores.of_release(RELEASE_ID, "v1").column("score").to_pylist() == [1.0]


def test_reports_are_found_by_release_evaluation_and_variant(local_lake: Warehouse) -> None:
    """A promotion looks for a report on exactly its release."""
    reports = local_lake.application("reviews").reports
    for number, release_id in enumerate(["release-1", "release-2", "release-1"]):
        values: dict[str, Any] = {"release_id": release_id, "variant": "plain", "evaluation_id": f"e{number}"}
        reports.append(
            report_id=f"r{number}", measured_on=f"m{number}", passed=True, report="{}", created_at=NOON, **values
        )
    snapshot = local_lake.snapshot()
    reports.append(report_id="r2", measured_on="m2", passed=False, report="{}", created_at=NOON, **values)

    assert local_lake.snapshot() == snapshot
    found = [
        reports.latest("release-1"),
        reports.present("release-1", evaluation_id="e0", measured_on="m0"),
        reports.get("r0"),
    ]
    assert [report.report_id for report in found if report] == ["r2", "r0", "r0"]
    assert [report.report_id for report in reports.for_variant("plain")] == ["r2", "r1", "r0"]
    assert reports.latest("release-3") is None
    assert reports.present("release-1", evaluation_id="e0", measured_on="m2") is None


def test_a_report_that_says_what_an_earlier_one_said_counts_again(local_lake: Warehouse) -> None:
    """Refused, approved, refused: the third look is not the first one's, however equal, and clocks may go backwards."""
    reports = local_lake.application("reviews").reports
    for hours, report_id in ((2, "refused"), (1, "approved"), (0, "refused")):
        reports.append(
            report_id=report_id, release_id="release-1", variant="plain", evaluation_id="e", measured_on=report_id,
            passed=report_id == "approved", report="{}", created_at=NOON + timedelta(hours=hours),
        )  # fmt: skip

    newest = reports.latest("release-1")

    assert newest is not None
    assert newest.report_id == "refused"
    assert [report.report_id for report in reports.for_variant("plain")] == ["refused", "approved", "refused"]


def test_a_promotion_against_an_outdated_champion_is_refused(lake: Warehouse) -> None:
    """Two people who promote at once both believe to replace the same champion; only one may."""
    rollout = lake.application("reviews").rollout
    rollout.append(event("one"), expected_previous=None)

    with pytest.raises(TransientError, match="was made against event None, and the newest is 'one'"):
        rollout.append(event("two"), expected_previous=None)
    rollout.append(event("two", release_id="release-2"), expected_previous="one")
    rollout.append(event("two", release_id="release-2"), expected_previous="one")

    assert rollout.history() == [event("one"), event("two", release_id="release-2")]
    assert rollout.champion() == event("two", release_id="release-2")


def test_runs_are_read_as_they_were_stored(lake: Warehouse) -> None:
    """Cost and speed of a release are summed over its runs."""
    runs = lake.application("reviews").runs
    run = InferenceRun(
        run_id="run",
        release_id=RELEASE_ID,
        started_at=NOON,
        seconds=2.0,
        sent=3,
        stored=3,
        reused=0,
        failed=0,
        retries=1,
        usage=TokenUsage(prompt_tokens=30, completion_tokens=3),
        endpoints=("http://127.0.0.1:8000",),
        latency_p50_seconds=0.1,
        causes={"timeout": 1},
    )

    runs.append(run)
    runs.append(run)

    assert runs.of_release(RELEASE_ID) == [run]
    assert runs.table().num_rows == 1


def test_column_and_table_names_that_sql_reserves_can_be_read(local_lake: Warehouse) -> None:
    """`references`, `by` and `at` are words of SQL, and still the words of the field."""
    store = local_lake.application("reviews")
    store.references.replace(references([("a", "HAPPY", "train")]))
    store.rollout.append(event("one"), expected_previous=None)

    assert local_lake.frame("reviews", "references").num_rows == 1
    assert local_lake.frame("reviews", "rollout").column("by").to_pylist() == ["somebody"]


def verdict(number: int, answer: str, *, at: datetime, queue: str = "audit") -> Annotation:
    """One person's verdict on one text."""
    return Annotation(
        annotation_id=f"a{number}", group_id=f"g{number}", kind="verdict", subject_kind="answer", subject_id="r/d",
        document_id="d", fingerprint="f", release_id="r", verdict=Verdict.CORRECTED, judged="SAD", answer=answer,
        queue=queue, by="ada", at=at,
    )  # fmt: skip


def test_the_verdict_that_was_given_last_counts_whatever_the_clocks_say(local_lake: Warehouse) -> None:
    """A page on a host whose clock is an hour ahead would decide known answers, and with them approvals."""
    annotations = local_lake.application("reviews").annotations
    annotations.append([verdict(1, "HAPPY", at=NOON + timedelta(hours=1))])
    annotations.append([verdict(2, "ANGRY", at=NOON)])

    decided = annotations.decisions().to_pylist()

    assert [(row["answer"], row["basis"]) for row in decided] == [("ANGRY", "unopposed")]
    annotations.append([verdict(3, "BORED", at=NOON - timedelta(days=9), queue="import")])
    assert [row["at"] for row in annotations.table().to_pylist() if row["queue"] == "import"] == [
        NOON - timedelta(days=9)
    ]


def test_the_row_that_was_written_last_is_the_newest_whatever_the_clocks_say(lake: Warehouse) -> None:
    """Which calibration serves, what an endpoint is, whether a judge may gate: each is the newest row of a table."""
    store = lake.application("reviews")
    calibrations = [
        release().model_copy(
            update={
                "calibration": Calibration(labels=("A",), scale=scale, bias=(0.0,), examples=9, references_version="v")
            }
        )
        for scale in (1.0, 2.0)
    ]
    for number, hours in enumerate((1, 0)):
        at = NOON + timedelta(hours=hours)
        store.releases.put(calibrations[number], at=at)
        store.models.observe(
            entry="m", observed="{}", identity_hash=f"{number}", lock_hash="l", matches=True, mismatches="",
            observed_at=at,
        )  # fmt: skip
        store.judgements.append_agreement(judge="j", release_id="r", content=f"{number}", created_at=at)
        store.drift.append(StoredDrift(f"{number}", "r", "", "{}", at), FLAGS_SCHEMA.empty_table())

    observed, drift = store.models.latest("m"), store.drift.latest()

    assert latest_calibrated(store, release().request_id) == calibrations[1]
    assert observed is not None
    assert observed.identity_hash == "1"
    assert store.judgements.latest_agreement("r") == "1"
    assert drift is not None
    assert drift.drift_id == "1"
    store.drift.append(StoredDrift("0", "r", "", "{}", NOON), FLAGS_SCHEMA.empty_table())
    assert store.drift.latest() == StoredDrift("0", "r", "", "{}", NOON)
