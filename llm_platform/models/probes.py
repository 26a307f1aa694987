"""What a model does with fixed texts, since a tag can move and metadata can be wrong.

Three probes, cheapest first: how texts are cut into tokens, how a conversation becomes tokens (which shows the chat
template), and the first tokens of greedy answers. They are asked for one after the other: in a batch the order of
floating-point sums changes with its size, and with it an answer now and then. What is left of that is a near tie: where
two tokens are about equally likely, another build of the same model may take the other one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from llm_platform.models.entries import LockEntry
from llm_platform.records import Record, canonical_json
from llm_platform.settings.connection import endpoint_root

Post = Callable[[str, dict[str, Any]], tuple[int, bytes]]
"""URL and JSON payload → status and body."""

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Invoice no. 2026-0042: 1,234.56 EUR, due 2026-12-31\n\n\tNaïve café, 北京, Привет, 🙂",
    "def f(x):\n    return x ** 2  # <|im_start|>",
)
CONVERSATION = (
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Which colour is the sky?"},
)
PROMPTS = (
    "The capital of France is",
    "1, 2, 4, 8, 16,",
    "Review: The plot is dull and the actors are worse.\nSentiment (positive or negative):",
    "def add(a, b):\n    return",
    "Once upon a time there was a",
    '{"name": "Ada Lovelace", "born":',
)
ANSWER_TOKENS = 8
NEAR_TIE_NATS = 0.25
"""Two tokens whose log-probabilities differ by less are a near tie; measured in docs/models.md."""


class Greedy(Record):
    """One greedy answer.

    Attributes:
        tokens: Its tokens, as texts.
        listed: For each token, the tokens listed at its place with their natural-log probabilities; empty where the
            endpoint lists none.
    """

    text: str
    tokens: tuple[str, ...] = ()
    listed: tuple[dict[str, float], ...] = ()


class Probed(Record):
    """What one endpoint did with the probes; None or empty for what it cannot do."""

    tokenizer_sha256: str | None = None
    chat_template_sha256: str | None = None
    answers: tuple[Greedy, ...] = ()


def probe_model(base_url: str, served_name: str, post: Post) -> Probed:
    """Ask an endpoint for all probes, one after the other.

    Raises:
        EndpointUnavailable: nothing answers.
    """
    root = endpoint_root(base_url)
    asked = [{"model": served_name, "prompt": text} for text in TEXTS]
    texts = [_token_ids(post(f"{root}/tokenize", payload)) for payload in asked]
    conversation = _token_ids(post(f"{root}/tokenize", {"model": served_name, "messages": list(CONVERSATION)}))
    return Probed(
        tokenizer_sha256=_sha256(texts) if None not in texts else None,
        chat_template_sha256=_sha256(conversation) if conversation is not None else None,
        answers=greedy_answers(root, served_name, post),
    )


def greedy_answers(root: str, served_name: str, post: Post) -> tuple[Greedy, ...]:
    """Greedy answers to the fixed prompts; empty where the endpoint completes no texts."""
    answers: list[Greedy] = []
    for prompt in PROMPTS:
        payload = {
            "model": served_name,
            "prompt": prompt,
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "seed": 0,
            "logprobs": 5,
        }
        status, body = post(f"{root}/v1/completions", payload)
        answer = _greedy(body) if status == 200 else None
        if answer is None:
            return ()
        answers.append(answer)
    return tuple(answers)


def probe_differences(entry: LockEntry, probed: Probed) -> list[str]:
    """Clauses, one for each way in which the probes show another model than the entry pins."""
    found: list[str] = []
    pairs = {
        "tokenizer cuts the probe texts": (entry.tokenizer_sha256, probed.tokenizer_sha256),
        "chat template renders the probe conversation": (entry.chat_template_sha256, probed.chat_template_sha256),
    }
    for what, (locked, seen) in pairs.items():
        if locked is not None and seen is not None and locked != seen:
            found.append(f"its {what} to other tokens (sha256 {seen}, locked {locked})")
    return found + answer_differences(entry.fingerprint, probed.answers)


def answer_differences(locked: tuple[str, ...], answers: tuple[Greedy, ...]) -> list[str]:
    """Clauses, one for each probe prompt that is answered otherwise than by a near tie."""
    if not locked or not answers:
        return []
    if len(locked) != len(answers):
        return [f"the lock holds {len(locked)} greedy answers and there are {len(answers)} probe prompts; lock it"]
    found = [divergence(was, now) for was, now in zip(locked, answers, strict=True)]
    clear = {number: margin for number, margin in enumerate(found, start=1) if margin is not None}
    return [
        f"probe prompt {number} of {len(answers)} is answered otherwise"
        + (f", by {margin:.2f} nats" if margin != float("inf") else "")
        for number, margin in clear.items()
        if margin > NEAR_TIE_NATS
    ]


def divergence(locked: str, answer: Greedy) -> float | None:
    """How clearly an answer departs from the locked text, in nats at its first other token; None when it does not.

    Infinite where the locked text goes on with no token that is listed there.
    """
    if answer.text == locked:
        return None
    said = ""
    for token, listed in zip(answer.tokens, answer.listed, strict=False):
        if locked.startswith(said + token):
            said += token
            continue
        rest = locked[len(said) :]
        others = [value for other, value in listed.items() if other != token and other and rest.startswith(other)]
        return listed.get(token, 0.0) - max(others) if others else float("inf")
    return float("inf")


def _greedy(body: bytes) -> Greedy | None:
    try:
        choice = json.loads(body)["choices"][0]
        text = str(choice["text"])
        listed = choice.get("logprobs") or {}
        tops = [_numbers(top or {}) for top in listed.get("top_logprobs") or []]
        return Greedy(text=text, tokens=tuple(map(str, listed.get("tokens") or [])), listed=tuple(tops))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _numbers(top: Mapping[str, Any]) -> dict[str, float]:
    return {str(token): float(value) for token, value in top.items()}


def _token_ids(reply: tuple[int, bytes]) -> list[int] | None:
    status, body = reply
    try:
        tokens = json.loads(body)["tokens"] if status == 200 else None
        return [int(token) for token in tokens] if tokens else None
    except (ValueError, KeyError, TypeError):
        return None


def _sha256(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
