"""Adapters: recipes, the examples they were trained on, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from llm_platform.records.base import Record, content_hash
from llm_platform.records.releases import ModelPin


class Recipe(Record):
    """How an adapter is trained: everything that decides its weights beside the base model and the examples.

    Attributes:
        rank: Inner dimension of the low-rank matrices; their scale is `2 * rank / rank`, so 2.
        target_modules: Linear layers that get them, by the last part of their name.
        epochs: Most passes over the training examples; fewer where validation stops getting better.
        learning_rate: Of AdamW, at the end of the warm-up; a cosine takes it to zero.
        batch_size: Examples of one step, however many fit into memory at once.
    """

    rank: int = Field(default=16, ge=1, le=256)
    target_modules: tuple[str, ...] = Field(default=("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    epochs: int = Field(default=3, ge=1, le=100)
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    batch_size: int = Field(default=16, ge=1, le=4096)
    seed: int = 7


class TrainingData(Record):
    """What an adapter was trained on, in numbers.

    Attributes:
        content_hash: Of every example as the model saw it, in order.
        balance: Answer (for `classify` the label) → training examples; empty where answers are free text.
        duplicates: Documents left out because another one says nearly the same.
        near_evaluation: Documents left out because an evaluation document says nearly the same.
        conflicting: Documents left out because near-duplicates carry different labels.
        split_seed: Draws validation from the training split.
        references_version, documents_snapshot: Where the examples came from; not part of any identity, since the same
            examples may come from a later snapshot.
    """

    content_hash: str
    train: int
    validation: int
    evaluation: int
    balance: dict[str, int] = Field(default_factory=dict)
    duplicates: int = 0
    near_evaluation: int = 0
    conflicting: int = 0
    split_seed: int = 0
    references_version: str = ""
    documents_snapshot: int | None = None


class Validated(Record):
    """One measurement on the validation examples.

    Attributes:
        loss: Mean negative log-likelihood of an answer token, in nats.
        accuracy: Share of examples whose every answer token is the most likely one among the known answers' tokens
            (`classify`) or in the whole vocabulary; the number that picks the best step is the loss.
    """

    step: int
    loss: float
    accuracy: float


class TrainingMetrics(Record):
    """What training measured on the way.

    Attributes:
        losses: (step, mean training loss of that step).
        validations: In order; the first is the base model before any step.
        best_step: The step whose weights were kept.
        steps: Steps done; `planned_steps` more or equal.
        stopped: Why training ended.
    """

    losses: tuple[tuple[int, float], ...] = ()
    validations: tuple[Validated, ...] = ()
    best_step: int = 0
    steps: int = 0
    planned_steps: int = 0
    stopped: Literal["finished", "no improvement", "time budget", "money budget"] = "finished"
    trained_tokens: int = 0

    @property
    def kept(self) -> Validated | None:
        """The measurement of the step whose weights were kept."""
        return next((one for one in self.validations if one.step == self.best_step), None)


class AdapterManifest(Record):
    """Everything an adapter was made from, stored beside its weights as `manifest.json`.

    `adapter_id` is the hash of all that decides the weights and of the weights themselves: identical inputs on one
    machine give the identical id, and a changed file or field shows.

    Attributes:
        base: Pin of the model that was adapted; a served base must agree with it.
        base_sha256: Of the weights that training read: the pinned file, or the safetensors of a folder.
        files: sha256 of `adapter_config.json` and `adapter_model.safetensors`.
        data: None for an adapter that was trained elsewhere.
        recipe: None for an adapter that was trained elsewhere.
        dtype: Number format of the base's weights in training.
        imported_from: Where an adapter that was trained elsewhere came from, in the words of who imported it.
        libraries: Name → version, of what computed.
        energy_joules: None where no meter was readable.
    """

    application: str
    name: str
    base: ModelPin
    base_sha256: str
    prompt_version: str | None = None
    files: dict[str, str]
    data: TrainingData | None = None
    recipe: Recipe | None = None
    dtype: str = ""
    code_version: str = ""
    metrics: TrainingMetrics | None = None
    imported_from: str | None = None
    libraries: dict[str, str] = Field(default_factory=dict)
    created_at: datetime
    wall_seconds: float = 0.0
    energy_joules: float | None = None
    cost_usd: float | None = None

    @property
    def adapter_id(self) -> str:
        """Identity of the adapter; the folder and the served name end in it."""
        lineage = {"application", "name", "created_at", "wall_seconds", "energy_joules", "cost_usd", "libraries"}
        identity = self.model_dump(mode="json", exclude=lineage)
        identity["base"] = self.base.model_dump(mode="json", exclude={"entry", "served_name"})
        if self.data is not None:
            identity["data"] = self.data.content_hash
        return content_hash(identity)
