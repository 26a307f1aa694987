"""The training loop: steps, validation, early stopping, budgets, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llm_platform.errors import PermanentError, TransientError
from llm_platform.finetuning import checkpoint
from llm_platform.finetuning.base import Base, with_adapter
from llm_platform.finetuning.batches import BatchLimits, epoch_batches, split_batch, steps_per_epoch
from llm_platform.finetuning.checkpoint import TrainingState
from llm_platform.finetuning.encoding import Choices, Encoded, shared_prefix
from llm_platform.finetuning.forward import SHORTEST_PREFIX, answer_logits, answer_losses, decisions, measure
from llm_platform.finetuning.progress import ProgressReporter
from llm_platform.records import Recipe, TrainingMetrics, Validated

Stopped = Literal["finished", "no improvement", "time budget", "money budget"]

WARM_UP = 0.1
VALIDATIONS_PER_EPOCH = 2
PATIENCE = 4
"""Validations without a lower loss before training ends: two epochs."""
LARGEST_GRADIENT = 1.0
SMOOTHING = 0.1
"""Of labels: a few hundred examples are soon known by heart, and a model that is sure of them errs surely elsewhere."""


@dataclass(frozen=True)
class Examples:
    """Encoded examples and the answers to choose among."""

    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    choices: Choices


@dataclass(frozen=True)
class Limits:
    """When to stop and how often to save.

    Attributes:
        seconds: Time that all processes of this training may take together.
        reason: Which budget that is.
        ended: True once somebody has asked the process to end.
    """

    seconds: float
    reason: Stopped = "time budget"
    checkpoint_seconds: float = 30.0
    ended: Callable[[], bool] = lambda: False


@dataclass
class Trainer:
    """One training of one adapter, at `state`."""

    base: Base
    recipe: Recipe
    examples: Examples
    parts: BatchLimits
    limits: Limits
    report: ProgressReporter
    folder: Path
    inputs_hash: str
    smoothing: float = SMOOTHING
    state: TrainingState = field(default_factory=TrainingState)

    def __post_init__(self) -> None:
        import torch

        self.wrapped = with_adapter(self.base, self.recipe)
        self.model = self.wrapped.get_base_model()
        self.weights = {name: one for name, one in self.wrapped.named_parameters() if one.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=self.recipe.learning_rate, weight_decay=0.0)
        if self.parts.checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        prefix = shared_prefix([*self.examples.train, *self.examples.validation])
        # Recomputing what layers kept does not go together with a cache.
        self.prefix = prefix if len(prefix) >= SHORTEST_PREFIX and not self.parts.checkpointing else ()
        self.per_epoch = steps_per_epoch(len(self.examples.train), self.recipe.batch_size)
        self.planned = self.per_epoch * self.recipe.epochs
        self._resume()
        self._started = time.monotonic() - self.state.seconds
        self._saved = time.monotonic()

    def run(self) -> TrainingMetrics:
        """Train to the end; afterwards the model holds the weights of the best step.

        Raises:
            TransientError: the process was asked to end; the next one goes on from here.
            PermanentError: no step was better than the base model.
        """
        if not self.state.validations:
            self._validate()
        stopped: Stopped = "finished"
        while self.state.step < self.planned:
            self._step()
            if self._is_due():
                self._validate()
            reason = self._reason_to_stop()
            if reason is not None:
                stopped = reason
                break
            self._checkpoint()
        if self.state.validations[-1].step != self.state.step:
            self._validate()
        self._load_best(stopped)
        state = self.state
        return TrainingMetrics(
            losses=tuple(state.losses),
            validations=tuple(state.validations),
            best_step=state.best_step,
            steps=state.step,
            planned_steps=self.planned,
            stopped=stopped,
            trained_tokens=state.trained_tokens,
        )

    def learning_rate(self, step: int) -> float:
        """Of a step, from 1: up in a line, then down along a cosine."""
        warm = max(1, round(WARM_UP * self.planned))
        if step <= warm:
            return self.recipe.learning_rate * step / warm
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.planned - warm + 1)))

    def _step(self) -> None:
        import torch

        epoch, at = divmod(self.state.step, self.per_epoch)
        recipe = self.recipe
        batch = epoch_batches(self.examples.train, batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch)[at]
        step = self.state.step + 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        count = decisions(batch, self.examples.choices)
        began, total = time.monotonic(), 0.0
        for part in split_batch(batch, self.parts.tokens):
            logits = answer_logits(self.model, part, self.prefix)
            losses = answer_losses(logits, part, self.examples.choices, smoothing=self.smoothing)
            loss: Any = torch.stack(losses).sum() / count
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.weights.values(), LARGEST_GRADIENT)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not math.isfinite(total):
            raise PermanentError(
                f"Training diverged: the loss of step {step} is {total}. Lower finetuning.learning_rate "
                f"(it is {recipe.learning_rate:g})."
            )
        tokens = sum(one.size for one in batch)
        self.state.step, self.state.trained_tokens = step, self.state.trained_tokens + tokens
        self.state.losses.append((step, total))
        self._tell_step(total, tokens / max(1e-9, time.monotonic() - began))

    def _tell_step(self, loss: float, tokens_per_second: float) -> None:
        spent = time.monotonic() - self._started
        step = self.state.step
        self.report(
            "step",
            step=step,
            steps=self.planned,
            loss=loss,
            learning_rate=self.learning_rate(step),
            tokens_per_second=round(tokens_per_second, 1),
            eta_seconds=round(min(spent / step * (self.planned - step), self.limits.seconds - spent), 1),
        )

    def _is_due(self) -> bool:
        return self.state.step % max(1, self.per_epoch // VALIDATIONS_PER_EPOCH) == 0

    def _validate(self) -> None:
        self.wrapped.eval()
        loss, accuracy = measure(
            self.model,
            self.examples.validation,
            self.prefix,
            choices=self.examples.choices,
            tokens=self.parts.tokens,
        )
        self.wrapped.train()
        self.state.validations.append(Validated(step=self.state.step, loss=loss, accuracy=accuracy))
        if self.state.best_step == self.state.step > 0:
            self.state.best = self._copy()
        self.report("validation", step=self.state.step, loss=loss, accuracy=accuracy)

    def _reason_to_stop(self) -> Stopped | None:
        state = self.state
        since_best = sum(one.step > state.best_step for one in state.validations)
        if since_best >= PATIENCE:
            return "no improvement"
        if time.monotonic() - self._started > self.limits.seconds:
            return self.limits.reason
        return None

    def _checkpoint(self) -> None:
        ended = self.limits.ended()
        now = time.monotonic()
        if ended or now - self._saved >= self.limits.checkpoint_seconds:
            self.state.seconds = now - self._started
            checkpoint.save(
                self.folder,
                self.state,
                inputs_hash=self.inputs_hash,
                adapter=self._copy(),
                optimizer=self.optimizer.state_dict(),
            )
            self._saved = now
        if ended:
            raise TransientError(
                f"Training was asked to end after step {self.state.step} of {self.planned}, and is saved. "
                "The same command goes on from there."
            )

    def _resume(self) -> None:
        found = checkpoint.load(self.folder, inputs_hash=self.inputs_hash)
        if found is not None:
            self.state, adapter, optimizer = found
            self._set(adapter)
            self.optimizer.load_state_dict(optimizer)

    def _load_best(self, stopped: Stopped) -> None:
        state = self.state
        if state.best_step == 0:
            first, last = state.validations[0], state.validations[-1]
            raise PermanentError(
                f"Training ended after {state.step} of {self.planned} steps ({stopped}), and no step was better on the "
                f"validation examples than the base model: loss {first.loss:.4f} before, {last.loss:.4f} at the end. "
                "Raise the learning rate or the budget, or add examples."
            )
        self._set(state.best)

    def _copy(self) -> dict[str, Any]:
        return {name: one.detach().cpu().clone() for name, one in self.weights.items()}

    def _set(self, weights: dict[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, one in self.weights.items():
                one.copy_(weights[name])
