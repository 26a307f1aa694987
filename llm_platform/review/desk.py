"""What the page asks of the platform; `operations` answers it from the lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from llm_platform.application.model import Application
from llm_platform.records import AnswersFilter, QueueProgress, ReviewQueue
from llm_platform.review.agreement import Agreement
from llm_platform.review.answers import AnswerFilters, AnswersPage
from llm_platform.review.items import Item, ReviewDecision
from llm_platform.review.people import Person
from llm_platform.review.status import ApplicationStatus, UnderWay


@dataclass(frozen=True)
class SecondOpinion:
    """What somebody else said about the text that is shown, without their name."""

    who: str
    answer: str | None
    rejected: tuple[str, ...]
    notes: str


@dataclass(frozen=True)
class Opened:
    """A document in front of a person.

    Attributes:
        opinions: Of others, and the person's own; only in queues where people look at each other's verdicts.
        reference: The answer in the table of known answers, for an adjudicator.
    """

    item: Item
    progress: QueueProgress
    opinions: tuple[SecondOpinion, ...] = ()
    reference: str | None = None


@dataclass(frozen=True)
class Submitted:
    """A decision as it came from the page.

    Attributes:
        shown: Identity of what was on the page; a decision about other answers than these is refused.
        group_id: Made with the page, so that a form that is sent twice counts once.
    """

    document_id: str
    shown: str
    decision: ReviewDecision
    group_id: str
    queue: ReviewQueue
    blind: bool
    tags: Sequence[str]
    note: str


@dataclass(frozen=True)
class Overview:
    """Where an application stands, for one person."""

    queues: dict[str, QueueProgress]
    bases: dict[str, int]
    judged_by_person: int
    texts: int


class Desk(Protocol):
    """Everything about the reviewing of one application."""

    @property
    def application(self) -> Application:
        """The application."""

    def status(self, *, now: datetime) -> ApplicationStatus:
        """Where the application stands; at most a minute old."""

    def under_way(self, *, now: datetime) -> tuple[UnderWay, ...]:
        """What is being asked now."""

    def card(self, page: str) -> str | None:
        """A page that runs have written beside the report card, as HTML; None where there is none of this name."""

    def endpoints(self, entry: str) -> str | None:
        """The page of the endpoints of a lock entry, as HTML; None where nobody has looked at them yet."""

    def answers(self, wanted: AnswersFilter, person: Person) -> AnswersPage:
        """A page of documents with the answers of every variant, as far as the person may read them."""

    def answer_filters(self, person: Person) -> AnswerFilters:
        """What there is to filter answers by, for this person."""

    def opened(self, document_id: str, person: Person) -> Opened:
        """One document by itself, to be judged where it was found."""

    def overview(self, person: Person) -> Overview:
        """Progress of every queue."""

    def slices(self) -> dict[str, list[tuple[str | None, int]]]:
        """Attribute → its commonest values, with their number of texts."""

    def open(self, person: Person, queue: ReviewQueue, *, document_id: str | None = None) -> Opened | None:
        """The next document of a queue, or one that is named; None when nothing waits."""

    def skip(self, person: Person, queue: ReviewQueue, document_id: str) -> None:
        """Put a document at the end of a queue, for this person and for as long as the page runs."""

    def decide(self, person: Person, submitted: Submitted, *, at: datetime) -> None:
        """Store a decision."""

    def undo(self, person: Person, *, at: datetime) -> tuple[str, str] | None:
        """Take the person's newest decision back; (queue, document_id) of it, None when there is none."""

    def history(self, *, by: str | None, before: int | None) -> list[dict[str, Any]]:
        """Decisions as they were made, newest first, a page at a time."""

    def agreements(self) -> list[Agreement]:
        """How far people agree."""
