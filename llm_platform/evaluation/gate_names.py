"""Names of gates, as they stand in reports, and of the asset checks that report them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydantic import BaseModel

from llm_platform.application.evaluation import ADDED_GATES, Gates
from llm_platform.application.model import Application
from llm_platform.records import Gate

ACCURACY = "accuracy"
VALID_RATE = "valid_rate"
SLICES = "slices"
REGRESSION = "regression"
JUDGE_AGREEMENT = "judge_agreement"
MACRO_F1 = "macro_f1"
KAPPA = "kappa"
PRECISION, RECALL, FIELD, METRIC = "precision", "recall", "field", "metric"
"""Kinds of gates of which there may be several: `recall:URGENT`, `field:total`, `metric:share_of_refusals`."""
EVALUATED = "evaluated"
ANSWERED = "evaluation_answered"
ABOVE_CONSTANT = "minimum_above_constant_answer"
STATED = "minimum_stated"
COST_PER_DOCUMENT = "cost_usd_per_document"
COST_PER_CORRECT = "cost_usd_per_correct_answer"
LATENCY = "latency_p95_seconds"
LATENCY_PER_CORRECT = "latency_seconds_per_correct_answer"
CEILINGS = (COST_PER_DOCUMENT, COST_PER_CORRECT, LATENCY, LATENCY_PER_CORRECT)
MORE_DECIDES = frozenset({ACCURACY, VALID_RATE, SLICES, REGRESSION, JUDGE_AGREEMENT, MACRO_F1, KAPPA, *CEILINGS})

CLAIMS = {
    ACCURACY: "accuracy_at_least_minimum",
    VALID_RATE: "valid_rate_at_least_minimum",
    SLICES: "every_slice_at_least_minimum",
    REGRESSION: "no_regression_against_champion",
    JUDGE_AGREEMENT: "judge_agreement_at_least_minimum",
    MACRO_F1: "macro_f1_at_least_minimum",
    KAPPA: "kappa_at_least_minimum",
    ANSWERED: "every_evaluation_document_answered",
    ABOVE_CONSTANT: "minimum_above_constant_answer",
    STATED: "a_minimum_is_stated",
    EVALUATED: "something_was_evaluated",
    **{name: f"{name}_at_most_maximum" for name in CEILINGS},
}
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]+")


def several(kind: str, of: str) -> str:
    """The name of one gate of a kind of which there may be several."""
    return f"{kind}:{of}"


def claim(name: str) -> str:
    """What holds when the gate of a name passes: the end of the name of its check."""
    if name in CLAIMS:
        return CLAIMS[name]
    kind, _, of = name.partition(":")
    plain = NOT_IN_A_NAME.sub("_", of)
    # Names of checks are plain: labels that differ in other characters only are told apart by a hash.
    unique = plain if plain == of else f"{plain}_{hashlib.sha256(of.encode()).hexdigest()[:4]}"
    return f"{kind}_of_{unique}_within_limit" if kind == METRIC else f"{kind}_of_{unique}_at_least_minimum"


def more_decides(name: str) -> bool:
    """Whether the interval of a gate narrows with more documents."""
    return name in MORE_DECIDES or name.partition(":")[0] in (PRECISION, RECALL, FIELD, METRIC)


def stated_floors(gates: Gates) -> dict[str, Gate]:
    """Minimums for labels and fields, and for what is made of all labels, by the name of their gate."""
    found = {MACRO_F1: gates.macro_f1, KAPPA: gates.kappa}
    for label, gate in gates.labels.items():
        found |= {several(PRECISION, label): gate.precision, several(RECALL, label): gate.recall}
    found |= {several(FIELD, name): gate for name, gate in gates.fields.items()}
    return {name: gate for name, gate in found.items() if gate is not None}


def states_a_minimum(gates: Gates) -> bool:
    """Whether any gate asks for so much of something that is good."""
    metrics = any(gate.minimum is not None for gate in gates.metrics.values())
    return gates.accuracy is not None or gates.valid_rate is not None or bool(stated_floors(gates)) or metrics


def gate_names(application: Application) -> tuple[str, ...]:
    """Every gate that a report of the application may have, whether it has cause to or not."""
    gates = application.evaluation.gates
    floors = stated_floors(gates)
    stated = [name for name in type(gates).model_fields if name in CLAIMS and getattr(gates, name) is not None]
    stated += [name for name in floors if name not in stated]
    stated += [several(METRIC, name) for name in gates.metrics]
    if gates.accuracy is not None:
        return (*stated, ANSWERED, ABOVE_CONSTANT)
    evaluated = [EVALUATED, ANSWERED] if application.references is not None else []
    constant = [ABOVE_CONSTANT] if floors else []
    return (*stated, *evaluated, *constant, *([] if states_a_minimum(gates) else [STATED]))


def limits(application: Application) -> dict[str, object]:
    """The numbers of the gates, without the wording of their reasons: what evidence is held against."""
    gates = application.evaluation.gates
    return {
        name: _without_reason(getattr(gates, name))
        for name in type(gates).model_fields
        if name not in ADDED_GATES or getattr(gates, name)
    }


def _without_reason(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _without_reason(getattr(value, name)) for name in type(value).model_fields if name != "reason"}
    return {name: _without_reason(one) for name, one in value.items()} if isinstance(value, dict) else value
