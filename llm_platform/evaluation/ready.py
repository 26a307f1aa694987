"""Whether answers could be judged at all, asked before any of them is paid for."""

from __future__ import annotations

from llm_platform.application.model import Application
from llm_platform.evaluation.further import OWN_ARGUMENTS
from llm_platform.evaluation.own_code import load_function
from llm_platform.evaluation.scorers import scorers_of
from llm_platform.evaluation.statistics import wilson_bounds
from llm_platform.records.figures import figure, minimum_figure


def require_judging(application: Application) -> None:
    """Load everything that judges: scorers, the team's own metrics and panels.

    Raises:
        SpecificationError: a function, a file or a package that is named is not there.
    """
    scorers_of(application)
    for text in (*application.evaluation.metrics, *application.evaluation.panels):
        load_function(text, application.folder, arguments=OWN_ARGUMENTS)


def out_of_reach(application: Application, evaluated: int) -> str | None:
    """Why no variant can clear the gate on accuracy with so many known answers; None where one can, or none is asked.

    Args:
        evaluated: Known answers of the evaluation split.
    """
    gate = application.evaluation.gates.accuracy
    if gate is None or not evaluated:
        return None
    best = wilson_bounds(1.0, evaluated, confidence=application.evaluation.gates.confidence)[0]
    if best >= gate.minimum:
        return None
    return (
        f"with {evaluated} known answers to evaluate by, the lower bound of the accuracy is "
        f"{figure(best, against=gate.minimum)} at best, and evaluation.gates.accuracy asks for "
        f"{minimum_figure(gate.minimum)}: no variant can be approved before there are more"
    )
