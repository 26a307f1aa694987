"""Whether documents reach the variants in the shares that were stated, tested at every look.

A split that is not what it says (a router that drops slow requests, a filter behind it) makes every comparison over it
wrong, and shows in the counts first. A chi-square test each day finds a fault in every healthy split sooner or later.
Here the evidence is the likelihood of the counts averaged over all shares, against that of the stated ones: it reaches
1 / α at some look with chance α at most.

When the stated shares change, as a canary's do, each stage is counted for itself and the evidence of the stages is
multiplied: a product of such ratios is one again.

Source: Lindon and Malek 2022, section 2, with their conjugate Dirichlet mixture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llm_platform.errors import ContractBroken
from llm_platform.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CONCENTRATION = 100.0
"""Total of the Dirichlet weights around the stated shares: a router that is wrong is seldom wrong by much."""


class SampleRatio(Record):
    """The counts of a split beside its stated shares.

    Attributes:
        documents: How many were counted.
        p_value: That the split is as stated; valid at whatever look.
        alpha: Below which it is not believed.
    """

    documents: int
    p_value: float
    alpha: float

    @property
    def is_as_stated(self) -> bool:
        """Whether nothing speaks against the stated shares."""
        return self.p_value >= self.alpha


class StageCounts(Record):
    """Documents by variant while the shares were these.

    Attributes:
        shares: Variant → stated share; they add up to 1.
        counts: Variant → documents.
    """

    shares: Mapping[str, float]
    counts: Mapping[str, int]


def sample_ratio(stages: Sequence[StageCounts], *, alpha: float = 0.001) -> SampleRatio:
    """Hold counted documents against the shares that were stated.

    Args:
        stages: One for each time the shares changed, oldest first.
        alpha: Chance of ever doubting a split that is as stated.

    Raises:
        ContractBroken: shares do not add up to 1, a variant was counted that has no share, or a count is negative.
    """
    evidence = sum(log_evidence(stage) for stage in stages)
    documents = sum(sum(stage.counts.values()) for stage in stages)
    return SampleRatio(documents=documents, p_value=min(1.0, math.exp(-max(evidence, 0.0))), alpha=alpha)


def log_evidence(stage: StageCounts) -> float:
    """Logarithm of the evidence of one stage against its stated shares; infinite where a variant without one answered.

    Raises:
        ContractBroken: as `sample_ratio`.
    """
    import numpy as np

    _require_shares(stage)
    if any(count for name, count in stage.counts.items() if not stage.shares[name]):
        return math.inf
    names = [name for name, share in stage.shares.items() if share > 0.0]
    shares = np.array([stage.shares[name] for name in names])
    counts = np.array([stage.counts.get(name, 0) for name in names], dtype=np.float64)
    return float(log_mixture(counts, CONCENTRATION * shares) - (counts * np.log(shares)).sum())


def log_mixture(counts: Floats, weights: Floats) -> Floats:
    """Logarithm of the likelihood of a sequence with these counts, averaged over rates with Dirichlet weights.

    Args:
        counts: How often each outcome occurred, shape (..., outcomes); may be fractions.
        weights: Of the Dirichlet distribution, shape (outcomes,).
    """
    from scipy.special import gammaln

    whole = gammaln(weights.sum()) - gammaln(weights.sum() + counts.sum(axis=-1))
    found: Floats = whole + (gammaln(weights + counts) - gammaln(weights)).sum(axis=-1)
    return found


def _require_shares(stage: StageCounts) -> None:
    total = math.fsum(stage.shares.values())
    if abs(total - 1.0) > 1e-9 or any(share < 0.0 for share in stage.shares.values()):
        raise ContractBroken(
            f"The shares {dict(stage.shares)} of a split add up to {total:g}. State shares of 1 in all."
        )
    unknown = sorted(stage.counts.keys() - stage.shares.keys())
    if unknown or any(count < 0 for count in stage.counts.values()):
        raise ContractBroken(
            f"Counted {dict(stage.counts)} for a split into {', '.join(stage.shares)}. Count each document for the "
            "variant that answered it, and give every such variant a share."
        )
