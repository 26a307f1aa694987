"""The state of a training on disk: written aside and renamed, so that a kill leaves the one before."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_platform.errors import StorageError
from llm_platform.records import Validated

FILE = "checkpoint.pt"
LEAST_GAIN = 1e-3
"""Nats by which validation has to get better to count: below it, a difference is no reason to go on."""


@dataclass
class TrainingState:
    """Everything that a training has made so far, weights aside.

    Attributes:
        seconds: Spent on it, over all its processes.
        best: Adapter weights of the step that validated best, by name; empty before the first.
    """

    step: int = 0
    seconds: float = 0.0
    trained_tokens: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    validations: list[Validated] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """The last step that lowered the validation loss by enough to count; 0 is the base model."""
        best: Validated | None = None
        for one in self.validations:
            if best is None or one.loss < best.loss - LEAST_GAIN:
                best = one
        return best.step if best else 0


def save(
    folder: Path, state: TrainingState, *, inputs_hash: str, adapter: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    """Replace the checkpoint of `folder`.

    Raises:
        StorageError: it cannot be written.
    """
    import torch

    content = {
        "inputs_hash": inputs_hash,
        "adapter": adapter,
        "optimizer": optimizer,
        "state": {**vars(state), "validations": [one.model_dump() for one in state.validations]},
    }
    aside = folder / f".{FILE}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(folder / FILE)
    except OSError as error:
        raise StorageError(
            f"Step {state.step} of a training could not be saved in {folder}: {error.strerror}. Make room there; the "
            "training goes on from the checkpoint before."
        ) from error


def load(folder: Path, *, inputs_hash: str) -> tuple[TrainingState, dict[str, Any], dict[str, Any]] | None:
    """State, adapter weights and optimizer state of a training that was interrupted; None where nothing fits.

    A checkpoint of other inputs, or one that cannot be read, is passed over: training starts anew and replaces it.
    """
    import torch

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    if content.get("inputs_hash") != inputs_hash:
        return None
    saved = dict(content["state"])
    saved["validations"] = [Validated(**one) for one in saved["validations"]]
    saved["losses"] = [(step, loss) for step, loss in saved["losses"]]
    return TrainingState(**saved), content["adapter"], content["optimizer"]
