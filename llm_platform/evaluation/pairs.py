"""One release against others on the same held-out texts, by their grades alone.

`comparison.py` compares two reports; here the other side may have no report: a base model that no variant names, or a
method without a language model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_platform.evaluation.clusters import Method, clusters_of
from llm_platform.evaluation.pairing import PairedDifference, PairedScore, Rules, compare_scores
from llm_platform.evaluation.selection import evaluation_rows
from llm_platform.records import Interval, Score

if TYPE_CHECKING:
    import pandas as pd

Grades = Mapping[str, float]
"""Fingerprint of a held-out text → mean grade of its documents."""


class Pair(PairedDifference):
    """How much better a release is than something else: the difference is ours minus theirs.

    Attributes:
        name: What it is compared with.
        release_id: Of that; None for a method without a language model.
        ours, theirs: Mean grades on the texts that both have a grade for.
    """

    name: str
    release_id: str | None
    ours: Interval
    theirs: Interval


def held_out_grades(
    documents: pd.DataFrame, references: pd.DataFrame, scores: Sequence[Score], *, scorer: str
) -> dict[str, float]:
    """Grades of a release by text, on documents of the evaluation split whose text nobody trained on.

    Args:
        documents: `document_id`, `fingerprint`.
        references: `document_id`, `answer`, `split`.
        scores: Of one release.
        scorer: Name of the scorer that counts.

    Raises:
        ContractBroken: a table lacks a column or repeats a document.
    """
    rows = evaluation_rows(documents, references)
    wanted = set(zip(rows["document_id"].tolist(), rows["fingerprint"].tolist(), strict=True))
    found: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        if score.scorer == scorer and score.score is not None and (score.document_id, score.fingerprint) in wanted:
            found[score.fingerprint].append(score.score)
    return {fingerprint: sum(grades) / len(grades) for fingerprint, grades in found.items()}


def held_out_clusters(documents: pd.DataFrame, references: pd.DataFrame) -> dict[str, str]:
    """Fingerprint → cluster of the texts that `held_out_grades` grades.

    Args:
        documents: `document_id`, `fingerprint`, and `cluster` where it is known.
        references: As there.

    Raises:
        ContractBroken: as there.
    """
    rows = evaluation_rows(documents, references)
    found: dict[str, str] = {}
    for fingerprint, cluster in zip(rows["fingerprint"].tolist(), clusters_of(rows), strict=True):
        found.setdefault(fingerprint, cluster)
    return found


def pair(
    ours: Grades,
    theirs: Grades,
    *,
    name: str,
    clusters: Mapping[str, str],
    rules: Rules,
    method: Method,
    release_id: str | None = None,
) -> Pair | None:
    """Compare on the texts that both have a grade for; None where there is none.

    Args:
        clusters: Fingerprint → cluster; a text that is not there is a cluster of its own.
        rules: For the difference.
        method: For the two means.
    """
    texts = sorted(ours.keys() & theirs.keys())
    if not texts:
        return None
    names = [clusters.get(text, text) for text in texts]
    scores = [PairedScore(text, cluster, theirs[text], ours[text]) for text, cluster in zip(texts, names, strict=True)]
    return Pair(
        **dict(compare_scores(scores, rules=rules)),
        name=name,
        release_id=release_id,
        ours=method.mean([ours[text] for text in texts], names),
        theirs=method.mean([theirs[text] for text in texts], names),
    )
