"""What the service asks of whoever answers, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llm_platform.records import Completion, Task


@dataclass(frozen=True, slots=True)
class Question:
    """One document.

    Attributes:
        values: Column of the source → value.
        deadline_seconds: How long its caller waits.
        caller: Who asks.
    """

    document_id: str | None
    values: Mapping[str, Any]
    deadline_seconds: float
    caller: str = ""


@dataclass(frozen=True, slots=True)
class OnlineAnswer:
    """What a caller gets.

    Attributes:
        was_stored: It was answered before; nothing was sent.
    """

    document_id: str
    variant: str
    release_id: str
    completion: Completion
    was_stored: bool


class Turned(Exception):
    """A request that is not answered: what its caller is told, which never holds a document or an answer.

    Attributes:
        retry_after: Seconds after which it may be.
        kind: For programs, e.g. `too_many_requests`.
    """

    def __init__(self, status: int, kind: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.retry_after = status, kind, message, retry_after


@dataclass(frozen=True)
class DeskState:
    """One application at one moment.

    Attributes:
        problem: Why it cannot answer; None where it can.
        degraded: What does not work while it answers all the same.
        uncommitted: Answers that are on the disk and not in the lake yet.
        asked_again: Texts that were asked again, since their stored answers could not be read.
        skipped_shadows: Documents that a shadow was to answer, and had no room or budget for.
    """

    problem: str | None
    degraded: tuple[str, ...] = ()
    champion: str | None = None
    variant: str | None = None
    queued: int = 0
    open: int = 0
    limit: int = 0
    uncommitted: int = 0
    asked_again: int = 0
    skipped_shadows: int = 0


class AnswerDesk(Protocol):
    """Answers the documents of one application.

    Attributes:
        task: What an answer is.
        columns: Columns that a document may have, its key left out.
        text_column: The column that is the text; None where the text is made of several.
    """

    task: Task
    columns: tuple[str, ...]
    text_column: str | None

    def state(self) -> DeskState:
        """How it is now."""

    async def notify(self, caller: str) -> None:
        """Store that a caller says that the source has changed.

        Raises:
            Turned: it could not be stored.
        """

    async def answer(self, question: Question) -> OnlineAnswer:
        """The answer to one document, once it is safe.

        Raises:
            Turned: there is none.
        """
