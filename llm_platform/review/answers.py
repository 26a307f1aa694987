"""A page of documents with every variant's answer, as the template needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PAGE_ROWS = 25
TEXT_SHOWN = 280
"""Characters of a text before it is opened."""
ANSWER_SHOWN = 2_000
"""Characters of an answer before its document is opened: a page has dozens, and a model may say as much as it likes."""


def beginning_of(text: str, most: int) -> str:
    """A text as far as it is shown before it is opened."""
    return text if len(text) <= most else f"{text[:most].rstrip()} …"


@dataclass(frozen=True)
class GivenCell:
    """What one variant answered to one document.

    Attributes:
        answer: As a person reads it; None where there is none, or the person may not read it.
        status: `valid`, why there is no answer, or `missing`.
        score: By the scorer that decides; None where there is no known answer.
        differs: Whether another variant says something else.
    """

    variant: str
    serves: bool
    answer: str | None
    status: str
    confidence: float | None
    score: float | None
    reason: str
    differs: bool


@dataclass(frozen=True)
class AnswerRow:
    """One document; `text`, `known` and `said` are empty for people who may not read documents."""

    document_id: str
    status: str
    reason: str
    text: str
    attributes: Mapping[str, str]
    known: str | None
    cells: tuple[GivenCell, ...]
    said: tuple[str, ...] = ()

    @property
    def beginning(self) -> str:
        """The text as far as it is shown before it is opened."""
        return beginning_of(self.text, TEXT_SHOWN)


@dataclass(frozen=True)
class AnswersPage:
    """Some documents.

    Attributes:
        after: Key after which the next page begins; None on the last one.
        looked_until: Key up to which was looked, where the page is not full for that reason.
    """

    rows: tuple[AnswerRow, ...]
    after: str | None
    looked_until: str | None = None


@dataclass(frozen=True)
class AnswerFilters:
    """What there is to filter by."""

    variants: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    values: Mapping[str, list[str]] = field(default_factory=dict)
