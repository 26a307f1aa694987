"""Holding measured intervals against the limits of `application.yaml`, in words that say what to do.

A gate passes when the end of its two-sided interval that matters is on the right side of its limit: the lower bound
reaches a minimum, the upper bound stays under a maximum. Otherwise it is refused (the measured value itself is on the
wrong side) or undecided (the value is on the right side, the bound is not); neither may be published. Evidence that is
missing, a minimum that proves nothing and an application without any minimum are failed gates of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from llm_platform.application.model import Application
from llm_platform.evaluation.evidence import Constant, Evidence
from llm_platform.evaluation.gate_accuracy import above_constant, accuracy_gate, not_evaluated, unanswered
from llm_platform.evaluation.gate_ceilings import ceiling_gates
from llm_platform.evaluation.gate_floors import judge_gate, regression_gate, slices_gate, valid_rate_gate
from llm_platform.evaluation.gate_metrics import above_constants, floor_gate, metric_gate
from llm_platform.evaluation.gate_names import (
    ACCURACY,
    EVALUATED,
    STATED,
    VALID_RATE,
    more_decides,
    stated_floors,
    states_a_minimum,
)
from llm_platform.evaluation.gate_words import failed
from llm_platform.records import GateResult

__all__ = ["ACCURACY", "VALID_RATE", "Constant", "Evidence", "Standing", "hold", "standing"]

Standing = Literal["approved", "refused", "undecided"]


def standing(gates: Sequence[GateResult]) -> Standing:
    """Approved when all gates pass, undecided when more documents could still turn every failure, else refused."""
    wrong = [gate for gate in gates if not gate.passed]
    if gates and not wrong:
        return "approved"
    may_turn = [more_decides(gate.name) and gate.is_reached_by_value for gate in wrong]
    return "undecided" if wrong and all(may_turn) else "refused"


def hold(evidence: Evidence, application: Application) -> tuple[GateResult, ...]:
    """The result of every gate of an application; never empty, so that nothing passes for want of a gate."""
    gates = application.evaluation.gates
    results: list[GateResult] = []
    if not states_a_minimum(gates):
        step = "Add 'evaluation.gates.accuracy' with a minimum and its reason to application.yaml."
        results.append(failed(STATED, "application.yaml states no minimum, so nothing can be approved.", step))
    if gates.accuracy is not None:
        results.append(accuracy_gate(evidence, gates.accuracy))
    elif application.references is not None and evidence.accuracy is None:
        results.append(not_evaluated(evidence, EVALUATED))
    if evidence.unanswered and evidence.accuracy is not None:
        results.append(unanswered(evidence))
    floors = stated_floors(gates)
    results += [floor_gate(evidence, name, gate) for name, gate in floors.items()]
    results += [metric_gate(evidence, name, gate) for name, gate in gates.metrics.items()]
    if floors and evidence.constants:
        results.append(above_constants(evidence.constants, gates))
    elif gates.accuracy is not None and evidence.constant is not None:
        results.append(above_constant(evidence.constant, gates.accuracy))
    if gates.valid_rate is not None:
        results.append(valid_rate_gate(evidence, gates.valid_rate))
    if gates.slices is not None:
        results.append(slices_gate(evidence, gates.slices))
    if gates.regression is not None:
        results.append(regression_gate(evidence, gates.regression))
    if gates.judge_agreement is not None or (evidence.judge is not None and gates.accuracy is not None):
        results.append(judge_gate(evidence, gates.judge_agreement))
    return (*results, *ceiling_gates(evidence, gates))
