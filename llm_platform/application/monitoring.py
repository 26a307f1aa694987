"""What is watched once a release serves: drift, and which live documents are asked to be labelled."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from llm_platform.application.specification import Specification
from llm_platform.records import Ceiling


class Drift(Specification):
    """When newer documents, or the answers to them, count as different from those that the champion was judged on.

    A measurement has drifted when its test, corrected for the number of tests, falls under `alpha`, and its effect is
    larger than its limit: with many documents everything is significant, with few every effect is large.

    Attributes:
        reference_texts: At most so many texts from before the boundary, drawn by hash.
        current_texts: At most so many texts from after it, the newest.
        minimum_texts: With fewer in either window the answer is "cannot tell".
        alpha: Chance of any false alarm in one look.
        psi: Limit of the population stability index: lengths, languages, answers, confidences.
        share: Limit of a difference of two shares: unknown words, refusals, invalid answers.
        separation: Limit of the AUC with which a classifier tells newer texts from older ones; 0.5 is chance.
    """

    reference_texts: int = Field(default=2000, ge=20, le=20_000)
    current_texts: int = Field(default=1000, ge=20, le=20_000)
    minimum_texts: int = Field(default=100, ge=20)
    alpha: float = Field(default=0.01, gt=0.0, lt=0.5)
    psi: Ceiling = Ceiling(maximum=0.2, reason="Under 0.1 credit scorecards count as unchanged, over 0.25 as changed.")
    share: Ceiling = Ceiling(maximum=0.05, reason="One document in twenty is what readers of totals begin to notice.")
    separation: Ceiling = Ceiling(maximum=0.65, reason="At an AUC of 0.65 two of three pairs of texts are told apart.")


class Labelling(Specification):
    """Which live documents are asked to be labelled: each by chance, with a probability that is stored.

    Attributes:
        audit_share: Probability of every document; it makes the accuracy of the rest measurable.
        low_confidence_share: Probability of a document whose answer has a confidence below `low_confidence_below`.
        drifted_share: Probability of a document that is flagged as unlike the reference window.
    """

    seed: int = 7
    audit_share: float = Field(default=0.02, gt=0.0, le=1.0)
    low_confidence_below: float = Field(default=0.6, ge=0.0, le=1.0)
    low_confidence_share: float = Field(default=0.1, ge=0.0, le=1.0)
    drifted_share: float = Field(default=0.5, ge=0.0, le=1.0)


class Monitoring(Specification):
    """What is watched once a release serves.

    Attributes:
        since: Boundary between the reference window and the current one; None is the promotion of the serving release.
    """

    since: AwareDatetime | None = None
    drift: Drift = Drift()
    labelling: Labelling = Labelling()
