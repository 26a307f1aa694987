"""Labels where the two variants differ: unbiased whenever somebody stops, and right at every look."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.errors import ContractBroken
from llm_platform.evaluation.deciding_labels import AnsweredText, LabelledDifference, labelled_difference
from llm_platform.evaluation.pairing import PairedScore, Rules, compare_scores

ANY = Rules(0.95, looks="any")
Truth = tuple[float, float]
"""Scores of both on one text; equal where they gave the same answer."""


def labelled(truth: list[Truth], labels: int, *, checked: frozenset[int] = frozenset()) -> list[AnsweredText]:
    """Texts in this order, of which the first so many that are asked for are labelled."""
    rows = []
    for place, (a, b) in enumerate(truth):
        differs = a != b
        asked = differs or place in checked
        judged, labels = asked and labels > 0, labels - (asked and labels > 0)
        scores = (a, b) if judged else (None, None)
        rows.append(AnsweredText(f"t{place}", f"t{place}", differs, place in checked, judged, *scores))
    return rows


def found(
    truth: list[Truth], labels: int, *, checked: frozenset[int] = frozenset(), rules: Rules = ANY
) -> LabelledDifference:
    return labelled_difference(labelled(truth, labels, checked=checked), rules=rules)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 1.0)]), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_the_difference_is_unbiased_however_few_labels_there_are(truth: list[Truth], labels: int) -> None:
    """Averaged over every order of the texts it is the true difference: no simulation, no luck."""
    if labels == 0 and any(a != b for a, b in truth):
        return
    means = []
    for order in itertools.permutations(truth):
        result = found(list(order), labels, rules=Rules(0.95))
        assert result.difference is not None
        means.append(result.difference.difference.value)

    assert np.mean(means) == pytest.approx(np.mean([b - a for a, b in truth]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]), min_size=1, max_size=40))
def test_labels_of_the_differing_texts_say_what_labels_of_all_would(truth: list[Truth]) -> None:
    """The promise: the same interval, from the texts on which the answers differ alone."""
    all_scored = [PairedScore(f"t{place}", f"t{place}", a, b) for place, (a, b) in enumerate(truth)]

    result = found(truth, len(truth))

    assert result.difference is not None
    assert result.difference.difference == compare_scores(all_scored, rules=ANY).difference
    assert result.labels == sum(a != b for a, b in truth)
    assert result.saved == sum(a == b for a, b in truth)


def test_labels_beyond_a_text_that_waits_do_not_count_yet() -> None:
    """Counting them would take differing texts in and leave agreeing ones before them out, or the other way round."""
    rows = labelled([(1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (1.0, 1.0)], 2)
    waiting = rows[1]._replace(judged=False, a=None, b=None)

    result = labelled_difference([rows[0], waiting, *rows[2:]], rules=ANY)

    assert (result.texts, result.labels) == (1, 0)
    assert result.difference is not None
    assert result.difference.difference.value == 0.0


def test_a_text_that_nobody_can_judge_is_no_win_and_stops_nothing() -> None:
    """Else one illegible document would hold up every decision after it."""
    rows = labelled([(0.0, 1.0), (0.0, 1.0)], 2)
    illegible = rows[0]._replace(a=None, b=None)

    result = labelled_difference([illegible, rows[1]], rules=ANY)

    assert result.difference is not None
    assert (result.texts, result.difference.difference.value) == (2, 0.5)


def test_looking_after_every_label_is_wrong_no_oftener_than_stated() -> None:
    """Two variants that are equally good, and a decision after each label on texts on which they differ."""
    generator = np.random.default_rng(12)
    wrong = 0
    for _ in range(40):
        kinds = generator.choice(4, p=[0.6, 0.2, 0.1, 0.1], size=400)
        truth = [[(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)][kind] for kind in kinds]
        for labels in range(8, 80, 12):
            result = found(truth, labels)
            if result.difference is not None and (result.difference.is_better or result.difference.is_worse):
                wrong += 1
                break

    assert wrong <= 2


def test_how_often_each_is_right_is_estimated_over_all_texts() -> None:
    """Texts on which they differ are harder: without the strata both would look as bad as on those."""
    generator = np.random.default_rng(5)
    values, held = [], 0
    for _ in range(60):
        kinds = generator.choice(4, p=[0.7, 0.1, 0.05, 0.15], size=600)
        truth = [[(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)][kind] for kind in kinds]
        checked = frozenset(np.flatnonzero(generator.random(600) < 0.1).tolist())
        result = found(truth, 600, checked=checked)
        assert result.accuracy_b is not None
        values.append(result.accuracy_b.value)
        held += result.accuracy_b.lower <= 0.85 <= result.accuracy_b.upper

    assert np.mean(values) == pytest.approx(0.85, abs=0.015)
    assert held >= 57


def test_nothing_labelled_says_nothing() -> None:
    """And a text that is there twice is a mistake of the caller."""
    empty = labelled_difference([], rules=ANY)

    assert (empty.texts, empty.difference, empty.accuracy_a) == (0, None, None)
    assert found([(0.0, 1.0)], 0).difference is None
    with pytest.raises(ContractBroken, match="occurs twice"):
        labelled_difference([AnsweredText("t", "t", False, False, False)] * 2, rules=ANY)
