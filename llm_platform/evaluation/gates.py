"""Holding measured intervals against the minimums of `application.yaml`, in words that say what to do.

A gate passes when the lower bound of its two-sided interval reaches the minimum. Otherwise it is refused (the
measured value itself is below) or undecided (the value reaches the minimum, the lower bound does not); neither may be
published. Evidence that is missing, a minimum that proves nothing and an application without any minimum are failed
gates of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llm_platform.application import Application
from llm_platform.evaluation.baseline import Baseline
from llm_platform.evaluation.statistics import labels_needed
from llm_platform.evaluation.wording import counted, figure, interval_text, minimum_figure
from llm_platform.records import Decision, Gate, GateResult, Interval

ACCURACY = "accuracy"
VALID_RATE = "valid_rate"
EVALUATED = "evaluated"
ANSWERED = "evaluation_answered"
ABOVE_CONSTANT = "minimum_above_constant_answer"
STATED = "minimum_stated"
FOUR_IN_FIVE = 0.8
TOO_MANY_LABELS = 10
"""Times the labels there are, beyond which a better prompt is the cheaper way to clear a gate."""
MANY_INVALID = 0.05
ONE_SIDED = 0.9

Standing = Literal["approved", "refused", "undecided"]


@dataclass(frozen=True)
class Constant:
    """What an answer that ignores the document reaches: the majority label, or the most frequent values."""

    name: str
    rate: float


@dataclass(frozen=True)
class Evidence:
    """What the gates of one variant are held against.

    Attributes:
        accuracy: None when no document was evaluated.
        accuracy_count: Evaluated documents as an effective count (documents that share a text count once).
        valid_rate: None when nothing was answered outside the training split.
        valid_count: Its effective count.
        unanswered: Sendable evaluation documents without a completion.
        invalid: Evaluated documents with no valid answer.
        favourite: The label given most often, and its share of the valid answers.
        unevaluated: Why there is nothing to evaluate.
    """

    accuracy: Interval | None
    accuracy_count: float
    valid_rate: Interval | None = None
    valid_count: float = 0.0
    unanswered: int = 0
    invalid: int = 0
    favourite: tuple[str, float] | None = None
    decision: Decision = "text"
    is_calibrated: bool = False
    constant: Constant | None = None
    baseline: Baseline | None = None
    unevaluated: str = "no document has a reference in the evaluation split"


def standing(gates: Sequence[GateResult]) -> Standing:
    """Approved when all gates pass, undecided when more documents could still turn every failure, else refused."""
    failed = [gate for gate in gates if not gate.passed]
    if gates and not failed:
        return "approved"
    may_turn = [gate.name in (ACCURACY, VALID_RATE) and gate.value >= gate.minimum for gate in failed]
    return "undecided" if failed and all(may_turn) else "refused"


def hold(evidence: Evidence, application: Application) -> tuple[GateResult, ...]:
    """The result of every gate of an application; never empty, so that nothing passes for want of a gate."""
    gates = application.evaluation.gates
    results: list[GateResult] = []
    if gates.accuracy is None and gates.valid_rate is None:
        step = "Add 'evaluation.gates.accuracy' with a minimum and its reason to application.yaml."
        results.append(_failed(STATED, "application.yaml states no minimum, so nothing can be approved.", step))
    if gates.accuracy is not None:
        results.append(_accuracy(evidence, gates.accuracy))
    elif application.references is not None and evidence.accuracy is None:
        results.append(_not_evaluated(evidence, EVALUATED))
    if evidence.unanswered and evidence.accuracy is not None:
        results.append(_unanswered(evidence))
    if gates.accuracy is not None and evidence.constant is not None:
        results.append(_above_constant(evidence.constant, gates.accuracy))
    if gates.valid_rate is not None:
        results.append(_valid_rate(evidence, gates.valid_rate))
    return tuple(results)


def _failed(name: str, reason: str, next_step: str, *, minimum: float = 1.0) -> GateResult:
    return GateResult(
        name=name, value=0.0, lower=0.0, minimum=minimum, passed=False, reason=reason, next_step=next_step
    )


def _not_evaluated(evidence: Evidence, name: str, *, minimum: float = 1.0) -> GateResult:
    step = "Add references with split 'evaluation' for documents that exist, and materialize answers and scores."
    return _failed(name, f"No document was evaluated: {evidence.unevaluated}.", step, minimum=minimum)


def _unanswered(evidence: Evidence) -> GateResult:
    missing = counted(evidence.unanswered, "evaluation document has", "evaluation documents have")
    reason = f"{missing} no completion, so the accuracy of the rest may flatter."
    return _failed(ANSWERED, reason, "Materialize the completions of this variant until every document has one.")


def _accuracy(evidence: Evidence, gate: Gate) -> GateResult:
    interval = evidence.accuracy
    if interval is None:
        return _not_evaluated(evidence, ACCURACY, minimum=gate.minimum)
    is_undecided = interval.value >= gate.minimum
    step = _undecided_accuracy(evidence, interval, gate) if is_undecided else _refused(evidence, interval, gate)
    return _held(ACCURACY, interval, gate, next_step=step)


def _held(name: str, interval: Interval, gate: Gate, *, next_step: str) -> GateResult:
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
        minimum=gate.minimum,
        passed=passed,
        reason=f"{measured}: {verdict}. Why {minimum}: {gate.reason.strip().rstrip('.')}.",
        next_step=None if passed else next_step,
    )


def _undecided_accuracy(evidence: Evidence, interval: Interval, gate: Gate) -> str:
    even, likely = (
        labels_needed(interval.value, gate.minimum, interval.confidence, count=evidence.accuracy_count, power=power)
        for power in (0.5, FOUR_IN_FIVE)
    )
    if even is None or likely is None:
        return "The measured value sits on the minimum, where no number of labels decides: improve the prompt."
    if even > TOO_MANY_LABELS * evidence.accuracy_count:
        return (
            f"Improve the prompt: at the measured rate, even chances of clearing the gate take {even:,} more labelled "
            f"documents, over {TOO_MANY_LABELS} times what there is."
        )
    return (
        f"Label {counted(even, 'more document')} for even chances of clearing the gate at the measured rate, "
        f"{likely:,} for four chances in five; or improve the prompt."
    )


def _refused(evidence: Evidence, interval: Interval, gate: Gate) -> str:
    steps = []
    if evidence.invalid > MANY_INVALID * interval.count:
        steps.append(
            f"Look first at the {counted(evidence.invalid, 'document')} with no valid answer, which count as wrong: "
            "state the form of the answer in the prompt, or raise max_tokens if they were truncated."
        )
    if evidence.favourite is not None and evidence.favourite[1] >= ONE_SIDED:
        label, rate = evidence.favourite
        steps.append(
            f"{figure(rate)} of its answers are {label!r}, whatever the document says: {_other_decision(evidence)}"
            "ask so that no label is the natural reply."
        )
    if evidence.constant is not None and interval.lower <= evidence.constant.rate:
        steps.append(f"It cannot be told from {evidence.constant.name} ({figure(evidence.constant.rate)}).")
    baseline = evidence.baseline.accuracy if evidence.baseline is not None else None
    if evidence.baseline is not None and baseline is not None and baseline.lower > interval.upper:
        steps.append(f"{evidence.baseline.name} reaches {figure(baseline.value)} without a language model.")
    steps.append(
        "Try another prompt on the training split (plainer answer words, a few examples), or a stronger model; "
        + ("more labels will not help." if interval.upper < gate.minimum else "more labels alone are unlikely to help.")
    )
    return " ".join(steps)


def _other_decision(evidence: Evidence) -> str:
    if evidence.is_calibrated:
        return ""
    added = "'calibrate: true'" if evidence.decision == "logprobs" else "'decision: logprobs' with 'calibrate: true'"
    return f"set {added}, or "


def _above_constant(constant: Constant, gate: Gate) -> GateResult:
    """A minimum that an answer ignoring the document reaches proves nothing; here equality fails too."""
    passed = gate.minimum > constant.rate
    minimum, rate = minimum_figure(gate.minimum), figure(constant.rate, against=gate.minimum)
    if passed:
        reason = f"The minimum {minimum} for accuracy is above what {constant.name} reaches ({rate})."
    elif gate.minimum == constant.rate:
        reason = f"A minimum of {minimum} for accuracy is what {constant.name} reaches."
    else:
        reason = f"A minimum of {minimum} for accuracy is less than what {constant.name} reaches ({rate})."
    step = f"Raise evaluation.gates.accuracy.minimum above {rate} in application.yaml, and give its reason."
    return GateResult(
        name=ABOVE_CONSTANT,
        value=gate.minimum,
        lower=gate.minimum,
        minimum=constant.rate,
        passed=passed,
        reason=reason,
        next_step=None if passed else step,
    )


def _valid_rate(evidence: Evidence, gate: Gate) -> GateResult:
    interval = evidence.valid_rate
    if interval is None:
        step = "Materialize the completions of this variant."
        reason = "There is no answer outside the training split, so the share of valid ones is unknown."
        return _failed(VALID_RATE, reason, step, minimum=gate.minimum)
    if interval.value < gate.minimum:
        step = (
            "State the form of the answer in the prompt, allow one repair, or raise max_tokens if answers were "
            "truncated; the reasons stand with the completions."
        )
        return _held(VALID_RATE, interval, gate, next_step=step)
    return _held(VALID_RATE, interval, gate, next_step=_undecided_valid_rate(evidence, interval, gate))


def _undecided_valid_rate(evidence: Evidence, interval: Interval, gate: Gate) -> str:
    minimum = minimum_figure(gate.minimum)
    fewest = labels_needed(1.0, gate.minimum, interval.confidence)
    if fewest is None:
        return "No number of answers shows a rate of 1.00: state a minimum below it."
    if fewest > evidence.valid_count:
        return (
            f"Too few answers to show {minimum}: even with every answer valid it takes "
            f"{counted(fewest, 'different document')}. Answer {fewest - int(evidence.valid_count):,} more outside the "
            "training split."
        )
    more = labels_needed(interval.value, gate.minimum, interval.confidence, count=evidence.valid_count)
    if more is None:
        return "The measured rate sits on the minimum, where no number of answers decides: reduce the invalid answers."
    return (
        f"Answer {counted(more, 'more document')} outside the training split for even chances of clearing the gate at "
        "the measured rate; or reduce the invalid answers, whose reasons stand with the completions."
    )
