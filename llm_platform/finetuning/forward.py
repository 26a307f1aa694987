"""What the model makes of examples: logits where an answer's tokens are due, and nowhere else.

Two shortcuts carry most of the speed. Logits over a vocabulary of tens of thousands are computed for the few answer
tokens only. And what all prompts begin with is computed once a part, not once an example; its gradient flows all the
same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_platform.finetuning.batches import split_batch
from llm_platform.finetuning.encoding import Choices, Encoded, Tokens

if TYPE_CHECKING:
    import torch

SHORTEST_PREFIX = 8
"""A shorter one costs more in bookkeeping than it saves."""


def answer_logits(model: Any, part: Sequence[Encoded], prefix: Tokens) -> torch.Tensor:
    """Logits that predict every answer token of every example, shape (answer tokens in all, vocabulary), float32.

    Padding stands at the end, where causal attention keeps it out of everything that is read.
    """
    import torch

    rests = [(*one.prompt[len(prefix) :], *one.answer[:-1]) for one in part]
    width = max(map(len, rests))
    ids = torch.tensor([[*rest, *[0] * (width - len(rest))] for rest in rests], device=model.device)
    rows = [row for row, one in enumerate(part) for _ in one.answer]
    columns = [
        at for rest, one in zip(rests, part, strict=True) for at in range(len(rest) - len(one.answer), len(rest))
    ]
    cache = _computed_prefix(model, prefix, copies=len(part)) if prefix else None
    with _head_sees(model, rows, columns):
        logits: torch.Tensor = model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).logits
    return logits.float()


def _computed_prefix(model: Any, prefix: Tokens, *, copies: int) -> Any:
    import torch

    with _head_sees(model, [0], [0]):
        cache = model(input_ids=torch.tensor([prefix], device=model.device), use_cache=True).past_key_values
    cache.batch_repeat_interleave(copies)
    return cache


@contextmanager
def _head_sees(model: Any, rows: list[int], columns: list[int]) -> Iterator[None]:
    """Hand the output layer only these positions, as rows of one matrix.

    In front of the layer rather than instead of it, so that what a model does to its logits afterwards still happens.
    """

    def pick(_module: object, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][rows, columns],)

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def answer_losses(
    logits: torch.Tensor, part: Sequence[Encoded], choices: Choices, *, smoothing: float = 0.0
) -> list[torch.Tensor]:
    """Negative log-likelihood of every decision of every answer, in nats, normalized over what may be chosen.

    Args:
        smoothing: Share of the target that is spread over all that may be chosen, where that is a closed list.
    """
    starts = itertools.accumulate((len(one.answer) for one in part), initial=0)
    losses = []
    for one, start in zip(part, starts, strict=False):
        for at, options in choices.decisions(one.answer):
            scores = logits[start + at]
            open_to, target = (scores[options] if options else scores), scores[one.answer[at]]
            wanted = (1 - smoothing) * target + smoothing * open_to.mean() if options else target
            losses.append(open_to.logsumexp(-1) - wanted)
    return losses


def decisions(batch: Sequence[Encoded], choices: Choices) -> int:
    """How many tokens of these answers are decided: the number that a mean loss is over."""
    return sum(len(choices.decisions(one.answer)) for one in batch)


def measure(
    model: Any, encoded: Sequence[Encoded], prefix: Tokens, *, choices: Choices, tokens: int
) -> tuple[float, float]:
    """Mean loss of a decision, and the share of examples of which greedy decoding gets every decision right."""
    import torch

    loss, right = 0.0, 0
    with torch.no_grad():
        for part in split_batch(encoded, tokens):
            logits = answer_logits(model, part, prefix)
            loss += sum(float(one) for one in answer_losses(logits, part, choices))
            starts = itertools.accumulate((len(one.answer) for one in part), initial=0)
            right += sum(
                _is_right(logits[start : start + len(one.answer)], one, choices)
                for one, start in zip(part, starts, strict=False)
            )
    return loss / decisions(encoded, choices), right / len(encoded)


def _is_right(logits: torch.Tensor, one: Encoded, choices: Choices) -> bool:
    for at, options in choices.decisions(one.answer):
        scores = logits[at]
        best = max(options, key=lambda token: float(scores[token])) if options else int(scores.argmax())
        if best != one.answer[at]:
            return False
    return True
