"""Which prompts are too long for the model, with as little tokenizing as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from llm_platform.errors import SpecificationError
from llm_platform.prompts.render import RenderedPrompt
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


def over_budget(
    prompts: Iterable[tuple[str, RenderedPrompt]], *, budget: int, count_tokens: Callable[[RenderedPrompt], int]
) -> dict[str, int]:
    """Token counts of the prompts that have more than `budget` tokens, by the key they came with.

    A token of a byte-level tokenizer covers at least one byte, so a prompt with few bytes fits without being counted.
    What the chat template adds is counted once per form of prompt, on one with nearly empty messages.
    """
    overheads: dict[tuple[str, ...], int] = {}
    too_long: dict[str, int] = {}
    for key, prompt in prompts:
        roles = tuple(message["role"] for message in prompt.messages or ())
        if roles not in overheads:
            overheads[roles] = count_tokens(_shortest(prompt))
        if prompt.size_bytes + overheads[roles] <= budget:
            continue
        tokens = count_tokens(prompt)
        if tokens > budget:
            too_long[key] = tokens
    return too_long


def _shortest(prompt: RenderedPrompt) -> RenderedPrompt:
    # One letter each, because endpoints refuse an empty text.
    if prompt.messages is None:
        return RenderedPrompt(None, "a")
    return RenderedPrompt([{"role": message["role"], "content": "a"} for message in prompt.messages], None)
