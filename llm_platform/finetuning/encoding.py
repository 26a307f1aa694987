"""Examples as tokens, cut the way an endpoint cuts them: the prompt by itself, then the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_platform.errors import SpecificationError
from llm_platform.finetuning.examples import SHOWN, TrainingExample

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """One example in tokens; `answer` ends with the token that ends an answer."""

    document_id: str
    prompt: Tokens
    answer: Tokens

    @property
    def size(self) -> int:
        """Tokens in all."""
        return len(self.prompt) + len(self.answer)


def encode(examples: Iterable[TrainingExample], tokenizer: Any, *, context_length: int) -> list[Encoded]:
    """Every example in tokens.

    Raises:
        SpecificationError: some are longer than the context; names their ids, their length and the limit. Or the
            tokenizer has no chat template, and the prompt is a chat.
    """
    encoded = [
        Encoded(one.document_id, prompt_tokens(one, tokenizer), answer_tokens(one.answer, tokenizer))
        for one in examples
    ]
    too_long = [one for one in encoded if one.size > context_length]
    if too_long:
        named = ", ".join(f"{one.document_id!r} with {one.size}" for one in too_long[:SHOWN])
        raise SpecificationError(
            f"{len(too_long)} of {len(encoded)} training examples have more tokens than the model's context of "
            f"{context_length} (first: {named}). Lower documents.max_characters, shorten the prompt, or take these "
            "documents out of the references' training split."
        )
    return encoded


def prompt_tokens(example: TrainingExample, tokenizer: Any) -> Tokens:
    """The prompt as the endpoint makes it: by the model's chat template, or as plain text.

    Raises:
        SpecificationError: the prompt is a chat and the model has no chat template.
    """
    if example.messages is None:
        return tuple(tokenizer(example.text)["input_ids"])
    if not tokenizer.chat_template:
        raise SpecificationError(
            "The prompt is a chat, and the base model has no chat template. Use a prompt with api 'completion', or the "
            "instruction-tuned model."
        )
    text = tokenizer.apply_chat_template(list(example.messages), tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def answer_tokens(answer: str, tokenizer: Any) -> Tokens:
    """An answer with the token that ends it."""
    return (*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)


class Choices:
    """The answers that an endpoint may give under its constraint, as tokens; without any, every token may follow.

    An endpoint under a constraint never looks at other tokens, so training on the choice alone trains what is asked.
    """

    def __init__(self, answers: Mapping[str, str], tokenizer: Any) -> None:
        self._options = [answer_tokens(answer, tokenizer) for answer in answers.values()]

    def decisions(self, answer: Tokens) -> list[tuple[int, list[int]]]:
        """Positions with a choice, each with the tokens to choose from; no tokens means any."""
        if not self._options:
            return [(at, []) for at in range(len(answer))]
        decided = []
        for at in range(len(answer)):
            next_tokens = {one[at] for one in self._options if len(one) > at and one[:at] == answer[:at]}
            if len(next_tokens) > 1:
                decided.append((at, sorted(next_tokens)))
        return decided


def shared_prefix(encoded: Sequence[Encoded]) -> Tokens:
    """What all prompts begin with, in tokens; at least one token of each prompt is left over."""
    if not encoded:
        return ()
    first, last = min(one.prompt for one in encoded), max(one.prompt for one in encoded)
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: min(same, *(len(one.prompt) - 1 for one in encoded), len(first) - 1)]
