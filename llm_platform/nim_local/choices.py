"""Answers from a closed list, with log-probabilities over exactly the tokens that were allowed.

vLLM masks the logits before it takes log-probabilities, llama.cpp takes them before its grammar. So the list is decoded
here, token by token: the allowed tokens are those whose bytes begin a remaining option; all of them are lifted by one
constant, the top-k sampler with k = their number keeps them and nothing else, and the softmax over the rest is theirs.
"""

from __future__ import annotations

import codecs
import math
import random
import threading
from typing import Any

from llm_platform.errors import EndpointUnavailable
from llm_platform.nim_local.constraints import OneOf
from llm_platform.nim_local.engine import Chunk, Engine
from llm_platform.nim_local.generation import Emit, FinishReason, Job, Outcome, Piece, TokenSampling, TokenScore
from llm_platform.nim_local.vocabulary import Vocabulary

# Above any difference of two logits, small enough that float32 still resolves 1e-5 beside it.
_LIFT = 100.0
# What vLLM reports for a token that the mask forbids.
MASKED_LOGPROB = -9999.0


def allowed_tokens(vocabulary: Vocabulary, remaining: frozenset[bytes]) -> dict[int, bytes]:
    """Ids and bytes of the tokens that begin one of the remaining options; the end token where one is complete."""
    known = vocabulary.ids_by_bytes
    allowed = {
        known[option[:size]]: option[:size]
        for option in remaining
        for size in range(1, len(option) + 1)
        if option[:size] in known
    }
    if b"" in remaining:
        allowed[vocabulary.end_token_id] = b""
    return allowed


def generate_choice(engine: Engine, job: Job, *, emit: Emit, cancelled: threading.Event) -> Outcome:
    """Generate one of the options of `job.constraint`.

    Raises:
        RequestRejected: llama.cpp refused the request.
        EndpointUnavailable: llama.cpp failed.
    """
    assert isinstance(job.constraint, OneOf)
    remaining = frozenset(job.constraint.options)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    chance = random.Random(job.sampling.seed)
    tokens: list[int] = []
    usage: dict[str, Any] | None = None
    finish: FinishReason = "length"
    while len(tokens) < job.max_tokens:
        if cancelled.is_set():
            finish = "abort"
            break
        allowed = allowed_tokens(engine.vocabulary, remaining)
        if usage is None or len(allowed) > 1:
            scores, used = _score(engine, _prompt(job, tokens), allowed, job.adapter)
            usage = usage or used
        else:
            scores = dict.fromkeys(allowed, 0.0)
        token = _pick(scores, job.sampling, chance)
        tokens.append(token)
        ended = token == engine.vocabulary.end_token_id
        text = decoder.decode(allowed[token], final=ended)
        emit(Piece(text, _reported(engine.vocabulary, token, scores, job.top_logprobs)))
        if ended:
            finish = "stop"
            break
        taken = allowed[token]
        remaining = frozenset(option[len(taken) :] for option in remaining if option.startswith(taken))
    used_tokens = usage or {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}
    return Outcome(
        finish_reason=finish,
        prompt_tokens=used_tokens["prompt_tokens"],
        completion_tokens=len(tokens),
        cached_tokens=used_tokens["prompt_tokens_details"]["cached_tokens"],
    )


def _prompt(job: Job, tokens: list[int]) -> str | list[str | int]:
    """The prompt with what was answered so far; llama.cpp takes text and token ids mixed."""
    if isinstance(job.prompt, str):
        return [job.prompt, *tokens] if tokens else job.prompt
    return [*job.prompt, *tokens]


