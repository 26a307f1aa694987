"""Baselines: trained on one split, measured on the other, the same every time."""

from __future__ import annotations

import json
import random

import pandas as pd
import pytest

from llm_platform.errors import PermanentError
from llm_platform.evaluation.baseline import baseline_of
from llm_platform.evaluation.counted_words import predicted
from llm_platform.records import content_hash
from llm_platform_tests.evaluation.builders import application_of

WORDS = {"HAPPY": ["wonderful", "warm", "funny"], "SAD": ["dull", "cold", "tedious"]}
FILLER = ["film", "story", "actor", "scene", "ending", "music", "a", "the", "of"]


def reviews(count: int, *, train_share: float = 0.5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Documents whose words mostly give their label away, and the references."""
    chance = random.Random(3)
    documents, references = [], []
    for index in range(count):
        label = "HAPPY" if chance.random() < 0.5 else "SAD"
        said = label if chance.random() < 0.9 else "HAPPY"
        words = [*chance.choices(FILLER, k=8), chance.choice(WORDS[said]), f"w{index}"]
        text = " ".join(words)
        key = f"d{index:04d}"
        documents.append({"document_id": key, "fingerprint": content_hash(text), "text": text})
        split = "train" if chance.random() < train_share else "evaluation"
        references.append({"document_id": key, "answer": label, "split": split})
    return pd.DataFrame(documents), pd.DataFrame(references)


def test_word_counts_find_what_words_give_away() -> None:
    """A yardstick that cannot learn an easy task would flatter every language model."""
    documents, references = reviews(400)

    baseline = baseline_of(documents, references, application=application_of())

    assert baseline is not None
    assert baseline.accuracy is not None
    assert baseline.accuracy.lower > 0.85
    assert baseline.trained + baseline.evaluated == 400


def test_the_baseline_is_the_same_in_any_order_of_rows() -> None:
    """It is part of a report whose id is a hash."""
    documents, references = reviews(200)

    first = baseline_of(documents, references, application=application_of())
    again = baseline_of(documents.iloc[::-1], references.sample(frac=1, random_state=1), application=application_of())

    assert first == again


def test_the_baseline_sees_no_evaluation_label() -> None:
    """Training labels that say nothing must give a coin's accuracy, whatever the evaluation split holds."""
    documents, references = reviews(600)
    chance = random.Random(5)
    is_train = references["split"] == "train"
    references.loc[is_train, "answer"] = [chance.choice(["HAPPY", "SAD"]) for _ in range(int(is_train.sum()))]

    baseline = baseline_of(documents, references, application=application_of())

    assert baseline is not None
    assert baseline.accuracy is not None
    assert baseline.accuracy.value < 0.62


def test_a_text_in_both_splits_is_not_evaluated() -> None:
    """Word counts remember a text they were trained on."""
    documents, references = reviews(200)
    copies = documents.assign(document_id="copy-" + documents["document_id"])
    copied = references.assign(document_id="copy-" + references["document_id"], split="evaluation")

    baseline = baseline_of(
        pd.concat([documents, copies]), pd.concat([references, copied]), application=application_of()
    )

    assert baseline is not None
    assert baseline.trained == int((references["split"] == "train").sum())
    assert baseline.evaluated == 2 * int((references["split"] == "evaluation").sum())


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        pytest.param("evaluation", "the training split has fewer than two labels", id="nothing-to-train-on"),
        pytest.param("train", "no document to evaluate", id="nothing-to-evaluate"),
    ],
)
def test_a_baseline_that_cannot_be_had_says_why(split: str, reason: str) -> None:
    """A card without its yardstick must say that it is missing, and a missing one must not stop a report."""
    documents, references = reviews(20)

    baseline = baseline_of(documents, references.assign(split=split), application=application_of())

    assert baseline is not None
    assert baseline.accuracy is None
    assert baseline.reason == reason


def test_documents_that_are_not_sent_do_not_count() -> None:
    """The baseline stands beside a number measured on what was sent."""
    documents, references = reviews(100)
    documents["document_status"] = ["oversized"] * 10 + ["sendable"] * 90

    baseline = baseline_of(documents, references, application=application_of())

    assert baseline is not None
    assert baseline.trained + baseline.evaluated == 90


def test_extraction_is_held_against_the_most_frequent_values() -> None:
    """Constant fields are free; the share they give away must be known."""
    keys = [f"d{index:03d}" for index in range(60)]
    documents = pd.DataFrame({"document_id": keys, "fingerprint": keys, "text": keys})
    values = [{"total": 5 if index % 3 else index, "day": "2026-01-02" if index % 2 else None} for index in range(60)]
    references = pd.DataFrame(
        {
            "document_id": keys,
            "answer": [json.dumps(value) for value in values],
            "split": ["train"] * 30 + ["evaluation"] * 30,
        }
    )

    baseline = baseline_of(documents, references, application=application_of("extract"))

    assert baseline is not None
    assert baseline.name == "Most frequent value per field"
    assert baseline.accuracy is not None
    assert baseline.accuracy.value == pytest.approx((20 + 15) / 60)


def test_free_text_has_no_baseline() -> None:
    """None is honest; a made-up one is not."""
    documents, references = reviews(10)

    assert baseline_of(documents, references, application=application_of("generate")) is None


def test_words_are_counted_alike_in_a_process_of_their_own() -> None:
    """A large table has it done there for the memory; its number must not depend on it."""
    documents, references = reviews(200)
    texts = documents["text"].tolist()

    here = baseline_of(documents, references, application=application_of())
    apart = baseline_of(documents, references, application=application_of(), apart=True)

    assert here is not None
    assert here == apart
    with pytest.raises(PermanentError, match=r"200 labelled texts: .* ended with 1"):
        predicted(texts, ["HAPPY"] * 200, texts, apart=True)
