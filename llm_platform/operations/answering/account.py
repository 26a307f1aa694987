"""What answering a set of documents took: their own run of the engine, and those of the releases that serve it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llm_platform.errors import PermanentError
from llm_platform.inference.policy import EnginePolicy
from llm_platform.operations.answering.fitting import BudgetedRenderer
from llm_platform.records import DocumentRow, InferenceRun, Release, TokenUsage

Rows = Iterable[Sequence[DocumentRow]]


@dataclass
class Account:
    """What answering took, helpers included; `stored` and `failed` are documents that were asked about in parts."""

    runs: list[InferenceRun] = field(default_factory=list)
    stored: int = 0
    failed: int = 0

    @property
    def is_stopped(self) -> bool:
        """Whether a budget has ended it."""
        return any(cause.startswith("stopped_") for run in self.runs for cause in run.causes)

    @property
    def run(self) -> InferenceRun:
        """All of it as one run of the documents' own release."""
        first, others = self.runs[0], self.runs[1:]
        if not others:
            return first
        causes = Counter(first.causes)
        for run in others:
            # Of parts, not of documents.
            causes.update({_of_part(cause): count for cause, count in run.causes.items()})
        usage = {name: sum(getattr(run.usage, name) for run in self.runs) for name in TokenUsage.model_fields}
        slowest = max(self.runs, key=lambda run: run.sent)
        return slowest.model_copy(
            update={
                "release_id": first.release_id,
                "started_at": first.started_at,
                "seconds": sum(run.seconds for run in self.runs),
                "sent": sum(run.sent for run in self.runs),
                "stored": first.stored + self.stored,
                "failed": first.failed + self.failed,
                "retries": sum(run.retries for run in self.runs),
                "usage": TokenUsage(**usage),
                "wasted_tokens": sum(run.wasted_tokens for run in self.runs),
                "presumed_tokens": sum(run.presumed_tokens or 0 for run in self.runs),
                "waited_seconds": sum(run.waited_seconds or 0.0 for run in self.runs),
                "concurrency": max(run.concurrency for run in self.runs),
                "causes": dict(causes),
            }
        )


def require_valid_share(run: InferenceRun, policy: EnginePolicy) -> None:
    """Hold documents that were asked about in parts against the limit that the engine holds all others against.

    Raises:
        PermanentError: too many of them have no valid answer.
    """
    if run.stored < policy.failed_share_after or run.failed <= policy.max_failed_share * run.stored:
        return
    causes = ", ".join(f"{cause} {count}" for cause, count in sorted(run.causes.items()))
    raise PermanentError(
        f"{run.failed} of {run.stored} documents have no valid answer, more than the share of "
        f"{policy.max_failed_share:g} that 'max_failed_share' allows ({causes}). One part without an answer leaves its "
        "document without one. Look at the reasons in the table of completions, then change the prompt, the model or "
        "the limit."
    )


class Helpers(Protocol):
    """Asks for the answers of releases that only serve others, and stores them."""

    @property
    def account(self) -> Account:
        """What has been asked so far."""

    def renderer(self, release: Release) -> BudgetedRenderer:
        """What renders the prompts of a helper."""

    def recover(self, release: Release) -> None:
        """Store what a run that died had received for a helper."""

    def ask(self, release: Release, batches: Rows, *, total: int) -> bool:
        """Whether all was asked for; False where a budget stopped it."""


def _of_part(cause: str) -> str:
    return cause if cause.startswith(("retry_", "stopped_")) else f"part_{cause}"
