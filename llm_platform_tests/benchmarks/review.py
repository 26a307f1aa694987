"""How long the review page takes to find the next document: `python -m llm_platform_tests.benchmarks.review`."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from llm_platform.records import Annotation, Completion, CompletionStatus, ReviewQueue, Verdict
from llm_platform.records.tables import DOCUMENTS_SCHEMA
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.review_items import ReviewItems
from llm_platform_tests.warehouse.builders import consumed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RELEASES = ("r1", "r2")
WORDS = ("the", "film", "is", "a", "slow", "story", "about", "people", "who", "never", "meet", "and", "it", "works")


def fill(lake: Warehouse, texts: int, verdicts: int) -> None:
    """Documents of 200 words, two answers to each, and verdicts of ten people on some."""
    drawn = random.Random(1)
    store = lake.application("reviews")
    rows = [
        {
            "document_id": f"d{number:07}",
            "fingerprint": f"{number:016x}",
            "text": " ".join(drawn.choices(WORDS, k=200)),
            "attributes": json.dumps({"source": "imdb" if number % 3 else "other"}),
            "bucket": 0,
            "status": "sendable",
            "reason": None,
        }
        for number in range(texts)
    ]
    table = pa.Table.from_pylist(rows, schema=DOCUMENTS_SCHEMA)
    store.documents.apply(table.to_batches(), deleted=None, full=True, consumed=consumed())
    for release in RELEASES:
        with store.completions.lease(release, holder="bench") as lease:
            answers = [_completion(row, release, drawn) for row in rows]
            for start in range(0, texts, 5_000):
                store.completions.append(lease, answers[start : start + 5_000])
    judged = [_verdict(row, number, f"person {number % 10}") for number, row in enumerate(rows[:verdicts])]
    store.annotations.append(judged)


def _completion(row: dict[str, object], release: str, drawn: random.Random) -> Completion:
    return Completion(
        release_id=release,
        request_id=release,
        fingerprint=str(row["fingerprint"]),
        document_id=str(row["document_id"]),
        status=CompletionStatus.VALID,
        answer="HAPPY" if drawn.random() < 0.6 else "SAD",
        confidence=drawn.random(),
        created_at=NOW,
    )


def _verdict(row: dict[str, object], number: int, by: str) -> Annotation:
    return Annotation(
        annotation_id=f"v{number}",
        group_id=f"v{number}",
        kind="verdict",
        subject_kind="answer",
        subject_id=f"r1/{row['document_id']}",
        document_id=str(row["document_id"]),
        fingerprint=str(row["fingerprint"]),
        release_id="r1",
        verdict=Verdict.RIGHT,
        judged="HAPPY",
        answer="HAPPY",
        queue="audit",
        by=by,
        at=NOW,
    )


def milliseconds(work: Callable[[], object], times: int = 15) -> str:
    """Median time of some calls, and of the processor time that they took on all cores together."""
    walls, cores = [], []
    for _ in range(times):
        wall, core = time.perf_counter(), time.process_time()
        work()
        walls.append((time.perf_counter() - wall) * 1000)
        cores.append((time.process_time() - core) * 1000)
    return f"{statistics.median(walls):8.1f} ms  {statistics.median(cores):8.1f} ms of CPU"


def measure(lake: Warehouse) -> dict[str, str]:
    """What one page costs, part by part."""
    store = lake.application("reviews")
    items: ReviewItems = store.review_items(second_opinions=0.2)
    found = {"first copy of the lake": milliseconds(lambda: items.refresh(RELEASES, whole_answers=False), times=1)}
    found["nothing new in the lake"] = milliseconds(lambda: items.refresh(RELEASES, whole_answers=False))
    for name in ("disagreements", "low_confidence", "audit", "slice", "mine", "adjudication"):
        values = {"attribute": "source", "value": "imdb"} if name == "slice" else {}
        queue = ReviewQueue.model_validate({"name": name, **values})
        found[f"next of {name}"] = milliseconds(lambda queue=queue: items.next(queue, "person 1"))  # type: ignore[misc]
        found[f"progress of {name}"] = milliseconds(lambda queue=queue: items.progress(queue, "person 1"))  # type: ignore[misc]
    document = items.next(ReviewQueue(name="audit"), "person 1")
    assert document is not None
    found["text of one document"] = milliseconds(lambda: items.document(document[0]))
    found["answers to one text"] = milliseconds(lambda: items.answers(document[1], RELEASES))
    found["a page of history"] = milliseconds(lambda: items.groups(by=None))
    numbers = iter(range(10**6, 10**7))

    def commit() -> None:
        row = {"document_id": document[0], "fingerprint": document[1]}
        store.annotations.append([_verdict(row, next(numbers), "somebody")])

    found["commit of a verdict"] = milliseconds(commit)
    found["taking in a verdict"] = milliseconds(lambda: (commit(), items.refresh(RELEASES, whole_answers=False)))
    return found


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--verdicts", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = LakeLocation(f"sqlite:{Path(folder) / 'lake.sqlite'}", str(Path(folder) / "data"))
        with Warehouse.attach(place) as lake:
            fill(lake, arguments.texts, arguments.verdicts)
            for name, taken in measure(lake).items():
                print(f"{name:32} {taken}")  # noqa: T201


if __name__ == "__main__":
    main()
