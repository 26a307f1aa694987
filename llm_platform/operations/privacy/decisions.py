"""What people decided about an application, for the access log: who served what, who approved, who took the risk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class AccessDecision:
    """One decision, in words without texts."""

    at: datetime
    by: str
    what: str


def access_decisions(store: ApplicationStore) -> list[AccessDecision]:
    """Promotions and rollbacks, what people asked of challengers, bars they took off, and what they had forgotten."""
    return sorted(_decisions(store), key=lambda one: one.at)


def _decisions(store: ApplicationStore) -> Iterator[AccessDecision]:
    for event in store.rollout.history():
        yield AccessDecision(event.at, event.by, f"{event.action} {event.variant}")
    for step in store.rollout_steps.history():
        if step.kind != "decide":
            yield AccessDecision(step.at, step.by, f"{step.kind} {step.variant} at {step.stage_name}")
    for bar in store.bars.accepted():
        if bar.accepted_at is not None and bar.accepted_by is not None:
            yield AccessDecision(bar.accepted_at, bar.accepted_by, f"accept {bar.kind} {bar.subject}")
    for row in store.bars.certificates().to_pylist():
        yield AccessDecision(row["at"], row["by"], f"forget {row['documents']} documents")
