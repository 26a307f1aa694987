"""Gates with a minimum other than accuracy's: valid answers, slices, the champion, a judge's agreement with people."""

from __future__ import annotations

from llm_platform.application.evaluation import RegressionGate, SliceGate
from llm_platform.evaluation.evidence import Evidence
from llm_platform.evaluation.gate_names import JUDGE_AGREEMENT, REGRESSION, SLICES, VALID_RATE
from llm_platform.evaluation.gate_words import because, failed, held
from llm_platform.evaluation.wording import counted, interval_text
from llm_platform.records import Gate, GateResult, Interval
from llm_platform.records.figures import minimum_figure

WORST_SHOWN = 3


def valid_rate_gate(evidence: Evidence, gate: Gate) -> GateResult:
    """The share of valid answers outside the training split, against its minimum."""
    interval = evidence.valid_rate
    if interval is None:
        step = "Materialize the completions of this variant."
        reason = "There is no answer outside the training split, so the share of valid ones is unknown."
        return failed(VALID_RATE, reason, step, minimum=gate.minimum)
    if interval.value < gate.minimum:
        step = (
            "State the form of the answer in the prompt, allow one repair, or raise max_tokens if answers were "
            "truncated; the reasons stand with the completions."
        )
        return held(VALID_RATE, interval, gate, next_step=step)
    return held(VALID_RATE, interval, gate, next_step=_undecided_valid_rate(evidence, interval, gate))


def _undecided_valid_rate(evidence: Evidence, interval: Interval, gate: Gate) -> str:
    minimum = minimum_figure(gate.minimum)
    perfect = interval.model_copy(update={"value": 1.0})
    fewest = evidence.more_labels(perfect, gate.minimum, 0.0)
    if fewest is None:
        return "No number of answers shows a rate of 1.00: state a minimum below it."
    if fewest > evidence.valid_count:
        return (
            f"Too few answers to show {minimum}: even with every answer valid it takes "
            f"{counted(fewest, 'different document')}. Answer {fewest - int(evidence.valid_count):,} more outside the "
            "training split."
        )
    more = evidence.more_labels(interval, gate.minimum, evidence.valid_count)
    if more is None:
        return "The measured rate sits on the minimum, where no number of answers decides: reduce the invalid answers."
    return (
        f"Answer {counted(more, 'more document')} outside the training split for even chances of clearing the gate at "
        "the measured rate; or reduce the invalid answers, whose reasons stand with the completions."
    )


def slices_gate(evidence: Evidence, gate: SliceGate) -> GateResult:
    """Every slice that is large enough, against one minimum; the result shows the worst.

    All of them have to pass, so their number inflates no error: a bad slice is let through no more often for having
    good ones beside it.
    """
    large = [part for part in evidence.slices if part.accuracy.count >= gate.documents]
    small = len(evidence.slices) - len(large)
    if not large:
        reason = f"No slice has {gate.documents} evaluated documents, which application.yaml asks for."
        step = "Label more documents of each slice, or state a smaller 'evaluation.gates.slices.documents'."
        return failed(SLICES, reason, step, minimum=gate.minimum)
    worst = min(large, key=lambda part: (part.accuracy.lower, part.attribute, part.value))
    below = [part for part in large if part.accuracy.lower < gate.minimum]
    measured = interval_text(worst.accuracy, against=gate.minimum)
    minimum = minimum_figure(gate.minimum)
    left_out = f"; {counted(small, 'smaller slice')} left out" if small else ""
    verdict = f"every lower bound clears the minimum {minimum}" if not below else f"below the minimum {minimum}"
    if below and worst.accuracy.value >= gate.minimum:
        verdict = f"cannot tell yet, because the lower bound is below the minimum {minimum}"
    names = ", ".join(f"{part.attribute}={part.value}" for part in below[:WORST_SHOWN])
    of = f"{counted(len(below), 'slice')} of {len(large)}"
    return GateResult(
        name=SLICES,
        value=worst.accuracy.value,
        lower=worst.accuracy.lower,
        upper=worst.accuracy.upper,
        minimum=gate.minimum,
        passed=not below,
        reason=f"slices: the worst, {worst.attribute}={worst.value}, has {measured} on "
        f"{counted(worst.accuracy.count, 'document')}: {verdict}{left_out}. {because(minimum, gate.reason)}",
        next_step=f"Look at {of} first ({names}): label more of it, or improve the prompt there." if below else None,
    )


