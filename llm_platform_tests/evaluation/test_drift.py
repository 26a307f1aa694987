"""What counts as drift, what does not, and what cannot be told."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.application.model import Application
from llm_platform.application.monitoring import Monitoring
from llm_platform.application.source import Source
from llm_platform.application.variants import Variant
from llm_platform.evaluation import drift_tests
from llm_platform.evaluation.drift import MEASUREMENTS, Measurement, flag_documents, measure_drift
from llm_platform.evaluation.drift_texts import is_refusal, language
from llm_platform.records import Task

WORDS = [f"{first}{middle}{last}" for first in "bdfgklmnprst" for middle in "aeiou" for last in "bdfgklmnprst"]
WEIGHTS = 1.0 / np.arange(1, len(WORDS) + 1)
WEIGHTS /= WEIGHTS.sum()


def application(task: Task = "classify") -> Application:
    return Application(
        name="tickets",
        title="Tickets",
        task=task,
        labels=("HAPPY", "SAD"),
        source=Source(url="tickets.csv", key="id", text="text"),
        variants={"clear": Variant(prompt="clear", model="small")},
        evaluation=Evaluation(gates=Gates()),
        monitoring=Monitoring(),
    )


def window(
    generator: np.random.Generator,
    count: int,
    *,
    words: int = 30,
    happy: float = 0.5,
    valid: float = 0.98,
    shift: int = 0,
) -> pd.DataFrame:
    """Texts of words with a long tail, and answers to them."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        size = max(3, int(generator.lognormal(np.log(words), 0.5)))
        drawn = generator.choice(len(WORDS), size=size, p=WEIGHTS)
        is_valid = generator.random() < valid
        rows.append(
            {
                "document_id": f"{number}",
                "fingerprint": f"{generator.integers(1 << 60):x}",
                "text": " ".join(WORDS[(place + shift) % len(WORDS)] for place in drawn),
                "status": "valid" if is_valid else "invalid",
                "answer": ("HAPPY" if generator.random() < happy else "SAD") if is_valid else None,
                "confidence": float(generator.beta(5, 2)) if is_valid else None,
                "raw": "HAPPY",
            }
        )
    return pd.DataFrame(rows)


def by_name(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {one.name: one for one in found}


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20_260_301)


def test_equal_windows_show_no_drift(generator: np.random.Generator) -> None:
    """An alarm without a cause is what makes people switch alarms off."""
    found = measure_drift(window(generator, 300), window(generator, 200), application=application())

    assert [one.name for one in found] == list(MEASUREMENTS)
    assert {one.verdict for one in found} == {"no drift shown"}


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        pytest.param({"words": 90}, "length", id="longer-documents"),
        pytest.param({"happy": 0.85}, "answers", id="other-labels"),
        pytest.param({"valid": 0.8}, "validity", id="invalid-answers"),
        pytest.param({"shift": 25}, "texts", id="other-words-in-front"),
    ],
)
def test_what_has_changed_is_named(generator: np.random.Generator, change: dict[str, Any], moved: str) -> None:
    """A person who is told that something drifted needs to know what."""
    found = by_name(measure_drift(window(generator, 400), window(generator, 300, **change), application=application()))

    assert found[moved].verdict == "drifted"
    assert found["refusals"].verdict == "no drift shown"


def test_new_words_refusals_and_languages_are_seen(generator: np.random.Generator) -> None:
    """A new product name, a model that began to decline, a new market: each has a measurement of its own."""
    before, after = window(generator, 300), window(generator, 300)
    after["text"] = [f"Der Drucker ist nicht mit dem neuen Zentralgerät {n} verbunden und das ist" for n in range(300)]
    after["raw"] = ["I'm sorry, I cannot answer that." if n % 5 == 0 else "HAPPY" for n in range(300)]

    found = by_name(measure_drift(before, after, application=application()))

    assert {found[name].verdict for name in ("language", "vocabulary", "texts", "refusals")} == {"drifted"}
    assert "German" in found["language"].note


def test_small_windows_cannot_tell(generator: np.random.Generator) -> None:
    """Thirty documents that are all new say little; neither a pass nor an alarm may be read out of them."""
    found = measure_drift(
        window(generator, 300), window(generator, 30, happy=1.0, words=200), application=application()
    )

    assert {one.verdict for one in found} == {"cannot tell"}
    assert all(one.effect is None and one.p_value is None for one in found)
    assert "300 texts before and 30 since" in found[0].note


def test_a_release_without_confidences_cannot_tell_about_them(generator: np.random.Generator) -> None:
    """Free text states no probability; that is no drift."""
    before, after = window(generator, 200), window(generator, 200)
    before["confidence"], after["confidence"] = None, None

    found = by_name(measure_drift(before, after, application=application()))

    assert found["confidence"].verdict == "cannot tell"
    assert found["answers"].verdict == "no drift shown"


def test_a_significant_but_small_change_is_no_drift() -> None:
    """With a hundred thousand documents everything is significant; the limit is what matters to readers."""
    generator = np.random.default_rng(5)
    before = (generator.random(50_000) < 0.50).tolist()
    after = (generator.random(50_000) < 0.52).tolist()

    found = drift_tests.shares(before, after)

    assert found.p_value < 1e-4
    assert found.effect < Monitoring().drift.share.maximum


