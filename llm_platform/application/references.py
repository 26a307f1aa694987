"""Known answers: their table, and how it calls labels, fields and splits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_platform.application.source import TableRef

ReadSplit = Literal["train", "evaluation", "unused"]


class References(TableRef):
    """Known answers. With no `split` column, the split is drawn with `seed` and `train_share`.

    Attributes:
        labels: For `classify`: what the table calls a label → the label. What is not named stands for itself.
        fields: For `extract`: column of the table (or key of the object in `answer`) → field. A field that is not named
            has a column of its own name.
        splits: What the table calls a split → ours; `unused` rows are left out. What is not named stands for itself.
    """

    key: str
    answer: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    fields: dict[str, str] = Field(default_factory=dict)
    split: str | None = None
    splits: dict[str, ReadSplit] = Field(default_factory=dict)
    seed: int = 7
    train_share: float = Field(default=0.5, ge=0.0, lt=1.0)
