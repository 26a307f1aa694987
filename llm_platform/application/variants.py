"""Ways to answer: variants that ask, variants that were recorded, and adapters to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from llm_platform.application.specification import Specification
from llm_platform.records import Decision, Recipe, Sampling, Task


class Variant(Specification):
    """A named way to answer: a prompt file on a model of the lock file."""

    prompt: str
    model: str
    adapter: str | None = None
    sampling: Sampling = Sampling()
    decision: Decision = "text"
    calibrate: bool = False
    repair: bool = True


class Predictions(Specification):
    """A file of another system's answers, one row a document; the file's name for short.

    Attributes:
        url: CSV, Parquet or JSON Lines, relative to the application's folder.
        answer: Its column; without it `answer`, or for `extract` one column a field.
        confidence: Column of a probability in [0, 1].
        labels: For `classify`: what the file calls a label → the label. What is not named stands for itself.
        fields: For `extract`: column (or key of the object in `answer`) → field.
    """

    url: str
    key: str = "document_id"
    answer: str | None = None
    confidence: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    fields: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_one_word(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    def answer_columns(self, task: Task, fields: Sequence[str]) -> dict[str, str]:
        """Field → column for an extraction without `answer`; else `answer` → its column."""
        if task == "extract" and self.answer is None:
            column_of = {name: column for column, name in self.fields.items()}
            return {name: column_of.get(name, name) for name in fields}
        return {"answer": self.answer or "answer"}


class RecordedVariant(Specification):
    """A variant that asks nothing: what another system answered, to be judged beside those that do."""

    predictions: Predictions


class Finetuning(Recipe):
    """A LoRA adapter to be trained for one prompt on one model of the lock file.

    Attributes:
        examples: How many labelled documents to train on at most, validation included; None takes all.
        validation_share: Part of them that is not trained on and picks the best step.
        max_minutes: Training stops there, with the best step so far.
        max_cost_usd: The same in money, at the price of the lock entry.
    """

    prompt: str
    model: str
    examples: int | None = Field(default=None, ge=20)
    validation_share: float = Field(default=0.15, gt=0.0, le=0.5)
    max_minutes: float = Field(default=60.0, gt=0.0)
    max_cost_usd: float | None = Field(default=None, gt=0.0)

    def recipe(self) -> Recipe:
        """What decides the weights, beside the base model and the examples."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})


def with_recordings_apart(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a file, with variants that were recorded under `recordings`.

    Only the others have a prompt, a model and a cost, so whoever asks, estimates or trains has to do with those alone.
    """
    variants = data.get("variants")
    if not isinstance(variants, dict):
        return data
    recorded = {name: one for name, one in variants.items() if isinstance(one, dict) and "predictions" in one}
    if not recorded:
        return data
    asking = {name: one for name, one in variants.items() if name not in recorded}
    return {**data, "variants": asking, "recordings": recorded}
