"""Scores of a closed list are the model's own, renormalized over what the list allows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from llm_platform.nim_local.choices import MASKED_LOGPROB, allowed_tokens
from llm_platform.nim_local.process import RunningNim
from llm_platform.nim_local.vocabulary import Vocabulary

from .http_calls import post

PROMPT = "Review: A warm, funny and moving film.\nSentiment (positive or negative):"
MESSAGES = [{"role": "user", "content": "Is 'a warm, funny film' positive or negative? Answer with one word."}]


@pytest.fixture(scope="session")
def vocabulary(weights: Path) -> Vocabulary:
    return Vocabulary.read(weights)


def first_scores(nim: RunningNim, options: list[str], **more: Any) -> dict[str, float]:
    """Log-probabilities of the first token of a text completion."""
    body = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 20, **more}
    answer = post(nim.base_url, "/v1/completions", {**body, "structured_outputs": {"choice": options}})
    scores: dict[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    return scores


def test_allowed_tokens_are_all_that_begin_an_option(vocabulary: Vocabulary) -> None:
    """vLLM's mask works on bytes: every way to spell an option is open, not only the usual one."""
    allowed = allowed_tokens(vocabulary, frozenset({b" positive", b" negative"}))

    assert {b" positive", b" negative", b" ", b" p", b" ne"} <= set(allowed.values())
    assert all(b" positive".startswith(text) or b" negative".startswith(text) for text in allowed.values())


def test_only_the_end_follows_a_complete_option(vocabulary: Vocabulary) -> None:
    """Otherwise the model would talk on after its answer."""
    assert set(allowed_tokens(vocabulary, frozenset({b""}))) == {vocabulary.end_token_id}


def test_scores_cover_every_allowed_token_and_sum_to_one(nim: RunningNim, vocabulary: Vocabulary) -> None:
    """Scoring labels by probability needs all of them, however unlikely."""
    scores = first_scores(nim, [" positive", " negative"])

    allowed = allowed_tokens(vocabulary, frozenset({b" positive", b" negative"}))
    open_scores = {token: score for token, score in scores.items() if score > MASKED_LOGPROB}
    assert set(open_scores) == {text.decode() for text in allowed.values()}
    assert math.fsum(map(math.exp, open_scores.values())) == pytest.approx(1.0, abs=1e-5)


def test_scores_are_the_unconstrained_ones_renormalized(nim: RunningNim) -> None:
    """The mask must change the sum and nothing else, or calibrations would not carry over to a real NIM."""
    free = post(nim.base_url, "/v1/completions", {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 20})[
        "choices"
    ][0]["logprobs"]["top_logprobs"][0]
    likely = sorted(free, key=free.__getitem__)[-6:]

    scores = first_scores(nim, likely)

    differences = [scores[token] - free[token] for token in likely]
    assert max(differences) - min(differences) == pytest.approx(0.0, abs=1e-4)


def test_unused_places_are_filled_with_forbidden_tokens(nim: RunningNim) -> None:
    """vLLM fills up to the number asked for with -9999; a client that reads them as scores fails here first."""
    scores = first_scores(nim, [" yes", " no"])

    assert len(scores) == 20
    assert MASKED_LOGPROB in scores.values()


def test_one_token_of_an_option_ends_by_length(nim: RunningNim) -> None:
    """As in vLLM: the end token is a token of its own and did not fit."""
    body = {"prompt": PROMPT, "max_tokens": 1, "temperature": 0}
    answer = post(nim.base_url, "/v1/completions", {**body, "structured_outputs": {"choice": [" positive"]}})

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 1


def test_a_whole_option_ends_by_itself_and_counts_its_end(nim: RunningNim) -> None:
    """Usage counts the end token, as vLLM's does."""
    body = {"messages": MESSAGES, "max_tokens": 16, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    answer = post(
        nim.base_url, "/v1/chat/completions", {**body, "structured_outputs": {"choice": ["positive", "negative"]}}
    )

    choice = answer["choices"][0]
    tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
    assert choice["message"]["content"] in ("positive", "negative")
    assert choice["finish_reason"] == "stop"
    assert tokens[-1] == "<|im_end|>"
    assert "".join(tokens[:-1]) == choice["message"]["content"]
    assert answer["usage"]["completion_tokens"] == len(tokens)


def test_the_likelier_option_is_chosen_at_temperature_zero(nim: RunningNim) -> None:
    """Greedy decoding takes the best allowed token, not the best token."""
    scores = first_scores(nim, ["!", "?"])
    answer = post(
        nim.base_url,
        "/v1/completions",
        {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "structured_outputs": {"choice": ["!", "?"]}},
    )

    assert answer["choices"][0]["text"] == max(scores, key=scores.__getitem__)


def test_a_seed_repeats_a_drawn_option(nim: RunningNim) -> None:
    """Sampling is part of a release and must be repeatable."""
    body = {
        "prompt": PROMPT,
        "temperature": 1.5,
        "seed": 11,
        "n": 4,
        "structured_outputs": {"choice": [" positive", " negative", " mixed"]},
    }

    first, second = (
        [choice["text"] for choice in post(nim.base_url, "/v1/completions", body)["choices"]] for _ in range(2)
    )

    assert first == second
    assert set(first) <= {" positive", " negative", " mixed"}


def test_options_beyond_ascii_come_whole(nim: RunningNim) -> None:
    """Several tokens may share one character."""
    body = {
        "prompt": PROMPT,
        "temperature": 0,
        "max_tokens": 20,
        "structured_outputs": {"choice": ["日本語", "ελλάδα"]},
    }
    answer = post(nim.base_url, "/v1/completions", body)

    assert answer["choices"][0]["text"] in ("日本語", "ελλάδα")
