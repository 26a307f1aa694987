"""What templates are given: everything is decided here, so that a template only places it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.records import QueueProgress
from llm_platform.review.agreement import Agreement
from llm_platform.review.corrections import FIELD_PREFIX, shown_fields
from llm_platform.review.desk import Opened, SecondOpinion
from llm_platform.review.differences import MarkedText, differing, quoted
from llm_platform.review.items import SUGGESTED_TAGS, Choice

KEYS = "123456789"
KAPPA_WORDS = ((0.8, "very good"), (0.6, "good"), (0.4, "moderate"), (0.2, "fair"))
"""Lower bounds of the words for kappa. Source: Landis and Koch 1977, with Altman's wording."""


@dataclass(frozen=True)
class ChoiceView:
    """One answer as the page shows it; `pieces` for texts, `same` where all answers are one."""

    letter: str
    answer: str | None
    pieces: tuple[MarkedText, ...]
    names: str
    confidence: str
    count: int
    reason: str


@dataclass(frozen=True)
class ButtonView:
    """One decision: what is sent, what it says, the key for it, and a remark below."""

    value: str
    label: str
    key: str
    remark: str = ""
    kind: str = ""


@dataclass(frozen=True)
class CellView:
    """A field's value in one answer; `differs` when another answer has another one, `is_wrong` when it was marked."""

    letter: str
    value: str
    pieces: tuple[MarkedText, ...]
    differs: bool
    is_wrong: bool


@dataclass(frozen=True)
class VerdictView:
    """What a person has said of one document, and the page on which to say something else.

    Attributes:
        replaced: It was changed since: the person has said something else later.
        queue: Where it is corrected: an adjudicator's word stays one.
    """

    document_id: str
    at: datetime
    said: str
    undone: bool
    replaced: bool
    queue: str


@dataclass(frozen=True)
class FieldView:
    """One field, across the answers and in the form for the right one."""

    key: str
    name: str
    input_name: str
    description: str
    kind: str
    required: bool
    cells: tuple[CellView, ...]
    typed: str
    suggestions: tuple[str, ...]


@dataclass(frozen=True)
class ItemView:
    """Everything on the page of one document."""

    document_id: str
    shown: str
    title: str
    paragraphs: tuple[tuple[MarkedText, ...], ...]
    attributes: tuple[tuple[str, str], ...]
    choices: tuple[ChoiceView, ...]
    buttons: tuple[ButtonView, ...]
    others: tuple[ButtonView, ...]
    fields: tuple[FieldView, ...]
    corrected_text: str | None
    tags: tuple[tuple[str, bool], ...]
    typed_tags: str
    note: str
    opinions: tuple[SecondOpinion, ...]
    reference: str | None
    progress: QueueProgress
    editing: bool
    guidelines: tuple[str, ...]
    meanings: tuple[tuple[str, str], ...]


def item_view(
    opened: Opened,
    application: Application,
    *,
    names: bool,
    typed: Mapping[str, str],
    wrong: Collection[str] = (),
) -> ItemView:
    """The page of a document.

    Args:
        opened: The document, its answers and how far the queue is.
        application: Its task decides which buttons there are.
        names: Show which variant gave which answer, and how sure it was.
        typed: A form that was refused, to be shown again.
        wrong: The fields that were marked in it.
    """
    item = opened.item
    answers = [choice.answer for choice in item.choices]
    fields = _fields(item.choices, application, typed, wrong) if application.task == "extract" else ()
    values = [cell.value for field in fields for cell in field.cells]
    return ItemView(
        document_id=item.document_id,
        shown=item.shown,
        title=f"Document {item.document_id}",
        paragraphs=tuple(tuple(quoted(part, values)) for part in item.text.split("\n") if part.strip()),
        attributes=tuple((name, value) for name, value in item.attributes.items() if value),
        choices=tuple(_choice(choice, item.choices, names=names) for choice in item.choices),
        buttons=_buttons(item.choices, application, names=names),
        others=_others(item.choices, application),
        fields=fields,
        corrected_text=typed.get("text", _first(answers)) if application.task == "generate" else None,
        tags=tuple((tag, False) for tag in SUGGESTED_TAGS),
        typed_tags=typed.get("tags", ""),
        note=typed.get("note", ""),
        opinions=opened.opinions,
        reference=opened.reference,
        progress=opened.progress,
        editing=typed.get("decision") == "correction",
        guidelines=tuple(part.strip() for part in application.review.guidelines.split("\n\n") if part.strip()),
        meanings=tuple(
            (label, application.review.labels[label])
            for label in application.labels
            if label in application.review.labels
        ),
    )


def _first(answers: Sequence[str | None]) -> str:
    return next((answer for answer in answers if answer is not None), "")


def _choice(choice: Choice, choices: Sequence[Choice], *, names: bool) -> ChoiceView:
    other = next((one.answer for one in choices if one is not choice and one.answer is not None), None)
    answer = choice.answer
    pieces = () if answer is None else tuple(differing(answer, other) if other is not None else [MarkedText(answer)])
    sure = choice.confidence if names else None
    return ChoiceView(
        letter=choice.letter,
        answer=answer,
        pieces=pieces,
        names=choice.names if names else "",
        confidence="" if sure is None else f"{sure:.0%} sure",
        count=len(choice.given),
        reason=choice.given[0].reason or "" if answer is None else "",
    )


