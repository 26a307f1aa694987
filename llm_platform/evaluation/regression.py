"""A variant beside the champion, on the same documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llm_platform.evaluation.pairing import PairedScore, Rules, cluster_differences, compare_scores, more_texts
from llm_platform.records import Interval, Record, Score

Key = tuple[str, str]
"""(document id, fingerprint): a score counts for the text it was given for."""


@dataclass(frozen=True)
class ChampionScores:
    """The release that is published now, and its scores by the scorer that decides.

    Attributes:
        challengers: How many other releases are judged beside it: they are held against it together.
    """

    release_id: str
    scores: Sequence[Score]
    challengers: int = 1

    def graded_by(self, scorer: str) -> ChampionScores:
        """The scores by one scorer: a judge's grade is not to be compared with whether the answer is right."""
        return replace(self, scores=[score for score in self.scores if score.scorer == scorer])


class AgainstChampion(Record):
    """Mean score minus the champion's, over the texts that both have a score for.

    Attributes:
        difference: None when they share no graded document.
        counted: What it was measured on, in words; None in reports that were stored before clusters were named.
        more_texts: How many more texts until the lower bound could clear the margin; None when no number would do.
    """

    champion_release_id: str
    difference: Interval | None
    counted: str | None = None
    more_texts: int | None = None


def graded(scores: Sequence[Score]) -> dict[Key, float]:
    """Scores by document and text, without the ungraded ones."""
    return {(score.document_id, score.fingerprint): score.score for score in scores if score.score is not None}


def paired_scores(
    keys: Sequence[Key], clusters: Sequence[str], a: Mapping[Key, float], b: Mapping[Key, float]
) -> list[PairedScore]:
    """What both scored, one row for each document that both have a score for."""
    return [
        PairedScore(key[1], cluster, a[key], b[key])
        for key, cluster in zip(keys, clusters, strict=True)
        if key in a and key in b
    ]


def against_champion(
    keys: Sequence[Key],
    clusters: Sequence[str],
    scores: Mapping[Key, float],
    *,
    champion: ChampionScores,
    margin: float,
    rules: Rules,
) -> AgainstChampion:
    """How a variant does beside the champion on the evaluation documents `keys`."""
    pairs = paired_scores(keys, clusters, graded(champion.scores), scores)
    if not pairs:
        return AgainstChampion(champion_release_id=champion.release_id, difference=None)
    rules = rules.together(champion.challengers)
    found = compare_scores(pairs, rules=rules)
    return AgainstChampion(
        champion_release_id=champion.release_id,
        difference=found.difference,
        counted=found.counted_text,
        more_texts=more_texts(cluster_differences(pairs), margin, rules=rules),
    )
