"""Labels saved by asking where two systems differ: `python -m llm_platform_tests.benchmarks.labels [--csv FILE ...]`.

Two classifiers that count words, one trained on fewer rows than the other, answer texts whose labels are known: the
movie reviews of the shipped application, and tables with the columns `text` and `label` that are named. Each run
shuffles the texts, and labels are asked for one by one until the better system is shown to be better at 0.95, at any
look.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llm_platform.evaluation.deciding_labels import AnsweredText, labelled_difference
from llm_platform.evaluation.pairing import Rules
from llm_platform.samples.movie_reviews import labels, reviews
from llm_platform_tests.benchmarks.decisions import LIMIT, before, labels_text, portfolio, table

CHECKED = 0.02
BUDGET = 50
SYSTEMS = 3
Answers = NDArray[np.str_]


def answered(data: pd.DataFrame, *, few: int, many: int, seed: int) -> tuple[Answers, Answers, Answers]:
    """Answers of both systems and the labels, over texts that neither was trained on."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = data.sample(frac=1.0, random_state=seed)
    train, rest = rows.iloc[:many], rows.iloc[many:]
    given = []
    for size in (few, many):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=2000)
        )
        model.fit(train["text"].iloc[:size], train["label"].iloc[:size])
        given.append(model.predict(rest["text"]).astype(str))
    return given[0], given[1], rest["label"].to_numpy().astype(str)


def one_run(a: Answers, b: Answers, truth: Answers, *, seed: int) -> dict[str, float]:
    """How many labels each way takes, and what a small budget of labels estimates."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(truth))
    right_a, right_b = (a == truth)[order].astype(float), (b == truth)[order].astype(float)
    differs, checked = (a != b)[order], generator.random(len(order)) < CHECKED
    differences = right_b - right_a
    asked = (differs | checked).cumsum()
    found = {}
    # A tie changes no fortune against no difference, so that looks at texts that somebody wins are enough.
    decisive = np.flatnonzero(differences)
    fortunes = portfolio(differences[decisive], 0.0)
    for name, evidence, places in (
        ("before", before(differences, 0.0), np.arange(len(differences))),
        ("portfolio", fortunes, decisive),
    ):
        reached = np.flatnonzero(evidence >= LIMIT)
        found[name] = float(places[reached[0]] + 1) if len(reached) else np.inf
    at = found["portfolio"]
    found["where they differ"] = float(asked[int(at) - 1]) if np.isfinite(at) else np.inf
    rows = [
        AnsweredText(
            str(place), str(place), bool(differs[place]), bool(checked[place]),
            bool((differs[place] or checked[place]) and asked[place] <= BUDGET), right_a[place], right_b[place],
        )
        for place in range(len(order))
    ]  # fmt: skip
    estimate = labelled_difference(rows, rules=Rules(0.95))
    found["estimate"] = estimate.difference.difference.value if estimate.difference is not None else np.nan
    found["texts"] = float(estimate.texts)
    return found


def measured(name: str, data: pd.DataFrame, *, few: int, many: int, runs: int) -> list[str]:
    """One row of the table; medians over runs, each with its own training rows and order."""
    found, differing, true = [], [], []
    systems = [answered(data, few=few, many=many, seed=seed) for seed in range(SYSTEMS)]
    for seed in range(runs):
        a, b, truth = systems[seed % SYSTEMS]
        differing.append(float((a != b).mean()))
        true.append(float((b == truth).mean() - (a == truth).mean()))
        found.append(one_run(a, b, truth, seed=seed))
    medians = {key: float(np.median([run[key] for run in found])) for key in found[0]}
    return [
        f"{name}, {few:,} and {many:,} rows",
        f"{np.mean(differing):.0%}",
        f"{np.mean(true):+.3f}",
        f"{np.nanmean([run['estimate'] for run in found]):+.3f}",
        *(labels_text(medians[key]) for key in ("before", "portfolio", "where they differ")),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, nargs="*", default=[], help="tables with the columns text and label")
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args()
    films = reviews(4_000).to_pandas().merge(labels(4_000).to_pandas(), on="review_id")
    sources = {"movie reviews": films, **{path.stem: pd.read_csv(path) for path in given.csv}}
    rows = []
    for name, data in sources.items():
        kept = data.drop_duplicates("text")[["text", "label"]].astype(str)
        size = len(kept)
        for few, many in ((size // 10, size // 3), (size // 4, size // 3)):
            rows.append(measured(name, kept, few=few, many=many, runs=given.runs))
            sys.stderr.write(f"{rows[-1]}\n")
    head = (
        "systems", "differ", "true difference", f"mean estimate from {BUDGET} labels",
        "before", "labels of any text", "labels where they differ",
    )  # fmt: skip
    table("Labels until the better system is shown to be better (median)", head, rows)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
