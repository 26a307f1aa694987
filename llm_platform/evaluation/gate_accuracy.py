"""The gate on the score of the first scorer, and what keeps its minimum honest."""

from __future__ import annotations

from llm_platform.evaluation.evidence import Constant, Evidence
from llm_platform.evaluation.gate_names import ABOVE_CONSTANT, ACCURACY, ANSWERED
from llm_platform.evaluation.gate_words import failed, held
from llm_platform.evaluation.wording import counted
from llm_platform.records import Gate, GateResult, Interval
from llm_platform.records.figures import figure, minimum_figure

FOUR_IN_FIVE = 0.8
TOO_MANY_LABELS = 10
"""Times the labels there are, beyond which a better prompt is the cheaper way to clear a gate."""
MANY_INVALID = 0.05
ONE_SIDED = 0.9


def not_evaluated(evidence: Evidence, name: str, *, minimum: float = 1.0) -> GateResult:
    """The gate of a variant of which no document was evaluated."""
    step = (
        "Materialize the completions of this variant: they are missing, and the known answers are there."
        if evidence.unanswered
        else "Add references with split 'evaluation' for documents that exist, and materialize answers and scores."
    )
    return failed(name, f"No document was evaluated: {evidence.unevaluated}.", step, minimum=minimum)


def unanswered(evidence: Evidence) -> GateResult:
    """The gate of a variant that has not answered every evaluation document."""
    missing = counted(evidence.unanswered, "evaluation document has", "evaluation documents have")
    reason = f"{missing} no completion, so the accuracy of the rest may flatter."
    return failed(ANSWERED, reason, "Materialize the completions of this variant until every document has one.")


def accuracy_gate(evidence: Evidence, gate: Gate) -> GateResult:
    """The score by the first scorer, against its minimum."""
    interval = evidence.accuracy
    if interval is None:
        return not_evaluated(evidence, ACCURACY, minimum=gate.minimum)
    is_undecided = interval.value >= gate.minimum
    step = _undecided_accuracy(evidence, interval, gate) if is_undecided else _refused(evidence, interval, gate)
    return held(ACCURACY, interval, gate, next_step=step)


def _undecided_accuracy(evidence: Evidence, interval: Interval, gate: Gate) -> str:
    even, likely = (
        evidence.more_labels(interval, gate.minimum, evidence.accuracy_count, power=power)
        for power in (0.5, FOUR_IN_FIVE)
    )
    if even is None or likely is None:
        return "The measured value sits on the minimum, where no number of labels decides: improve the prompt."
    if even > TOO_MANY_LABELS * evidence.accuracy_count:
        return (
            f"Improve the prompt: at the measured rate, even chances of clearing the gate take {even:,} more labelled "
            f"documents, over {TOO_MANY_LABELS} times what there is."
        )
    if evidence.looks == "any":
        return f"Label {counted(even, 'more document')}, if the measured rate stays; or improve the prompt."
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


def above_constant(constant: Constant, gate: Gate) -> GateResult:
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
