"""One release against others on the same held-out texts, by their grades alone.

`comparison.py` compares two reports; here the other side may have no report: a base model that no variant names, or a
method without a language model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_platform.evaluation.pairing import difference_interval, paired_p_value
from llm_platform.evaluation.selection import evaluation_rows
from llm_platform.evaluation.statistics import mean_score
from llm_platform.records import Interval, Record, Score

if TYPE_CHECKING:
    import pandas as pd

Grades = Mapping[str, float]
"""Fingerprint of a held-out text → mean grade of its documents."""


class Pair(Record):
    """How much better a release is than something else.

    Attributes:
        name: What it is compared with.
        release_id: Of that; None for a method without a language model.
        ours, theirs: Mean grades on the texts that both have a grade for.
        difference: Ours minus theirs, text by text, with its paired interval.
        p_value: That both score equally well, as in `paired_p_value`.
    """

    name: str
    release_id: str | None
    ours: Interval
    theirs: Interval
    difference: Interval
    p_value: float

    @property
    def better(self) -> bool:
        """Whether the interval of the difference lies above zero."""
        return self.difference.lower > 0


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


def pair(ours: Grades, theirs: Grades, *, name: str, release_id: str | None = None, confidence: float) -> Pair | None:
    """Compare on the texts that both have a grade for; None where there is none."""
    texts = sorted(ours.keys() & theirs.keys())
    if not texts:
        return None
    a, b = [ours[text] for text in texts], [theirs[text] for text in texts]
    return Pair(
        name=name,
        release_id=release_id,
        ours=mean_score(a, texts, confidence=confidence),
        theirs=mean_score(b, texts, confidence=confidence),
        difference=difference_interval([x - y for x, y in zip(a, b, strict=True)], confidence=confidence),
        p_value=paired_p_value(list(zip(a, b, strict=True))),
    )
