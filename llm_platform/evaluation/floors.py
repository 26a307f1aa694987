"""What minimums for labels, fields, macro-F1 and kappa are held against, and what an answer without reading reaches."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_platform.application.model import Application
from llm_platform.evaluation.baseline import Baseline
from llm_platform.evaluation.fields import Unreadable, read_value
from llm_platform.evaluation.gate_names import (
    ACCURACY,
    FIELD,
    KAPPA,
    MACRO_F1,
    PRECISION,
    RECALL,
    several,
    stated_floors,
)
from llm_platform.evaluation.measures import Measures, method_of
from llm_platform.evaluation.metrics import label_share
from llm_platform.records import Interval

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measured:
    """One number that a minimum is held against.

    Attributes:
        words: What it is, for a sentence.
        count: Documents behind it, as an effective count; None where more of them do not narrow it by a formula.
        absent: Why there is no number.
    """

    words: str
    interval: Interval | None
    count: float | None
    absent: str


def measured_floors(rows: pd.DataFrame, measures: Measures, application: Application) -> dict[str, Measured]:
    """What each stated minimum is held against, by its name.

    Args:
        rows: Evaluated documents.
        measures: Of them.
    """
    found: dict[str, Measured] = {}
    method = method_of(application)
    by_field = {part.field: part.accuracy for part in measures.fields}
    for name in stated_floors(application.evaluation.gates):
        kind, _, of = name.partition(":")
        if name == MACRO_F1:
            found[name] = Measured("macro-F1", measures.macro_f1, None, "no document was evaluated")
        elif name == KAPPA:
            absent = "every evaluated document has, and gets, one label"
            found[name] = Measured("kappa", measures.kappa, None, absent)
        elif kind == FIELD:
            absent = f"no evaluated document has a readable {of!r}"
            found[name] = Measured(f"field {of!r}", by_field.get(of), None, absent)
        else:
            interval, count = (
                (None, 0.0) if rows.empty else label_share(rows, of, of_answers=kind == PRECISION, method=method)
            )
            absent = f"no answer is {of!r}" if kind == PRECISION else f"no evaluated document is {of!r}"
            found[name] = Measured(f"{kind} of {of!r}", interval, count, absent)
    return found


def constants(
    rows: pd.DataFrame, measures: Measures, application: Application, *, baseline: Baseline | None
) -> tuple[Mapping[str, float], ...]:
    """What each answer that ignores the document reaches of the stated minimums; empty where only accuracy is stated.

    Of a classification there is one for each label; of an extraction one, the most frequent value of each field.
    """
    gates = application.evaluation.gates
    floors = stated_floors(gates)
    if not floors or rows.empty:
        return ()
    if application.task == "extract":
        found = {several(FIELD, name): _most_frequent(rows, name, application) for name in gates.fields}
        if gates.accuracy is not None and baseline is not None and baseline.accuracy is not None:
            found[ACCURACY] = baseline.accuracy.value
        return (found,)
    counts = {item.label: item.count for item in measures.labels if item.count}
    return tuple(_of_label(label, counts, floors, with_accuracy=gates.accuracy is not None) for label in counts)


def _of_label(
    label: str, counts: Mapping[str, int], floors: Mapping[str, object], *, with_accuracy: bool
) -> dict[str, float]:
    total = sum(counts.values())
    share = counts[label] / total
    rates = {MACRO_F1: 2 * share / (1 + share) / len(counts), KAPPA: 0.0}
    rates |= {several(PRECISION, label): share, several(RECALL, label): 1.0}
    found = {name: rates.get(name, 0.0) for name in floors}
    return {**found, ACCURACY: share} if with_accuracy else found


def _most_frequent(rows: pd.DataFrame, name: str, application: Application) -> float:
    """Share of the references that have the most frequent value of a field."""
    values: Counter[object] = Counter()
    for reference in rows["reference"].tolist():
        try:
            known = json.loads(reference) if isinstance(reference, str) else reference
        except ValueError:
            continue
        value = read_value(known.get(name), application.fields[name]) if isinstance(known, Mapping) else None
        if not isinstance(value, Unreadable) and (value is not None or not application.fields[name].required):
            values[value] += 1
    return max(values.values()) / values.total() if values else 0.0
