"""What a person sees of one document, and the rows that a decision about it becomes."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken
from llm_platform.records import Annotation, ReviewRole, Verdict, canonical_json, content_hash

LONGEST_NOTE = 2_000
LONGEST_TAG = 60
SUGGESTED_TAGS = ("good example", "use as few-shot", "do not use")


@dataclass(frozen=True)
class GivenAnswer:
    """What one release answered; `answer` is None where it gave no valid one."""

    release_id: str
    name: str
    answer: str | None
    confidence: float | None
    reason: str | None


@dataclass(frozen=True)
class Choice:
    """One answer, and the releases that gave it; `letter` is how the page calls it."""

    letter: str
    answer: str | None
    given: tuple[GivenAnswer, ...]

    @property
    def names(self) -> str:
        """Names of the variants, for a person who may know them."""
        return ", ".join(one.name for one in self.given)

    @property
    def confidence(self) -> float | None:
        """Confidence of the first release that states one."""
        return next((one.confidence for one in self.given if one.confidence is not None), None)


@dataclass(frozen=True)
class Item:
    """One document with the answers that were given to it."""

    document_id: str
    fingerprint: str
    text: str
    attributes: Mapping[str, str | None]
    choices: tuple[Choice, ...]

    @property
    def shown(self) -> str:
        """Identity of the text and the answers that are shown."""
        answers = sorted((one.release_id, one.answer or "") for choice in self.choices for one in choice.given)
        return content_hash([self.document_id, self.fingerprint, answers])


@dataclass(frozen=True)
class ReviewDecision:
    """What a person decided about an item.

    Attributes:
        kind: `choice`: that one answer is right; `all`: every answer shown is; `none`: no answer shown is, and the
            person gives no other; `correction`: the person gives the right one; `cannot_tell`; `fields`: the person
            says of each field of an extraction whether it is right.
        letter: For `choice`.
        answer: For `correction`, in the form in which answers are stored.
        wrong: For `fields`: (letter, field) of every value that is wrong; the others are right.
    """

    kind: Literal["choice", "all", "none", "correction", "cannot_tell", "fields"]
    letter: str | None = None
    answer: str | None = None
    wrong: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Occasion:
    """Who decides, when, and how the document came before them; `group_id` is the same if a form is sent twice."""

    by: str
    role: ReviewRole
    at: datetime
    queue: str
    blind: bool
    group_id: str


def choices_of(fingerprint: str, given: Sequence[GivenAnswer], application: Application) -> tuple[Choice, ...]:
    """Different answers with the releases that gave them, in an order that says nothing about either."""
    groups: dict[str | None, list[GivenAnswer]] = {}
    for one in given:
        groups.setdefault(comparable(one.answer, application), []).append(one)
    # An answer that is not there can only be last: it is recognised anyway.
    order = sorted(groups, key=lambda answer: (answer is None, _shuffle(fingerprint, answer or "")))
    letters = zip(string.ascii_uppercase, order, strict=False)
    return tuple(Choice(letter, answer, tuple(groups[answer])) for letter, answer in letters)


def _shuffle(fingerprint: str, answer: str) -> str:
    return hashlib.sha256(f"{fingerprint}\n{answer}".encode()).hexdigest()


def comparable(answer: str | None, application: Application) -> str | None:
    """The answer in the one form in which equal answers are equal texts: an extracted field that is absent is null."""
    if answer is None or application.task != "extract":
        return answer
    fields = json.loads(answer)
    return canonical_json({name: fields.get(name) for name in application.fields})


def verdict_rows(
    item: Item, decision: ReviewDecision, occasion: Occasion, application: Application
) -> list[Annotation]:
    """One row per release whose answer was shown.

    Raises:
        ContractBroken: the decision names an answer that was not shown or cannot be right.
    """
    right = _right_answer(item, decision, application)
    rows = []
    shown = [(choice, choice.answer, one) for choice in item.choices for one in choice.given]
    for number, (choice, judged, one) in enumerate(shown):
        verdict = _verdict(judged, decision, right)
        # Several free texts can be right at once: each is then an answer that holds.
        answer = judged if decision.kind == "all" else right
        rows.append(
            _row(
                occasion,
                f"{occasion.group_id}-{number}",
                kind="verdict",
                subject_kind="answer",
                subject_id=f"{one.release_id}/{item.document_id}",
                document_id=item.document_id,
                fingerprint=item.fingerprint,
                release_id=one.release_id,
                verdict=verdict,
                judged=judged,
                answer=answer,
                fields=_marks(choice, decision, application),
            )
        )
    return rows


def _marks(choice: Choice, decision: ReviewDecision, application: Application) -> str | None:
    """What was said of each field of an answer; None unless it was judged field by field."""
    if decision.kind != "fields" or choice.answer is None:
        return None
    return canonical_json(
        {name: "wrong" if (choice.letter, name) in decision.wrong else "right" for name in application.fields}
    )


def _by_fields(item: Item, wrong: Collection[tuple[str, str]], application: Application) -> str | None:
    """The right answer, put together of the fields that are right; None where no answer has some field right.

    Raises:
        ContractBroken: two different values of a field are both called right.
    """
    answers = {choice.letter: json.loads(choice.answer) for choice in item.choices if choice.answer is not None}
    right: dict[str, Any] = {}
    for name in application.fields:
        values = [answer.get(name) for letter, answer in answers.items() if (letter, name) not in wrong]
        if any(value != values[0] for value in values):
            raise ContractBroken(
                f"Field {name!r} differs between the answers, and more than one is left as right. Mark what is wrong."
            )
        if values:
            right[name] = values[0]
    return canonical_json(right) if right.keys() == application.fields.keys() else None


def _right_answer(item: Item, decision: ReviewDecision, application: Application) -> str | None:
    if decision.kind in ("none", "cannot_tell"):
        return None
    if decision.kind == "fields":
        return _by_fields(item, decision.wrong, application)
    if decision.kind == "correction":
        return comparable(decision.answer, application)
    if decision.kind == "all":
        right = next((choice for choice in item.choices if choice.answer is not None), None)
    else:
        right = next((choice for choice in item.choices if choice.letter == decision.letter), None)
    if right is None or right.answer is None:
        raise ContractBroken(
            f"Document {item.document_id!r} shows no answer {decision.letter!r} that could be right. Its answers have "
            "changed since the page was opened; look at it again."
        )
    return comparable(right.answer, application)


def _verdict(judged: str | None, decision: ReviewDecision, right: str | None) -> Verdict:
    if decision.kind == "cannot_tell":
        return Verdict.CANNOT_TELL
    if judged is not None and (decision.kind == "all" or judged == right):
        return Verdict.RIGHT
    corrected = decision.kind == "correction" or (decision.kind == "fields" and right is not None)
    return Verdict.CORRECTED if corrected else Verdict.WRONG


def remark_rows(item: Item, occasion: Occasion, *, tags: Sequence[str], note: str) -> list[Annotation]:
    """Rows for the tags and the note that a person left on a document.

    Raises:
        ContractBroken: a tag or the note is too long.
    """
    cleaned = list(dict.fromkeys(clean_tag(tag) for tag in tags if tag.strip()))
    text = note.strip()
    if len(text) > LONGEST_NOTE:
        raise ContractBroken(f"The note has {len(text)} characters; at most {LONGEST_NOTE} are kept. Shorten it.")
    remarks: list[tuple[Literal["tag", "note"], str]] = [("tag", tag) for tag in cleaned]
    remarks += [("note", text)] if text else []
    return [
        _row(
            occasion,
            f"{occasion.group_id}-{kind}-{number}",
            kind=kind,
            subject_kind="document",
            subject_id=item.document_id,
            document_id=item.document_id,
            fingerprint=item.fingerprint,
            body=body,
        )
        for number, (kind, body) in enumerate(remarks)
    ]


def clean_tag(tag: str) -> str:
    """A tag as it is stored: small letters, single spaces.

    Raises:
        ContractBroken: nothing is left of it, or it is too long.
    """
    cleaned = " ".join(tag.lower().split())
    if not cleaned or len(cleaned) > LONGEST_TAG:
        raise ContractBroken(f"A tag of {len(cleaned)} characters was given; a tag has 1 to {LONGEST_TAG}.")
    return cleaned


def undo_row(occasion: Occasion, *, undoes: str, document_id: str) -> Annotation:
    """The row that takes a decision back."""
    return _row(
        occasion,
        f"{undoes}-undo",
        kind="undo",
        subject_kind="document",
        subject_id=document_id,
        document_id=document_id,
        undoes=undoes,
    )


def _row(occasion: Occasion, annotation_id: str, **values: Any) -> Annotation:
    return Annotation(
        annotation_id=annotation_id,
        group_id=occasion.group_id,
        queue=occasion.queue,
        blind=occasion.blind,
        role=occasion.role,
        by=occasion.by,
        at=occasion.at,
        **values,
    )
