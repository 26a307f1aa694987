"""Which variant answers a document: decided by a hash, so that every run, process and rerun decides alike.

Each rollout draws a number in [0, 1) for each document from both their ids, and takes the documents whose number is
below its share. So a document stays with the challenger while the share grows, which documents those are has nothing to
do with what they say, and two rollouts of one application draw independently. Where two want the same document the
older one has it; `expected_shares` says what is left for the younger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from llm_platform.records.base import Record


class LiveShare(Record):
    """The share of documents that a running rollout's challenger answers."""

    rollout_id: str
    share: float


class RoutedTo(NamedTuple):
    """Whose a document is; None is the champion."""

    rollout_id: str | None


def place_of(rollout_id: str, document_id: str) -> float:
    """The number in [0, 1) that a rollout draws for a document."""
    # The length keeps ids apart that would run into each other.
    text = f"{len(rollout_id)}:{rollout_id}:{document_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2**56


def route(document_id: str, rollouts: Sequence[LiveShare]) -> RoutedTo:
    """Whose a document is.

    Args:
        rollouts: Running ones, the oldest first.
    """
    for one in rollouts:
        if place_of(one.rollout_id, document_id) < one.share:
            return RoutedTo(one.rollout_id)
    return RoutedTo(None)


def expected_shares(rollouts: Sequence[LiveShare]) -> dict[str | None, float]:
    """Rollout → share of all documents that reach it; None is the champion. They add up to 1.

    A sample-ratio test holds the counted documents against these.
    """
    left = 1.0
    shares: dict[str | None, float] = {}
    for one in rollouts:
        shares[one.rollout_id] = left * one.share
        left *= 1.0 - one.share
    shares[None] = left
    return shares
