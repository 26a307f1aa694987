"""Gates with a maximum: what a document, or a correct answer, may cost and how long it may take."""

from __future__ import annotations

from llm_platform.application.evaluation import Gates
from llm_platform.evaluation.effort import Effort
from llm_platform.evaluation.evidence import Evidence
from llm_platform.evaluation.gate_names import (
    CEILINGS,
    COST_PER_CORRECT,
    COST_PER_DOCUMENT,
    LATENCY,
    LATENCY_PER_CORRECT,
)
from llm_platform.evaluation.gate_words import because
from llm_platform.evaluation.wording import amount, counted
from llm_platform.records import Ceiling, GateResult, Interval

PRICE = "Give the model's price_per_gpu_hour_usd, or its prices of tokens, in models.lock.yaml"
UNMEASURED = {
    COST_PER_DOCUMENT: f"{PRICE}, and materialize its answers.",
    COST_PER_CORRECT: f"{PRICE}, and evaluate some documents.",
    LATENCY: "Answer more documents: at a confidence of 0.95 an upper bound takes the latencies of 72 of them.",
    LATENCY_PER_CORRECT: "Materialize the completions of this variant, and evaluate some documents.",
}
STEPS = {
    COST_PER_DOCUMENT: f"{PRICE}, and materialize its answers.",
    COST_PER_CORRECT: f"{PRICE}, and evaluate some documents.",
    LATENCY: "Shorten prompt and answers, lower max_tokens, or send fewer requests at once.",
    LATENCY_PER_CORRECT: "Shorten prompt and answers, or raise the share of right answers.",
}


def ceiling_gates(evidence: Evidence, gates: Gates) -> list[GateResult]:
    """The result of every stated ceiling."""
    stated = [(name, getattr(gates, name)) for name in CEILINGS]
    return [_held(name, ceiling, evidence.effort) for name, ceiling in stated if ceiling is not None]


def _held(name: str, ceiling: Ceiling, effort: Effort | None) -> GateResult:
    measured, maximum = _measured(name, effort), amount(ceiling.maximum)
    if measured is None:
        return GateResult(
            name=name,
            value=0.0,
            lower=0.0,
            maximum=ceiling.maximum,
            passed=False,
            reason=f"{name} was not measured, or on too few documents. {because(maximum, ceiling.reason)}",
            next_step=UNMEASURED[name],
        )
    passed = measured.upper <= ceiling.maximum
    if passed:
        verdict = f"the upper bound is under the maximum {maximum}"
    elif measured.value <= ceiling.maximum:
        verdict = f"cannot tell yet, because the upper bound is over the maximum {maximum}"
    else:
        verdict = f"over the maximum {maximum}"
    text = f"{amount(measured.value)} [{amount(measured.lower)}, {amount(measured.upper)}]"
    return GateResult(
        name=name,
        value=measured.value,
        lower=measured.lower,
        upper=measured.upper,
        maximum=ceiling.maximum,
        passed=passed,
        reason=f"{name} {text} on {counted(measured.count, 'document')}: {verdict}. {because(maximum, ceiling.reason)}",
        next_step=None if passed else STEPS[name],
    )


def _measured(name: str, effort: Effort | None) -> Interval | None:
    if effort is None:
        return None
    found: dict[str, Interval | None] = {
        COST_PER_DOCUMENT: effort.cost_usd_per_document,
        COST_PER_CORRECT: effort.cost_usd_per_correct_answer,
        LATENCY: effort.latency_p95,
        LATENCY_PER_CORRECT: effort.latency_seconds_per_correct_answer,
    }
    return found[name]
