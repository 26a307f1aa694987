"""Words and word pairs, weighted by TF-IDF, under a logistic regression: here, or in a process of its own.

What scikit-learn loads stays in a process until it ends, 80 MiB. That of a large table needs them for what comes after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from llm_platform.errors import PermanentError

ENTRY = "from llm_platform.evaluation.counted_words import main; main()"


def predicted(texts: Sequence[str], answers: Sequence[str], unseen: Sequence[str], *, apart: bool = False) -> list[str]:
    """The label of each unseen text, learned from texts with their answers.

    Args:
        texts: To learn from.
        answers: One a text, of at least two labels.
        unseen: To be labelled.
        apart: In a process of its own; the labels are the same.

    Raises:
        PermanentError: that process ended without an answer.
    """
    if not apart:
        return _predicted(texts, answers, unseen)
    given = json.dumps([list(texts), list(answers), list(unseen)])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ENTRY],
        input=given,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise PermanentError(
            f"Cannot count words of {len(texts)} labelled texts: the process that does it ended with "
            f"{done.returncode}. Check that there are 200 MB of memory left for it, then run again."
        )
    labels: list[str] = json.loads(done.stdout)
    return labels


def main() -> None:
    """Answer one question on standard input: texts, answers and unseen texts as JSON."""
    json.dump(_predicted(*json.load(sys.stdin)), sys.stdout)


def _predicted(texts: Sequence[str], answers: Sequence[str], unseen: Sequence[str]) -> list[str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # A token pattern that keeps one-letter words, so that no document is without a vocabulary; 10 is mild
    # regularization, which suits unit-length TF-IDF rows.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", max_features=100_000)
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=2000))
    model.fit(list(texts), list(answers))
    return [str(label) for label in model.predict(list(unseen))]
