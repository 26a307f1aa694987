"""A variant beside the champion, on the same documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_platform.application.model import Looks
from llm_platform.evaluation.pairing import difference_interval, pairs_needed
from llm_platform.records import Interval, Record, Score

Key = tuple[str, str]
"""(document id, fingerprint): a score counts for the text it was given for."""


@dataclass(frozen=True)
class ChampionScores:
    """The release that is published now, and its scores by the scorer that decides."""

    release_id: str
    scores: Sequence[Score]


class AgainstChampion(Record):
    """Mean score minus the champion's, over the texts that both have a score for.

    Attributes:
        difference: None when they share no graded document.
        more_texts: How many more texts until the lower bound could clear the margin; None when no number would do.
    """

    champion_release_id: str
    difference: Interval | None
    more_texts: int | None = None


def graded(scores: Sequence[Score]) -> dict[Key, float]:
    """Scores by document and text, without the ungraded ones."""
    return {(score.document_id, score.fingerprint): score.score for score in scores if score.score is not None}


def paired_means(
    keys: Sequence[Key], clusters: Sequence[str], a: Mapping[Key, float], b: Mapping[Key, float]
) -> list[tuple[float, float]]:
    """Mean scores of both, one pair for each cluster of documents that both have a score for."""
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, cluster in zip(keys, clusters, strict=True):
        if key in a and key in b:
            groups[cluster].append((a[key], b[key]))
    return [(sum(x for x, _ in pairs) / len(pairs), sum(y for _, y in pairs) / len(pairs)) for pairs in groups.values()]


def against_champion(
    keys: Sequence[Key],
    clusters: Sequence[str],
    scores: Mapping[Key, float],
    *,
    champion: ChampionScores,
    margin: float,
    confidence: float,
    looks: Looks,
) -> AgainstChampion:
    """How a variant does beside the champion on the evaluation documents `keys`."""
    pairs = paired_means(keys, clusters, graded(champion.scores), scores)
    if not pairs:
        return AgainstChampion(champion_release_id=champion.release_id, difference=None)
    differences = [own - theirs for theirs, own in pairs]
    return AgainstChampion(
        champion_release_id=champion.release_id,
        difference=difference_interval(differences, confidence=confidence, at_any_look=looks == "any"),
        more_texts=pairs_needed(differences, margin, confidence),
    )
