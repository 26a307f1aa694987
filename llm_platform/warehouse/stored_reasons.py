"""Reasons of stored answers as they may be shown to those who may not read documents."""

from __future__ import annotations

import re

from llm_platform.records.refusals import Refusal
from llm_platform.warehouse.engine import literal

_OF_PARTS = r"([0-9]+ of [0-9]+ parts have no valid answer \(the first is [a-z]+: )?"
_REFUSAL = rf"^(putting the answers to the parts together: )?{_OF_PARTS}HTTP [0-9]+"
_PHRASES = "|".join(re.escape(phrase) for phrase in Refusal)


def in_own_words() -> str:
    """SQL of the column `reason`: what follows the status of a refusal, where it is none of our phrases, is cut.

    Older versions stored there what the endpoint had said, which may repeat the document.
    """
    refusal, ours = literal(_REFUSAL), literal(rf"{_REFUSAL}: ({_PHRASES})(\)|;|$)")
    return (
        f"CASE WHEN regexp_matches(reason, {refusal}) AND NOT regexp_matches(reason, {ours}) "
        f"THEN regexp_extract(reason, {refusal}) ELSE reason END"
    )