def _buttons(choices: Sequence[Choice], application: Application, *, names: bool) -> tuple[ButtonView, ...]:
    valid = [choice for choice in choices if choice.answer is not None]
    if application.task == "classify":
        given = {choice.answer: choice for choice in valid}
        made = [
            (
                f"choice:{given[label].letter}" if label in given else f"correction:{label}",
                label,
                _said(given.get(label), names=names),
            )
            for label in application.labels
        ]
    elif len(valid) == 1:
        made = [(f"choice:{valid[0].letter}", "Right", "")]
    else:
        made = [(f"choice:{choice.letter}", f"{choice.letter} is right", "") for choice in valid]
        if application.task == "generate" and valid:
            made.append(("all", "Both are right" if len(valid) == 2 else "All are right", ""))
    return tuple(
        ButtonView(value, label, KEYS[number] if number < len(KEYS) else "", remark, "main")
        for number, (value, label, remark) in enumerate(made)
    )


def _said(choice: Choice | None, *, names: bool) -> str:
    if choice is None:
        return "not answered"
    if names:
        sure = choice.confidence
        return choice.names if sure is None else f"{choice.names}, {sure:.0%} sure"
    return "1 answer" if len(choice.given) == 1 else f"{len(choice.given)} answers"


def _others(choices: Sequence[Choice], application: Application) -> tuple[ButtonView, ...]:
    valid = sum(choice.answer is not None for choice in choices)
    wrong = "None of these" if application.task == "classify" else ("Wrong" if valid <= 1 else "None is right")
    return (ButtonView("none", wrong, "w"), ButtonView("cannot_tell", "Cannot tell", "c"))


def _fields(
    choices: Sequence[Choice], application: Application, typed: Mapping[str, str], wrong: Collection[str]
) -> tuple[FieldView, ...]:
    valid = {choice.letter: shown_fields(choice.answer, application) for choice in choices if choice.answer is not None}
    return tuple(
        _field(name, field, {letter: values[name] for letter, values in valid.items()}, typed, wrong)
        for name, field in application.fields.items()
    )


def _field(
    name: str, field: OutputField, values: Mapping[str, str], typed: Mapping[str, str], wrong: Collection[str]
) -> FieldView:
    differs = len(set(values.values())) > 1
    cells = []
    for letter, value in values.items():
        other = next((one for key, one in values.items() if key != letter and one != value), value)
        pieces = tuple(differing(value, other)) if differs else (MarkedText(value),)
        cells.append(CellView(letter, value, pieces, differs, f"{letter}.{name}" in wrong))
    given = [value for value in values.values() if value]
    return FieldView(
        key=name,
        name=name.replace("_", " "),
        input_name=FIELD_PREFIX + name,
        description=field.description,
        kind=field.type,
        required=field.required,
        cells=tuple(cells),
        typed=typed.get(FIELD_PREFIX + name, next(iter(values.values()), "")),
        suggestions=field.values or tuple(dict.fromkeys(given)),
    )


def verdict_view(row: Mapping[str, Any], application: Application) -> VerdictView:
    """A decision as the person who made it sees it."""
    if row["answer"] is not None:
        said = _spoken(row["answer"], application)
    elif row["rejected"]:
        said = f"not {', '.join(_spoken(one, application) for one in row['rejected'])}"
    else:
        said = "cannot tell" if "cannot_tell" in (row["verdicts"] or []) else "none of these"
    queue = "adjudication" if row["queue"] == "adjudication" else "answers"
    return VerdictView(row["document_id"], row["at"], said, bool(row["undone"]), bool(row["replaced"]), queue)


def _spoken(answer: str, application: Application) -> str:
    if application.task != "extract":
        return answer
    fields = shown_fields(answer, application)
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items() if value)


@dataclass(frozen=True)
class AgreementView:
    """Agreement of two people in words and numbers."""

    first: str
    second: str
    documents: int
    agreed: str
    kappa: str
    interval: str
    word: str
    categories: tuple[str, ...]
    counts: tuple[tuple[str, tuple[int, ...]], ...]


def agreement_view(one: Agreement) -> AgreementView:
    """Agreement of two people as the page shows it."""
    categories = tuple(sorted({name for pair in one.pairs for name in pair}))
    counts = tuple((row, tuple(one.pairs.get((row, column), 0) for column in categories)) for row in categories)
    known = one.kappa is not None and one.lower is not None and one.upper is not None
    word = next((word for least, word in KAPPA_WORDS if known and (one.kappa or 0.0) >= least), "poor")
    return AgreementView(
        first=one.first,
        second=one.second,
        documents=one.documents,
        agreed=f"{one.agreed:.0%}",
        kappa=f"{one.kappa:.2f}" if known else "–",
        interval=f"{one.lower:.2f} to {one.upper:.2f}" if known else "only one answer occurs",
        word=word if known else "",
        categories=categories if len(categories) <= 12 else (),
        counts=counts,
    )
