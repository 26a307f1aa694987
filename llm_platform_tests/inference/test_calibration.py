"""Fitting a calibration."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest

from llm_platform.errors import SpecificationError
from llm_platform.inference.calibration import calibrated, fit_calibration
from llm_platform.records import Calibration

LABELS = ("HAPPY", "SAD")


@dataclass(frozen=True)
class Scored:
    document_id: str
    label_logprobs: dict[str, float] | None


def biased_examples(count: int, *, shift: float, seed: int = 3) -> tuple[list[Scored], dict[str, str]]:
    """A model whose log-odds carry signal, and which says SAD too often by `shift`."""
    draw = random.Random(seed)
    rows, references = [], {}
    for number in range(count):
        label = draw.choice(LABELS)
        odds = draw.gauss(1.0 if label == "HAPPY" else -1.0, 1.0) - shift
        happy = -math.log1p(math.exp(-odds))
        rows.append(Scored(str(number), {"HAPPY": happy, "SAD": happy - odds}))
        references[str(number)] = label
    return rows, references


def accuracy(rows: list[Scored], references: dict[str, str], *, by: Calibration | None = None) -> float:
    decided = [(calibrated(row.label_logprobs, by)[0], row.document_id) for row in rows if row.label_logprobs]
    return sum(label == references[document] for label, document in decided) / len(decided)


def test_calibration_undoes_a_bias() -> None:
    """The shipped model says one label to nearly everything; the signal is there, only the threshold is off."""
    rows, references = biased_examples(400, shift=4.0)
    held_out, truth = biased_examples(400, shift=4.0, seed=9)

    fitted = fit_calibration(rows, references, LABELS)

    assert accuracy(held_out, truth) < 0.6
    assert accuracy(held_out, truth, by=fitted) > 0.8
    assert fitted.examples == 400


def test_equal_examples_give_an_equal_calibration_in_any_order() -> None:
    """A calibration is part of a release's identity: a new fit on the same answers must be the same release."""
    rows, references = biased_examples(60, shift=1.0)

    assert fit_calibration(rows, references, LABELS) == fit_calibration(reversed(rows), references, LABELS)


def test_separable_examples_give_a_finite_calibration() -> None:
    """Without a prior the likelihood of separable examples grows for ever."""
    rows = [
        Scored(str(number), {"HAPPY": -0.1, "SAD": -2.4} if number % 2 else {"HAPPY": -2.4, "SAD": -0.1})
        for number in range(40)
    ]
    references = {str(number): LABELS[0] if number % 2 else LABELS[1] for number in range(40)}

    fitted = fit_calibration(rows, references, LABELS)

    assert 1.0 < fitted.scale < 100.0
    assert accuracy(rows, references, by=fitted) == 1.0


@pytest.mark.parametrize(
    ("count", "keep", "message"),
    [
        pytest.param(19, LABELS, "there are 19", id="too-few"),
        pytest.param(200, ("SAD",), "of 'SAD'", id="one-label-only"),
        pytest.param(0, LABELS, "there are 0 \\(none\\)", id="nothing-answered"),
    ],
)
def test_too_few_examples_are_refused_with_what_to_add(count: int, keep: tuple[str, ...], message: str) -> None:
    """A bias fitted on a handful of examples is worse than none."""
    rows, references = biased_examples(count, shift=0.0)
    kept = {document: label for document, label in references.items() if label in keep}

    with pytest.raises(SpecificationError, match=message):
        fit_calibration(rows, kept, LABELS)


def test_rows_without_scores_or_references_are_left_out() -> None:
    """Invalid answers have no scores, and evaluation documents are not among the references given."""
    rows, references = biased_examples(30, shift=0.0)
    rows += [Scored("a", None), Scored("b", {"HAPPY": -1.0, "SAD": -1.0})]

    assert fit_calibration(rows, {**references, "a": "HAPPY"}, LABELS).examples == 30
