"""Applications with stored answers, made without a run: answers are written straight to the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llm_platform.operations.answering.documents import read_references, update_documents
from llm_platform.operations.evidence.evaluation import report_releases, score_releases
from llm_platform.operations.evidence.failure_panels import failure_panels
from llm_platform.operations.release.rollout import decide
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Completion, CompletionStatus, canonical_json
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.team import Team
from llm_platform_tests.warehouse.conftest import sqlite_location

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Answers = Mapping[str, Mapping[str, str | None]]
"""Variant → document id → answer; None for one that is not valid, absent for one that was never given."""


class Clock:
    """A clock that a test moves: each look at it is a second later."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def team_with(folder: Path, *, documents: Mapping[str, str] | None = None, **specification: Any) -> Team:
    """A team's files; keys of the specification may be replaced."""
    team = Team(folder, "http://127.0.0.1:9", documents=6)
    if documents is not None:
        team.write_documents(documents)
    team.specification |= specification
    for name in ("clear", "vague"):
        path = team.folder / "prompts" / f"{name}.md"
        if team.specification["task"] != "classify":
            path.write_text(
                path.read_text(encoding="utf-8").replace("answers: {HAPPY: HAPPY, SAD: SAD}\n", ""), "utf-8"
            )
    team.write_specification()
    return team


def filled(lake: Warehouse, loaded: LoadedApplication, answers: Answers, *, confidence: float | None = None) -> None:
    """Read the team's documents, and store answers as if the variants had given them."""
    update_documents(lake, loaded)
    store = lake.application(loaded.application.name)
    documents = {row["document_id"]: row for row in store.documents.table().to_pylist()}
    for variant, given in answers.items():
        release = loaded.release(variant, store)
        assert release is not None
        store.releases.put(release)
        rows = [
            Completion(
                release_id=release.release_id,
                request_id=release.request_id,
                fingerprint=documents[key]["fingerprint"],
                document_id=key,
                status=CompletionStatus.VALID if answer is not None else CompletionStatus.INVALID,
                answer=answer,
                confidence=confidence,
                reason=None if answer is not None else "not a label",
                created_at=NOON,
            )
            for key, answer in given.items()
        ]
        with store.completions.lease(release.release_id, holder="test") as lease:
            store.completions.append(lease, rows)


def judged(lake: Warehouse, loaded: LoadedApplication, *, cards_folder: Path) -> None:
    """Grade what `filled` has stored, write the report card, and let the best variant serve."""
    store = lake.application(loaded.application.name)
    store.references.replace(read_references(lake, loaded.application))
    score_releases(lake, loaded)
    panels = failure_panels(store, loaded)
    report_releases(lake, loaded, cards_folder=cards_folder, panels=panels)
    decide(store, loaded)


def open_lake(folder: Path) -> Any:
    """A lake of its own, closed at the end of a `with` block."""
    return closing(Warehouse.attach(sqlite_location(folder)))


EXTRACT: dict[str, Any] = {
    "task": "extract",
    "labels": [],
    "fields": {
        "title": {"type": "string", "description": "Name of the film", "max_length": 40},
        "year": {"type": "integer", "required": False},
    },
    "references": None,
    "evaluation": {"gates": {}},
}
GENERATE: dict[str, Any] = {"task": "generate", "labels": [], "references": None, "evaluation": {"gates": {}}}
FILM = canonical_json({"title": "Solaris", "year": 1972})
OTHER_FILM = canonical_json({"title": "Solaris", "year": 2002})
