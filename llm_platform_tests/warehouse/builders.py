"""Rows for tests of the warehouse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from llm_platform.records import (
    Completion,
    CompletionStatus,
    GateResult,
    ModelPin,
    Prompt,
    PromptMessage,
    Release,
    RolloutEvent,
    Sampling,
    SourceState,
)
from llm_platform.records.tables import DOCUMENTS_SCHEMA
from llm_platform.warehouse.lake import Warehouse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RELEASE_ID = "release-1"


def document(
    key: str, *, fingerprint: str | None = None, status: str = "sendable", bucket: int = 0, **values: Any
) -> dict[str, Any]:
    """One document; its fingerprint is its key's unless said otherwise."""
    fields = {
        "document_id": key,
        "fingerprint": fingerprint or f"text of {key}",
        "text": f"text of {key}",
        "attributes": '{"source":"imdb"}',
        "bucket": bucket,
        "status": status,
        "reason": None if status == "sendable" else f"it is {status}",
    }
    return {**fields, **values}


def batch(rows: Iterable[dict[str, Any]]) -> list[pa.RecordBatch]:
    """Documents as `apply` takes them."""
    return [pa.RecordBatch.from_pylist(list(rows), schema=DOCUMENTS_SCHEMA)]


def consumed(snapshot_id: int = 1) -> SourceState:
    """A state of the source."""
    return SourceState(kind="snapshot", token=f"t@{snapshot_id}", snapshot_id=snapshot_id, table_id="t")


def fill(lake: Warehouse, keys: Sequence[str], *, application: str = "reviews") -> None:
    """Make the documents exactly these."""
    rows = batch(document(key) for key in keys)
    lake.application(application).documents.apply(rows, deleted=None, full=True, consumed=consumed())


def completion(key: str, *, release_id: str = RELEASE_ID, answer: str | None = "HAPPY", **values: Any) -> Completion:
    """An answer to document `key`."""
    fields: dict[str, Any] = {
        "release_id": release_id,
        "request_id": "request-1",
        "fingerprint": f"text of {key}",
        "document_id": key,
        "status": CompletionStatus.VALID if answer else CompletionStatus.INVALID,
        "answer": answer,
        "confidence": 0.75 if answer else None,
        "label_logprobs": {"HAPPY": -0.1, "SAD": -2.4},
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "cached_tokens": 4,
        "created_at": NOON,
    }
    return Completion(**{**fields, **values})


def answer_all(lake: Warehouse, *, release_id: str = RELEASE_ID, application: str = "reviews") -> int:
    """Store an answer for every text that has none."""
    completions = lake.application(application).completions
    missing = completions.missing(release_id).column("document_id").to_pylist()
    with completions.lease(release_id, holder="test") as lease:
        return completions.append(lease, [completion(key, release_id=release_id) for key in missing])


def release(*, temperature: float = 0.0) -> Release:
    """A release of a classifying application."""
    return Release(
        application="reviews",
        task="classify",
        model=ModelPin(entry="small", served_name="small", dialect="nim-2.x", context_length=2048),
        prompt=Prompt(name="plain", api="chat", messages=(PromptMessage(role="user", template="{{ text }}"),)),
        sampling=Sampling(temperature=temperature),
        decision="text",
    )


def event(event_id: str, *, release_id: str = RELEASE_ID) -> RolloutEvent:
    """A promotion."""
    gate = GateResult(name="accuracy", value=0.8, lower=0.75, minimum=0.7, passed=True, reason="better than guessing")
    return RolloutEvent(
        application="reviews",
        event_id=event_id,
        action="promote",
        variant="plain",
        release_id=release_id,
        report_id="report-1",
        evaluation_id="evaluation-1",
        by="somebody",
        at=NOON,
        evidence=(gate,),
    )
