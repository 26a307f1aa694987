"""Tokens as an endpoint counts them: whatever it says, what is read can be stored and added up."""

from __future__ import annotations

from typing import Any, NamedTuple

MOST_TOKENS = 2**31
"""Of one reply: no context is as long, and sums of a million of them still fit 64 bits."""


class Usage(NamedTuple):
    """Tokens of one reply, as in `records.TokenUsage`, at a tenth of its cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


NOTHING = Usage()


def read_usage(usage: Any) -> Usage:
    """The tokens of a reply's `usage`, of chat, completions or responses; 0 where it says none that can be."""
    if not isinstance(usage, dict):
        return NOTHING
    of_prompt = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    of_completion = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return Usage(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        _count(of_prompt.get("cached_tokens")) if isinstance(of_prompt, dict) else 0,
        _count(of_completion.get("reasoning_tokens")) if isinstance(of_completion, dict) else 0,
    )


def _count(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # `True` is an int.
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0