def _score(
    engine: Engine, prompt: str | list[str | int], allowed: dict[int, bytes], adapter: str | None
) -> tuple[dict[int, float], dict[str, Any]]:
    """Log-probabilities of the allowed tokens, normalized over them, and the usage of the call."""
    for margin in _witness_margins(allowed):
        lifted = dict.fromkeys(allowed, _LIFT)
        if margin is not None:
            lifted[_witness(engine.vocabulary, allowed)] = _LIFT + margin
        answer = _ask(engine, prompt, lifted, adapter)
        if content := (answer["choices"][0]["logprobs"] or {}).get("content"):
            found = {int(top["id"]): float(top["prob"]) for top in content[0]["top_probs"]}
            if found.keys() == lifted.keys():
                return _normalized({token: found[token] for token in allowed}), answer["usage"]
    raise EndpointUnavailable(
        f"The engine did not score the {len(allowed)} tokens that were allowed. "
        "Its version may handle logit_bias differently: pin the tested xllamacpp."
    )


def _witness_margins(allowed: dict[int, bytes]) -> tuple[float | None, ...]:
    """How far to lift a witness above the allowed tokens, attempt by attempt; None needs no witness.

    llama.cpp leaves out the scores of a step in which it drew a part of a character. Where that can happen, a token of
    plain text is lifted so high that it is drawn instead; it is then taken out of the sum.
    """
    try:
        for text in allowed.values():
            text.decode()
    except UnicodeDecodeError:
        return (30.0, 60.0)
    return (None,)


def _witness(vocabulary: Vocabulary, allowed: dict[int, bytes]) -> int:
    candidates = (vocabulary.ids_by_bytes[text] for text in (b"a", b"b", b"\n") if text in vocabulary.ids_by_bytes)
    return next(token for token in candidates if token not in allowed)


def _ask(engine: Engine, prompt: str | list[str | int], lifted: dict[int, float], adapter: str | None) -> Chunk:
    """One step of which only the probabilities of the lifted tokens matter, not the token that is drawn."""
    answers: list[Chunk] = []

    def receive(chunk: Chunk) -> bool:
        answers.append(chunk)
        return False

    request = {
        "prompt": prompt,
        "max_tokens": 1,
        "samplers": ["top_k"],
        "top_k": len(lifted),
        "temperature": 1.0,
        "repeat_penalty": 1.0,
        "n_probs": len(lifted),
        "post_sampling_probs": True,
        "logit_bias": [[token, lift] for token, lift in lifted.items()],
        "cache_prompt": True,
    }
    engine.generate(request, receive, adapter=adapter, stream=False)
    return answers[0]


def _normalized(probabilities: dict[int, float]) -> dict[int, float]:
    total = math.fsum(probabilities.values())
    return {
        token: math.log(probability / total) if probability > 0 else MASKED_LOGPROB
        for token, probability in probabilities.items()
    }


def _pick(scores: dict[int, float], sampling: TokenSampling, chance: random.Random) -> int:
    """The most probable token at temperature 0, else one drawn as temperature, top_k and top_p say."""
    ranked = sorted(scores, key=lambda token: (-scores[token], token))
    if sampling.temperature == 0 or len(ranked) == 1:
        return ranked[0]
    if sampling.top_k > 0:
        ranked = ranked[: sampling.top_k]
    weights = [math.exp((scores[token] - scores[ranked[0]]) / sampling.temperature) for token in ranked]
    kept, reached, wanted = 0, 0.0, sampling.top_p * sum(weights)
    while kept < len(weights) and (reached < wanted or kept == 0):
        reached += weights[kept]
        kept += 1
    return chance.choices(ranked[:kept], weights[:kept])[0]


def _reported(
    vocabulary: Vocabulary, token: int, scores: dict[int, float], top_count: int | None
) -> tuple[TokenScore, ...]:
    """The token's score as vLLM reports it: the best first, filled up with forbidden tokens."""
    if top_count is None:
        return ()
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:top_count]
    missing = top_count - len(ranked)
    forbidden = (number for number in range(vocabulary.size) if number not in scores)
    filled = [*ranked, *((next(forbidden), MASKED_LOGPROB) for _ in range(min(missing, vocabulary.size)))]
    return (TokenScore(token_id=token, logprob=scores[token], top=tuple(filled)),)
