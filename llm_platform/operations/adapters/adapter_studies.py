"""What is stored of studies of an adapter; `studies.py` makes them."""

from __future__ import annotations

from llm_platform.records import Interval, Recipe, Record
from llm_platform.warehouse.store import ApplicationStore

CURVE_KIND = "learning_curve"
SWEEP_KIND = "sweep"


class CurvePoint(Record):
    """One number of examples, and what comes of it on the held-out documents."""

    examples: int
    adapter_id: str | None
    score: Interval
    words: Interval | None
    wall_seconds: float


class LearningCurve(Record):
    """Scores by number of examples; 0 examples is the base with the same prompt."""

    name: str
    points: tuple[CurvePoint, ...]


class SweepTrial(Record):
    """One recipe, and the validation examples' verdict on it."""

    recipe: Recipe
    adapter_id: str
    loss: float
    accuracy: float
    best_step: int
    wall_seconds: float


class Sweep(Record):
    """Trials by validation loss, the best first."""

    name: str
    validation: int
    trials: tuple[SweepTrial, ...]


def stored_curve(store: ApplicationStore, name: str) -> LearningCurve | None:
    """The learning curve that was measured last."""
    content = store.adapter_reports.newest(name, CURVE_KIND)
    return LearningCurve.model_validate_json(content) if content is not None else None


def stored_sweep(store: ApplicationStore, name: str) -> Sweep | None:
    """The sweep that was done last."""
    content = store.adapter_reports.newest(name, SWEEP_KIND)
    return Sweep.model_validate_json(content) if content is not None else None
