"""Gates on one label, one field, macro-F1, kappa, further scorers and the application's own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_platform.application.evaluation import Gates, MetricGate
from llm_platform.evaluation.evidence import Evidence
from llm_platform.evaluation.gate_names import (
    ABOVE_CONSTANT,
    ACCURACY,
    MACRO_F1,
    METRIC,
    PRECISION,
    several,
    stated_floors,
)
from llm_platform.evaluation.gate_words import because, failed, held
from llm_platform.evaluation.wording import amount, counted
from llm_platform.records import Gate, GateResult, Interval
from llm_platform.records.figures import figure, minimum_figure

ONE_LOOK = "Its interval holds for one look, also with 'looks: any'."


def floor_gate(evidence: Evidence, name: str, gate: Gate) -> GateResult:
    """One stated minimum for a label, a field, macro-F1 or kappa."""
    measured = evidence.floors.get(name)
    if measured is None or measured.interval is None:
        absent = evidence.unevaluated if measured is None else measured.absent
        step = "Label documents of that kind with split 'evaluation', and materialize answers and scores."
        return failed(name, f"{name} was not measured: {absent}. {_why(gate)}", step, minimum=gate.minimum)
    interval = measured.interval
    if interval.value < gate.minimum:
        step = f"Improve the prompt on the documents that {measured.words} is made of; " + (
            "more labels will not help." if interval.upper < gate.minimum else "more labels alone are unlikely to help."
        )
    elif measured.count is None:
        step = f"Label more documents: the interval of {measured.words} narrows with them; or improve the prompt."
    else:
        step = _more(evidence, interval, gate, measured.count, of=measured.words)
    result = held(measured.words, interval, gate, next_step=step)
    if name == MACRO_F1 and evidence.looks == "any":
        result = result.model_copy(update={"reason": f"{result.reason} {ONE_LOOK}"})
    return result.model_copy(update={"name": name})


def _more(evidence: Evidence, interval: Interval, gate: Gate, count: float, *, of: str) -> str:
    more = evidence.more_labels(interval, gate.minimum, count)
    if more is None:
        return "The measured value sits on the minimum, where no number of labels decides: improve the prompt."
    documents = "documents that get this answer" if of.startswith(PRECISION) else "documents of this label"
    return f"Label {more:,} more {documents} for even chances of clearing the gate; or improve the prompt."


def metric_gate(evidence: Evidence, name: str, gate: MetricGate) -> GateResult:
    """The limit of a further scorer or of the application's own metric."""
    metric, full = evidence.metrics.get(name), several(METRIC, name)
    limit = gate.minimum if gate.minimum is not None else gate.maximum
    why = because(_plain(limit or 0.0), gate.reason)
    if metric is None or metric.interval is None:
        cause = "has no interval, because it does not vary" if metric is not None else "was not measured"
        return GateResult(
            name=full,
            value=0.0 if metric is None else metric.value,
            lower=0.0,
            minimum=gate.minimum,
            maximum=gate.maximum,
            passed=False,
            reason=f"{name} {cause}, so no bound of it can be compared. {why}",
            next_step="Evaluate some documents, or return a llm_platform.records.Interval from the metric.",
        )
    interval = metric.interval
    if gate.minimum is not None:
        passed, reached, bound = interval.lower >= gate.minimum, interval.value >= gate.minimum, "lower"
    else:
        maximum = gate.maximum or 0.0
        passed, reached, bound = interval.upper <= maximum, interval.value <= maximum, "upper"
    word = "minimum" if gate.minimum is not None else "maximum"
    verdict = f"the {bound} bound is on the right side of the {word} {_plain(limit or 0.0)}"
    if not passed:
        verdict = (
            f"{'cannot tell yet, because the ' + bound + ' bound is' if reached else 'it is'} on the wrong side of "
        )
        verdict += f"the {word} {_plain(limit or 0.0)}"
    text = f"{_plain(interval.value)} [{_plain(interval.lower)}, {_plain(interval.upper)}]"
    one_look = f" {ONE_LOOK}" if evidence.looks == "any" else ""
    return GateResult(
        name=full,
        value=interval.value,
        lower=interval.lower,
        upper=interval.upper,
        minimum=gate.minimum,
        maximum=gate.maximum,
        passed=passed,
        reason=f"{name} {text} on {counted(interval.count, 'document')}: {verdict}. {why}{one_look}",
        next_step=None if passed else ("Label more documents; or " if reached else "") + "look at what it counts.",
    )


def above_constants(constants: Sequence[Mapping[str, float]], gates: Gates) -> GateResult:
    """Minimums that one answer without reading reaches all together prove nothing; here equality fails too."""
    minimums = {name: gate.minimum for name, gate in stated_floors(gates).items()}
    if gates.accuracy is not None:
        minimums[ACCURACY] = gates.accuracy.minimum

    def missed(rates: Mapping[str, float]) -> list[str]:
        return [name for name in minimums if minimums[name] > rates.get(name, 0.0)]

    closest = min(constants, key=lambda rates: len(missed(rates)))
    left = missed(closest)
    name = left[0] if left else next(iter(minimums))
    minimum, rate = minimums[name], closest.get(name, 0.0)
    if left:
        reason = (
            f"No answer that ignores the document reaches all minimums: {name} {figure(rate, against=minimum)} is "
            f"under {minimum_figure(minimum)}."
        )
    else:
        reached = ", ".join(f"{one} {figure(closest.get(one, 0.0))}" for one in minimums)
        reason = f"One answer that ignores the document reaches every minimum: {reached}."
    step = "Raise a minimum, or state another that it misses, such as macro_f1, kappa or the precision of the label."
    return GateResult(
        name=ABOVE_CONSTANT,
        value=minimum,
        lower=minimum,
        minimum=rate,
        passed=bool(left),
        reason=reason,
        next_step=None if left else step,
    )


def _why(gate: Gate) -> str:
    return because(minimum_figure(gate.minimum), gate.reason)


def _plain(value: float) -> str:
    return figure(value) if 0.0 <= value <= 1.0 else f"-{amount(-value)}" if value < 0 else amount(value)
