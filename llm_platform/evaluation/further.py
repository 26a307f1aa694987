"""Metrics beside the decisive one: by further scorers, and by the application's own functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.clusters import clusters_of
from llm_platform.evaluation.measures import Metric, method_of
from llm_platform.evaluation.own_code import load_function
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.scorers import Scorer
from llm_platform.evaluation.selection import scored_rows
from llm_platform.records import Interval, Score

if TYPE_CHECKING:
    import pandas as pd

OWN_ARGUMENTS = ("rows",)


def further_metrics(
    rows: pd.DataFrame,
    scores: Sequence[Score],
    evaluated: pd.DataFrame,
    *,
    scorers: Sequence[Scorer],
    application: Application,
) -> tuple[Metric, ...]:
    """Mean scores by the scorers after the first, then what the application's own metrics return.

    Args:
        rows: Documents of the evaluation split with their `reference` and answers.
        scores: By every scorer.
        evaluated: What an application's own metric is given: `document_id`, `fingerprint`, `predicted` (null without a
            valid answer), `reference`, `score` by the first scorer, `confidence` and `attributes`.
        scorers: Those after the first.
        application: Names its own metrics.

    Raises:
        ContractBroken: an own metric returns neither a number nor an `Interval`.
        SpecificationError: an own metric cannot be loaded.
    """
    metrics = []
    for scorer in scorers:
        labelled = scored_rows(rows, [score for score in scores if score.scorer == scorer.name])
        known = labelled.loc[labelled["score"].notna()]
        if not known.empty:
            interval = method_of(application).mean(known["score"].tolist(), clusters_of(known))
            ungraded = len(labelled) - len(known)
            metrics.append(Metric(name=scorer.label, value=interval.value, interval=interval, ungraded=ungraded))
    for text in application.evaluation.metrics if not evaluated.empty else ():
        returned = load_function(text, application.folder, arguments=OWN_ARGUMENTS)(evaluated.copy())
        metrics.append(_own_metric(text, returned))
    return tuple(metrics)


def own_panels(evaluated: pd.DataFrame, application: Application, *, variant: str) -> list[Panel]:
    """Panels that the application's own functions draw for one variant.

    Raises:
        ContractBroken: a function returns no panel.
        SpecificationError: a function cannot be loaded.
    """
    panels = []
    for text in application.evaluation.panels if not evaluated.empty else ():
        returned = load_function(text, application.folder, arguments=OWN_ARGUMENTS)(evaluated.copy())
        if not isinstance(returned, Panel):
            raise ContractBroken(
                f"Panel {text!r} returned {type(returned).__name__}: return a llm_platform.evaluation.panel.Panel."
            )
        panels.append(returned.model_copy(update={"variant": variant}))
    return panels


def _own_metric(text: str, returned: object) -> Metric:
    name = text.partition(":")[2]
    if isinstance(returned, Interval):
        return Metric(name=name, value=returned.value, interval=returned)
    if isinstance(returned, (bool, int, float)) and math.isfinite(returned):
        return Metric(name=name, value=float(returned))
    kind = repr(returned) if isinstance(returned, float) else type(returned).__name__
    raise ContractBroken(f"Metric {text!r} returned {kind}: return a number, or a llm_platform.records.Interval.")