def regression_gate(evidence: Evidence, gate: RegressionGate) -> GateResult:
    """The score minus the champion's on the same documents, against minus the margin."""
    minimum = -gate.margin
    found = evidence.regression
    if found is None:
        cause = "This release is the champion" if evidence.is_champion else "Nothing is published yet"
        reason = f"{cause}, so there is nothing to fall behind. {because(f'a margin of {gate.margin:g}', gate.reason)}"
        return GateResult(
            name=REGRESSION, value=0.0, lower=0.0, minimum=minimum, passed=True, reason=reason, measured=False
        )
    difference = found.difference
    if difference is None:
        reason = f"The champion ({found.champion_release_id}) and this variant share no graded document."
        step = "Materialize completions_champion and scores, then the report."
        return failed(REGRESSION, reason, step, minimum=minimum)
    on = found.counted or counted(difference.count, "text")
    passed = difference.lower >= minimum
    allowed = f"{gate.margin:g} worse"
    if passed:
        verdict = f"at most {allowed} is allowed, and the lower bound is above that"
    elif difference.value >= minimum:
        verdict = f"cannot tell yet whether it is more than {allowed}"
    else:
        verdict = f"more than {allowed}"
    more = (
        "" if found.more_texts is None else f"Label {counted(found.more_texts, 'more document')} for even chances; or "
    )
    step = f"{more}{'improve' if more else 'Improve'} the prompt on the documents that only the champion has right."
    return GateResult(
        name=REGRESSION,
        value=difference.value,
        lower=difference.lower,
        upper=difference.upper,
        minimum=minimum,
        passed=passed,
        reason=f"score minus the champion's {interval_text(difference)} on {on}: "
        f"{verdict}. {because(f'a margin of {gate.margin:g}', gate.reason)}",
        next_step=None if passed else step,
    )


def judge_gate(evidence: Evidence, gate: Gate | None) -> GateResult:
    """Agreement of the judge with people, against its minimum; without a minimum no judge may gate anything."""
    if gate is None:
        reason = f"Scores are {evidence.judge!r}'s verdicts, and nothing says how far it has to agree with people."
        step = "Add 'evaluation.gates.judge_agreement' with a minimum and its reason to application.yaml."
        return failed(JUDGE_AGREEMENT, reason, step)
    agreement = evidence.judge_agreement
    if agreement is None:
        reason = "The judge's agreement with people was not measured."
        step = "Let people judge some of the same answers (llm-platform review), then materialize the judgements."
        return failed(JUDGE_AGREEMENT, reason, step, minimum=gate.minimum)
    return _agreement_held(agreement, gate)


def _agreement_held(agreement: Interval, gate: Gate) -> GateResult:
    passed = agreement.lower >= gate.minimum
    minimum = minimum_figure(gate.minimum)
    verdict = "clears" if passed else "does not clear"
    step = "Improve the rubric, take a stronger judge, or let people judge more of the same answers."
    return GateResult(
        name=JUDGE_AGREEMENT,
        value=agreement.value,
        lower=agreement.lower,
        upper=agreement.upper,
        minimum=gate.minimum,
        passed=passed,
        reason=f"agreement with people {interval_text(agreement, against=gate.minimum)} on "
        f"{counted(agreement.count, 'answer')}: its lower bound {verdict} the minimum {minimum}. "
        f"{because(minimum, gate.reason)}",
        next_step=None if passed else step,
    )
