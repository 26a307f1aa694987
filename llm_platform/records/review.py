"""What people say of answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from llm_platform.records.base import Record


class Verdict(StrEnum):
    """What a person holds of one answer."""

    RIGHT = "right"
    WRONG = "wrong"
    CORRECTED = "corrected"
    """Wrong, and the person gave the right answer."""
    CANNOT_TELL = "cannot_tell"


ReviewRole = Literal["viewer", "reviewer", "adjudicator"]
AnnotationKind = Literal["verdict", "tag", "note", "undo"]
IMPORTED = "import"
"""Queue of rows that were not judged on the page: who judged, and how documents were chosen, is what a file says."""

ReviewQueueName = Literal[
    "disagreements", "low_confidence", "drift", "drawn", "audit", "slice", "mine", "adjudication", "answers"
]
"""Where a person meets a document; `answers` is the page of all answers, where grades stand beside them."""
SubjectKind = Literal["document", "answer", "prompt", "run", "release"]


class ReviewQueue(Record):
    """A queue of documents as a person asks for it; `attribute` and `value` are for `slice`."""

    name: ReviewQueueName
    attribute: str | None = None
    value: str | None = None


class AnswersFilter(Record):
    """Which documents the page of answers shows, in the order of their keys.

    Attributes:
        only: Those with a wrong answer, with different ones, or with one that is not valid.
        variant: Whose answers have to be wrong or not valid; any variant's if empty.
        tag: Those that carry it.
        attribute, value: Those of one slice.
        document_id: Those whose key begins with it.
        after: Those after this key.
    """

    only: Literal["all", "wrong", "differing", "invalid"] = "all"
    variant: str = ""
    tag: str = ""
    attribute: str | None = None
    value: str | None = None
    document_id: str = ""
    after: str = ""


class QueueProgress(Record):
    """How far a queue is, for one person: texts in it, those the person has judged, those that wait for the person."""

    total: int
    done: int
    waiting: int


class Annotation(Record):
    """One append-only row of `annotations`: a verdict on an answer, a tag, a note, or the taking back of a group.

    Attributes:
        group_id: Rows of one decision share it; they are taken back together.
        subject_id: Document id, prompt name, run id or release id; of an answer `<release_id>/<document_id>`.
        judged: The answer that was shown, for kind `verdict`; None where the release has no valid one.
        answer: The answer that the person holds right; None when wrong without a correction, or when unsure.
        fields: Of an extraction judged field by field: JSON, field → `right` or `wrong`.
        body: The tag, or the note.
        queue: Where the person met the document, or `import`.
        blind: Whether the person did not see which variant gave which answer.
        role: What the people file said of the person.
        undoes: For kind `undo`: the group, or the one row, that no longer counts.
        imported_by, imported_at, imported_from: Who read the row from a file, when, and the file's SHA-256. Of such a
            row `by` and `at` are what the file said.
    """

    annotation_id: str
    group_id: str
    kind: AnnotationKind
    subject_kind: SubjectKind
    subject_id: str
    document_id: str | None = None
    fingerprint: str | None = None
    release_id: str | None = None
    verdict: Verdict | None = None
    judged: str | None = None
    answer: str | None = None
    fields: str | None = None
    body: str | None = None
    queue: str | None = None
    blind: bool | None = None
    role: ReviewRole | None = None
    by: str
    at: datetime
    undoes: str | None = None
    imported_by: str | None = None
    imported_at: datetime | None = None
    imported_from: str | None = None
