"""Scorers for free text, by shared words. They reward wording, not truth: read them beside a judge or a person."""

from __future__ import annotations

import re

from llm_platform.evaluation.fields import Grade, normalized
from llm_platform.evaluation.items import bag_overlap, longest_common_subsequence
from llm_platform.evaluation.matches import NO_VALID_ANSWER

WORD = re.compile(r"\w+")
NO_WORD = "the reference has no word"


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case folded; no article is dropped and no ending cut off."""
    return WORD.findall(normalized(text))


def token_f1(answer: str | None, reference: str) -> Grade:
    """F1 of the words of both, each as often as it occurs.

    Source: Rajpurkar et al. 2016, section 6.1, without dropping English articles.
    """
    truth = words(reference)
    if not truth:
        return Grade(None, NO_WORD)
    if answer is None:
        return Grade(0.0, NO_VALID_ANSWER)
    return Grade(bag_overlap(words(answer), truth))


def rouge_l(answer: str | None, reference: str) -> Grade:
    """F1 of the longest common subsequence of words, without stemming.

    Source: Lin 2004, section 3.2, with equal weight of precision and recall.
    """
    truth = words(reference)
    if not truth:
        return Grade(None, NO_WORD)
    if answer is None:
        return Grade(0.0, NO_VALID_ANSWER)
    given = words(answer)
    return Grade(2.0 * longest_common_subsequence(given, truth) / (len(given) + len(truth)))
