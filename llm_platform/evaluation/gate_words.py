"""Results of gates, in words: what was measured, whether that is enough, and why it has to be."""

from __future__ import annotations

from llm_platform.evaluation.wording import counted, interval_text
from llm_platform.records import Gate, GateResult, Interval
from llm_platform.records.figures import minimum_figure


def failed(name: str, reason: str, next_step: str, *, minimum: float = 1.0) -> GateResult:
    """A gate that cannot pass, because there is nothing to hold against it."""
    return GateResult(
        name=name, value=0.0, lower=0.0, minimum=minimum, passed=False, reason=reason, next_step=next_step
    )


def held(name: str, interval: Interval, gate: Gate, *, next_step: str) -> GateResult:
    """A floor held against an interval of shares of documents."""
    passed = interval.lower >= gate.minimum
    measured = f"{name} {interval_text(interval, against=gate.minimum)} on {counted(interval.count, 'document')}"
    minimum = minimum_figure(gate.minimum)
    if passed:
        verdict = f"the lower bound clears the minimum {minimum}"
    elif interval.value >= gate.minimum:
        verdict = f"cannot tell yet, because the lower bound is below the minimum {minimum}"
    elif interval.upper >= gate.minimum:
        verdict = f"below the minimum {minimum}"
    else:
        verdict = f"below the minimum {minimum}, and so is the upper bound"
    return GateResult(
        name=name,
        value=interval.value,
        lower=interval.lower,
        upper=interval.upper,
        minimum=gate.minimum,
        passed=passed,
        reason=f"{measured}: {verdict}. {because(minimum, gate.reason)}",
        next_step=None if passed else next_step,
    )


def because(limit: str, reason: str) -> str:
    """`Why 0.60: …`, from the reason in `application.yaml`."""
    return f"Why {limit}: {reason.strip().rstrip('.')}."
