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
        first, *helpers = self.runs
        whole = joined([first, *map(_of_parts, helpers)])
        return whole.model_copy(update={"stored": whole.stored + self.stored, "failed": whole.failed + self.failed})


SUMS = (
    "seconds",
    "waited_seconds",
    "sent",
    "stored",
    "reused",
    "failed",
    "retries",
    "wasted_tokens",
    "presumed_tokens",
)


def joined(runs: Sequence[InferenceRun]) -> InferenceRun:
    """Engine runs of one process as one, under the id and the release of the first.

    What was done and paid is the sum. Latencies, limits and the idle share are those of the run that sent most.
    """
    first, largest = runs[0], max(runs, key=lambda run: run.sent)
    causes: Counter[str] = Counter()
    for run in runs:
        causes.update(run.causes)
    usage = {name: sum(getattr(run.usage, name) for run in runs) for name in TokenUsage.model_fields}
    return largest.model_copy(
        update={
            **{name: sum(getattr(run, name) or 0 for run in runs) for name in SUMS},
            "run_id": first.run_id,
            "release_id": first.release_id,
            "started_at": min(run.started_at for run in runs),
            "usage": TokenUsage(**usage),
            "concurrency": max(run.concurrency for run in runs),
            "endpoints": tuple(dict.fromkeys(url for run in runs for url in run.endpoints)),
            "causes": dict(causes),
        }
    )


def _of_parts(run: InferenceRun) -> InferenceRun:
    """A run about parts as one about their documents: it stored, and failed, none of those."""
    causes = {_of_part(cause): count for cause, count in run.causes.items()}
    return run.model_copy(update={"stored": 0, "reused": 0, "failed": 0, "causes": causes})


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
