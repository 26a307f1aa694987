"""Metrics beside the decisive one: by further scorers, and by the application's own functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.clusters import Method, clusters_of
from llm_platform.evaluation.measures import Metric, method_of
from llm_platform.evaluation.own_code import called, load_function
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.scorers import Scorer
from llm_platform.evaluation.selection import scored_rows
from llm_platform.evaluation.statistics import SEED, effective_count, wilson_bounds
from llm_platform.records import Interval, Score

if TYPE_CHECKING:
    import pandas as pd

OWN_ARGUMENTS = ("rows",)
OWN_RESAMPLES = 500
"""Fewer than of our own statistics: a team's function takes a table each time."""
ENOUGH = 0.95
"""Share of the resamples of which the function has to make a number."""


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
        function = load_function(text, application.folder, arguments=OWN_ARGUMENTS)
        ask = partial(called, "Metric", text, function)
        metric = _own_metric(text, ask(evaluated.copy()))
        if metric.interval is None and metric.name in application.evaluation.gates.metrics:
            resampled = _resampled(ask, evaluated, metric.value, method=method_of(application))
            metric = metric.model_copy(update={"interval": resampled})
        metrics.append(metric)
    return tuple(metrics)


def _resampled(
    function: Callable[[pd.DataFrame], object], rows: pd.DataFrame, value: float, *, method: Method
) -> Interval | None:
    """Bootstrap interval of a function that gave a bare number, over clusters; a gate compares no point with a limit.

    Where resamples do not vary (nothing is refused in any of them, say), a number in [0, 1] is taken for a share, whose
    interval does not claim certainty; for any other number there is none.
    """
    import numpy as np

    places: dict[str, list[int]] = {}
    for index, cluster in enumerate(clusters_of(rows)):
        places.setdefault(cluster, []).append(index)
    groups = [places[cluster] for cluster in sorted(places)]
    chance = np.random.default_rng(SEED)
    values = []
    for _ in range(OWN_RESAMPLES):
        drawn = [index for group in chance.integers(len(groups), size=len(groups)) for index in groups[group]]
        try:
            found = function(rows.iloc[drawn].reset_index(drop=True))
        except ArithmeticError:  # a ratio of which this resample has none
            continue
        if isinstance(found, (bool, int, float)) and math.isfinite(found):
            values.append(float(found))
    if len(values) < ENOUGH * OWN_RESAMPLES:
        return None
    if min(values) == max(values):
        if not 0.0 <= value <= 1.0:
            return None
        lower, upper = wilson_bounds(value, effective_count(clusters_of(rows)), confidence=method.confidence)
    else:
        tail = (1.0 - method.confidence) / 2.0
        lower, upper = (round(float(bound), 9) for bound in np.quantile(values, [tail, 1.0 - tail]))
    lower, upper = min(lower, value), max(upper, value)
    return Interval(value=value, lower=lower, upper=upper, confidence=method.confidence, count=len(rows))


def own_panels(evaluated: pd.DataFrame, application: Application, *, variant: str) -> list[Panel]:
    """Panels that the application's own functions draw for one variant.

    Raises:
        ContractBroken: a function returns no panel.
        SpecificationError: a function cannot be loaded.
    """
    panels = []
    for text in application.evaluation.panels if not evaluated.empty else ():
        function = load_function(text, application.folder, arguments=OWN_ARGUMENTS)
        returned = called("Panel", text, function, evaluated.copy())
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
