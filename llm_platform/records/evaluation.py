"""Scores of answers, gates that they pass, and what was decided on them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from llm_platform.records.base import Record
from llm_platform.records.figures import figure, minimum_figure
from llm_platform.records.releases import Prompt, Sampling

Split = Literal["train", "evaluation"]


class Trial(Record):
    """One look at a prompt that is nobody's variant yet.

    Attributes:
        against: Release that it was compared with; None where nothing is published.
        documents: How many were looked at; `sent` of them were asked for by this trial.
        score: Mean score; None where nothing could be graded.
        difference: Mean paired difference from `against`.
    """

    trial_id: str
    release_id: str
    prompt_name: str
    prompt_version: str
    against: str | None
    split: Split
    documents: int
    sent: int
    score: float | None
    difference: float | None
    p_value: float | None
    by: str
    at: datetime


class Judge(Record):
    """A rubric file, read: a model that is asked what it thinks of answers.

    A rubric that reads `answer` grades one answer. One that reads `first` and `second` says which of two is better, and
    is asked both ways round.

    Attributes:
        model: Entry of the lock file.
        verdicts: Word that the judge may say → score in [0, 1].
        explain: Characters of a reason that the judge writes before its verdict; 0 for none.
        documents: At most so many documents of a release are judged.
    """

    name: str
    model: str
    prompt: Prompt
    sampling: Sampling
    verdicts: dict[str, float]
    explain: int = 0
    documents: int = 200

    @property
    def compares(self) -> bool:
        """Whether it chooses between two answers."""
        return "first" in self.prompt.variables

    def verdict_schema(self) -> dict[str, Any]:
        """JSON schema of what it says; a reason comes first, so that the verdict can follow from it."""
        properties: dict[str, Any] = {"verdict": {"type": "string", "enum": list(self.verdicts)}}
        if self.explain:
            properties = {"reason": {"type": "string", "maxLength": self.explain}, **properties}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


class Score(Record):
    """The grade of one completion by one scorer: in [0, 1], or ungraded with a reason.

    Attributes:
        reason: In words of ours.
        said: What a team's own scorer gave as its reason; it may quote the answer, and is shown nowhere else.
    """

    release_id: str
    fingerprint: str
    document_id: str
    scorer: str
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    reason: str | None = None
    said: str | None = None
    references_version: str


class Interval(Record):
    """A measured share with its confidence interval."""

    value: float
    lower: float
    upper: float
    confidence: float
    count: int


class Gate(Record):
    """A minimum, and why it is that minimum."""

    minimum: float = Field(ge=0.0, le=1.0)
    reason: str = Field(min_length=10)


class Ceiling(Record):
    """A maximum, and why it is that maximum."""

    maximum: float = Field(gt=0.0)
    reason: str = Field(min_length=10)


class GateResult(Record):
    """One gate held against one measured interval: it passes when `lower >= minimum`, or when `upper <= maximum`.

    Attributes:
        minimum: None for a ceiling.
        upper: Of the interval; None where only the lower bound was kept, and for a ceiling on what was not measured.
        maximum: None for a floor.
        measured: Whether there was anything to measure; a gate that had not, passes and says nothing.
    """

    name: str
    value: float
    lower: float
    minimum: float | None = None
    upper: float | None = None
    maximum: float | None = None
    passed: bool
    reason: str
    next_step: str | None = None
    measured: bool = True

    @property
    def verdict(self) -> str:
        """`passed`, `failed`, `not decided` where more documents may turn it, `not measured` where there are none."""
        if not self.measured:
            return "not measured"
        return "passed" if self.passed else "not decided" if self.is_reached_by_value else "failed"

    @property
    def limit(self) -> float:
        """What the bound is compared with."""
        return self.maximum if self.maximum is not None else self.minimum or 0.0

    @property
    def bound(self) -> float:
        """The end of the interval that is compared with the limit."""
        return self.upper if self.maximum is not None and self.upper is not None else self.lower

    @property
    def is_reached_by_value(self) -> bool:
        """The measured value itself is on the right side of the limit."""
        if self.maximum is not None:
            return self.upper is not None and self.value <= self.limit
        return self.value >= self.limit

    @property
    def comparison(self) -> str:
        """`lower bound 0.510, minimum 0.600`."""
        if not self.measured:
            return f"not measured, {'minimum' if self.maximum is None else 'maximum'} {self.limit:.3g}"
        if self.maximum is not None:
            measured = "not measured" if self.upper is None else f"upper bound {self.upper:.3g}"
            return f"{measured}, maximum {self.limit:.3g}"
        return f"lower bound {figure(self.bound, against=self.limit)}, minimum {minimum_figure(self.limit)}"


AUTOMATIC = "rollout"
"""Who decides where the stated policy does, and no person."""
FIRST_CHAMPION = "rollout: first_champion automatic"
"""Who decides where nothing served before, and the application leaves that to the first run."""


def whom(by: str) -> str:
    """Who decided, in words."""
    return "the first run (no other champion was there)" if by == FIRST_CHAMPION else by


class RolloutEvent(Record):
    """One append-only row of `rollout`: from now on this release serves the published table.

    Attributes:
        authenticated: A token says that it was `by`; None in rows of before that was asked.
    """

    application: str
    event_id: str
    action: Literal["promote", "rollback"]
    variant: str
    release_id: str
    report_id: str
    evaluation_id: str
    by: str
    at: datetime
    evidence: tuple[GateResult, ...]
    note: str = ""
    authenticated: bool | None = None

    @property
    def decider(self) -> str:
        """Who decided, for people: with a word where nobody vouches for it."""
        is_vouched_for = self.authenticated is not False or self.by in (AUTOMATIC, FIRST_CHAMPION)
        return self.by if is_vouched_for else f"{self.by} (not authenticated)"
