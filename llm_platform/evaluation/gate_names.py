"""Names of gates, as they stand in reports, and of the asset checks that report them."""

from __future__ import annotations

from llm_platform.application.model import Application

ACCURACY = "accuracy"
VALID_RATE = "valid_rate"
SLICES = "slices"
REGRESSION = "regression"
JUDGE_AGREEMENT = "judge_agreement"
EVALUATED = "evaluated"
ANSWERED = "evaluation_answered"
ABOVE_CONSTANT = "minimum_above_constant_answer"
STATED = "minimum_stated"
COST_PER_DOCUMENT = "cost_usd_per_document"
COST_PER_CORRECT = "cost_usd_per_correct_answer"
LATENCY = "latency_p95_seconds"
LATENCY_PER_CORRECT = "latency_seconds_per_correct_answer"
CEILINGS = (COST_PER_DOCUMENT, COST_PER_CORRECT, LATENCY, LATENCY_PER_CORRECT)
MORE_DECIDES = frozenset({ACCURACY, VALID_RATE, SLICES, REGRESSION, JUDGE_AGREEMENT, *CEILINGS})
"""Gates whose interval narrows with more documents."""

CLAIMS = {
    ACCURACY: "accuracy_at_least_minimum",
    VALID_RATE: "valid_rate_at_least_minimum",
    SLICES: "every_slice_at_least_minimum",
    REGRESSION: "no_regression_against_champion",
    JUDGE_AGREEMENT: "judge_agreement_at_least_minimum",
    ANSWERED: "every_evaluation_document_answered",
    ABOVE_CONSTANT: "minimum_above_constant_answer",
    STATED: "a_minimum_is_stated",
    EVALUATED: "something_was_evaluated",
    **{name: f"{name}_at_most_maximum" for name in CEILINGS},
}
"""What holds when the gate of a name passes: the end of the name of its check."""


def gate_names(application: Application) -> tuple[str, ...]:
    """Every gate that a report of the application may have, whether it has cause to or not."""
    gates = application.evaluation.gates
    stated = [name for name in type(gates).model_fields if name in CLAIMS and getattr(gates, name) is not None]
    if gates.accuracy is not None:
        return (*stated, ANSWERED, ABOVE_CONSTANT)
    evaluated = [EVALUATED, ANSWERED] if application.references is not None else []
    return (*stated, *evaluated, *([] if gates.valid_rate is not None else [STATED]))


def limits(application: Application) -> dict[str, object]:
    """The numbers of the gates, without the wording of their reasons: what evidence is held against."""
    return application.evaluation.gates.model_dump(
        mode="json", exclude={name: {"reason"} for name in type(application.evaluation.gates).model_fields}
    )
