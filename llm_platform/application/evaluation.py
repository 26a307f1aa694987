"""How answers are judged: scorers, slices, metrics, and the gates that a release has to clear."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llm_platform.application.specification import Specification
from llm_platform.records import Ceiling, Gate

Looks = Literal["once", "any"]
ADDED_GATES = ("macro_f1", "kappa", "labels", "fields", "metrics")
"""Gates that evidence from before they existed was not held against: left out of its identity where not stated."""
PLAIN_SCORERS = ("exact", "normalized", "set", "fields", "token_f1", "rouge_l", "semantic", "regex", "json_schema")
SCORERS_WITH_ARGUMENT = ("regex", "json_schema", "judge")
JUDGE = "judge"


class SliceGate(Specification):
    """A minimum for every slice of at least `documents` evaluated documents, and why it is that minimum."""

    minimum: float = Field(ge=0.0, le=1.0)
    documents: int = Field(default=30, ge=2)
    reason: str = Field(min_length=10)


class RegressionGate(Specification):
    """How much worse than the champion, on the same documents, a release may be, and why that much."""

    margin: float = Field(ge=0.0, lt=1.0)
    reason: str = Field(min_length=10)


class LabelGates(Specification):
    """Minimums for one label: how many of the answers that give it are right, how many of its documents get it."""

    precision: Gate | None = None
    recall: Gate | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.precision is None and self.recall is None:
            raise ValueError("give 'precision', 'recall' or both, each with 'minimum' and 'reason'")
        return self


class MetricGate(Specification):
    """A limit for a further scorer or a metric of the application's own, and why it is that limit."""

    minimum: float | None = None
    maximum: float | None = None
    reason: str = Field(min_length=10)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("give 'minimum' or 'maximum', and not both")
        return self


class Gates(Specification):
    """Limits that each measure's interval must clear before a release may be published.

    Attributes:
        confidence: Of the two-sided intervals whose bounds are compared.
        looks: `once` when the decision is taken at a size of the evaluation set that was fixed before; `any` when
            people look after every batch of labels: the intervals then hold at all looks together, and are wider.
        accuracy: Minimum for the score of the first scorer.
        macro_f1: For `classify`, as `kappa` (agreement with the references beyond chance) and `labels` are.
        fields: For `extract`: a minimum for the score of a field.
        metrics: By the name of a further scorer, or of the function of an own metric.
    """

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    looks: Looks = "once"
    accuracy: Gate | None = None
    valid_rate: Gate | None = None
    slices: SliceGate | None = None
    regression: RegressionGate | None = None
    judge_agreement: Gate | None = None
    macro_f1: Gate | None = None
    kappa: Gate | None = None
    labels: dict[str, LabelGates] = Field(default_factory=dict)
    fields: dict[str, Gate] = Field(default_factory=dict)
    metrics: dict[str, MetricGate] = Field(default_factory=dict)
    cost_usd_per_document: Ceiling | None = None
    cost_usd_per_correct_answer: Ceiling | None = None
    latency_p95_seconds: Ceiling | None = None
    latency_seconds_per_correct_answer: Ceiling | None = None


class Evaluation(Specification):
    """How answers are judged.

    Attributes:
        scorers: The first one is what gates and comparisons use; empty takes the scorer of the task.
        slices: Attributes whose values are reported one by one.
        cluster: Attribute whose equal values mark documents that are not independent, such as a customer's; without it
            documents that differ only in punctuation, case and white space are.
        metrics: The application's own metrics, `module:function`.
        panels: The application's own panels of the report card, `module:function`.
    """

    scorers: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    cluster: str | None = None
    metrics: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    gates: Gates


def scorer_parts(text: str) -> tuple[str, str | None]:
    """A scorer of `application.yaml` as its kind and its argument; `own` is the kind of a team's `module:function`.

    Raises:
        ValueError: it is no scorer; the message says what one is.
    """
    kind, colon, argument = text.partition(":")
    if not colon and kind in PLAIN_SCORERS:
        return kind, None
    if colon and argument and kind in SCORERS_WITH_ARGUMENT:
        return kind, argument
    if colon and argument.isidentifier() and all(part.isidentifier() for part in kind.split(".")):
        return "own", text
    raise ValueError(f"{', '.join(PLAIN_SCORERS)}, regex:PATTERN, json_schema:FILE, judge:NAME or module:function")