def test_extracted_fields_that_stop_being_filled_are_seen(generator: np.random.Generator) -> None:
    """An extraction that returns nulls stays valid; its emptiness is what drifts."""
    before, after = window(generator, 200, valid=1.0), window(generator, 200, valid=1.0)
    full, half = json.dumps({"name": "x", "version": "1"}), json.dumps({"name": "x", "version": None})
    before["answer"] = [full] * 190 + [half] * 10
    after["answer"] = [half] * 190 + [full] * 10

    found = by_name(measure_drift(before, after, application=application("extract")))

    assert found["answers"].verdict == "drifted"


def test_a_fall_from_a_single_value_is_an_effect() -> None:
    """A reference in which every answer fills every field has no deciles to fall between."""
    few = drift_tests.numbers([2.0] * 200, [1.0] * 200)
    many = drift_tests.numbers([100.0] * 200, [float(number % 37) for number in range(200)])

    assert few.effect > 0.2
    assert many.effect > 0.2


def test_no_text_is_in_a_measurement(generator: np.random.Generator) -> None:
    """Measurements go into checks, alerts and pages, and none of those may hold a document."""
    before, after = window(generator, 150), window(generator, 150)
    before["text"], after["text"] = before["text"] + " secretword", after["text"] + " secretword"
    before["raw"], after["raw"] = "secretanswer", "secretanswer"

    found = measure_drift(before, after, application=application())

    assert "secret" not in "".join(one.model_dump_json() for one in found)


def test_false_alarms_are_as_rare_as_alpha_says() -> None:
    """The family's error is held by Holm over valid tests: 300 pairs of equal windows at 0.1, cheap measurements."""
    generator = np.random.default_rng(11)
    alarms = 0
    for _ in range(300):
        before, after = generator.normal(size=120), generator.normal(size=100)
        labels = [generator.choice(list("abc"), size=size, p=[0.6, 0.3, 0.1]).tolist() for size in (120, 100)]
        flags = [(generator.random(size) < 0.1).tolist() for size in (120, 100)]
        tests = (
            drift_tests.numbers(before.tolist(), after.tolist()),
            drift_tests.categories(*labels),
            drift_tests.shares(*flags),
        )
        alarms += min(drift_tests.adjusted([test.p_value for test in tests])) < 0.1

    assert alarms / 300 <= 0.13


def test_the_classifier_raises_no_more_false_alarms_than_its_level() -> None:
    """Cross-fitting keeps the test honest although the classifier was trained on the same windows."""
    generator = np.random.default_rng(12)
    alarms = 0
    for turn in range(20):
        texts = window(generator, 120, words=12)["text"].tolist()
        alarms += drift_tests.separation(texts[:60], texts[60:], seed=turn).p_value < 0.1

    assert alarms <= 5


def test_the_stability_index_is_not_inflated_by_small_windows() -> None:
    """Uncorrected, two equal windows of a hundred would average 0.18, next to the usual limit."""
    generator = np.random.default_rng(13)

    found = [drift_tests.numbers(generator.normal(size=100).tolist(), generator.normal(size=100).tolist()).effect
             for _ in range(100)]  # fmt: skip

    assert np.mean(found) < 0.06


def test_holm_is_the_textbook_correction() -> None:
    """Holm's own example values: 0.01, 0.04, 0.03, 0.005 of four tests."""
    assert drift_tests.adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_documents_least_like_the_reference_are_flagged_first(generator: np.random.Generator) -> None:
    """People read a few documents; they have to be the strange ones."""
    before, after = window(generator, 300), window(generator, 200)
    strange = after.index[[3, 77]]
    after.loc[strange, "text"] = "zzq vvx wwy qqz xxv yyw vzx " * 4

    found = flag_documents(before, after, rules=Monitoring().drift)

    assert {flag.document_id for flag in found[:2]} == {"3", "77"}
    assert len(found) <= 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("The printer is on fire and it was not me", "English", id="english"),
        pytest.param("Der Drucker brennt und das ist nicht mein Fehler", "German", id="german"),
        pytest.param("Принтер горит", "Cyrillic", id="cyrillic"),
        pytest.param("打印机着火了", "Han", id="chinese"),
        pytest.param("プリンターが燃えている", "Japanese", id="japanese"),
        pytest.param("HP LaserJet 4200", "Latin script", id="too-short-to-tell"),
        pytest.param("404 / 17:30", "no letters", id="digits"),
    ],
)
def test_language(text: str, expected: str) -> None:
    """Enough to see a new market arrive."""
    assert language(text) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("I'm sorry, but I can't help with that.", True, id="sorry"),
        pytest.param("As an AI language model, I do not", True, id="as-an-ai"),
        pytest.param("Es tut mir leid, aber", True, id="german"),
        pytest.param("HAPPY", False, id="label"),
        pytest.param("The reviewer says: I cannot recommend it.", False, id="quoted-later"),
    ],
)
def test_refusal(answer: str, expected: bool) -> None:
    """Only an answer that begins by declining counts."""
    assert is_refusal(answer) is expected
