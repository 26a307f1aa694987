"""Rows of a lake, for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from llm_platform.records import Annotation, Verdict


def verdict(document_id: str, *, fingerprint: str, answer: str) -> Annotation:
    """What a person says about the text of a document."""
    return Annotation(
        annotation_id=f"a-{fingerprint}",
        group_id=f"g-{fingerprint}",
        kind="verdict",
        subject_kind="document",
        subject_id=document_id,
        document_id=document_id,
        fingerprint=fingerprint,
        verdict=Verdict.CORRECTED,
        answer=answer,
        queue="audit",
        role="reviewer",
        by="ada",
        at=datetime(2026, 3, 1, tzinfo=UTC),
    )
