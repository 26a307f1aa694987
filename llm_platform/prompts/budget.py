"""How long a prompt may be."""

from __future__ import annotations

from llm_platform.errors import SpecificationError
from llm_platform.records import Sampling


def token_budget(context_length: int, sampling: Sampling) -> int:
    """Tokens that a prompt may have: the model's context less the room for the answer.

    Raises:
        SpecificationError: the answer alone fills the context.
    """
    budget = context_length - sampling.max_tokens
    if budget <= 0:
        raise SpecificationError(
            f"sampling.max_tokens is {sampling.max_tokens}, and the model's context holds {context_length} tokens: "
            "nothing is left for a prompt. Lower max_tokens."
        )
    return budget
