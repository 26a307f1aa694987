"""Counted words, against `scikit-learn`."""

from __future__ import annotations

import random

import pytest

from llm_platform.evaluation.word_counts import WordCounts

WORDS = [
    "film",
    "Dull",
    "WARM",
    "it's",
    "é",
    "naïve",
    "東京",
    "!",
    "...",
    "a",
    "b",
    "x_1",
    "3.5",
    "ending",
    "ßen",
    "\n",
]


@pytest.mark.parametrize("labels", [("SAD", "HAPPY"), ("one", "two", "three"), tuple("abcdefg")], ids=len)
def test_counted_words_predict_what_the_library_predicts(labels: tuple[str, ...]) -> None:
    """It is the yardstick beside every accuracy: a weaker one of our own would flatter every model."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    draw = random.Random(len(labels))
    texts, truth = [], []
    for _ in range(260):
        label = draw.choice(labels)
        favourite = WORDS[labels.index(label) : labels.index(label) + 3]
        words = draw.choices(WORDS, k=draw.randrange(0, 30)) + draw.choices(favourite, k=draw.randrange(4))
        texts.append(" ".join(words))
        truth.append(label)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", max_features=100_000)
    library = make_pipeline(words, LogisticRegression(C=10.0, max_iter=5_000, tol=1e-9))
    library.fit(texts[:160], truth[:160])

    given = WordCounts(texts[:160], truth[:160]).predict(texts[160:])

    assert given == library.predict(texts[160:]).tolist()
    assert len(set(given)) == len(labels)
