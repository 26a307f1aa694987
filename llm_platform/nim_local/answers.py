"""Bodies of answers: whole, or chunk by chunk. They are the same in every dialect.

Source: bodies recorded from vLLM 0.23, the engine inside NIM 2.x; 1.x has fewer fields, none with another meaning.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from llm_platform.nim_local.generation import Outcome, Piece, TokenScore
from llm_platform.nim_local.protocol import Body
from llm_platform.nim_local.vocabulary import Vocabulary


@cache
def system_fingerprint() -> str:
    """`system_fingerprint`: the engine and its version."""
    return f"llama.cpp-{version('xllamacpp')}"


def usage(outcomes: Sequence[Outcome], *, answers_per_prompt: int = 1) -> Body:
    """What a request used: each prompt once, and every answer."""
    prompts = outcomes[::answers_per_prompt]
    prompt_tokens = sum(outcome.prompt_tokens for outcome in prompts)
    completion_tokens = sum(outcome.completion_tokens for outcome in outcomes)
    cached = sum(outcome.cached_tokens for outcome in prompts)
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached} if cached else None,
    }


class Answer:
    """The bodies of one generation request: whole, or chunk by chunk."""

    def __init__(self, *, request_id: str, created: int, model: str, vocabulary: Vocabulary, scored: bool) -> None:
        self._head = {"created": created, "model": model}
        self._id = request_id
        self._vocabulary = vocabulary
        self._scored = scored

    def _token(self, token_id: int) -> str:
        return self._vocabulary.token_bytes(token_id).decode("utf-8", errors="replace")

    def _entry(self, token_id: int, logprob: float) -> Body:
        raw = self._vocabulary.token_bytes(token_id)
        return {"token": raw.decode("utf-8", errors="replace"), "logprob": logprob, "bytes": list(raw)}


class ChatAnswer(Answer):
    """Bodies of `/v1/chat/completions`."""

    def whole(self, answers: Sequence[tuple[Sequence[Piece], Outcome]], used: Body) -> Body:
        """The answer in one body."""
        choices = [self._choice(index, pieces, outcome) for index, (pieces, outcome) in enumerate(answers)]
        return {
            "id": f"chatcmpl-{self._id}",
            "object": "chat.completion",
            **self._head,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": system_fingerprint(),
            "usage": used,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "prompt_text": None,
            "kv_transfer_params": None,
        }

    def _choice(self, index: int, pieces: Sequence[Piece], outcome: Outcome) -> Body:
        message: Body = {
            "role": "assistant",
            "content": "".join(piece.text for piece in pieces),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [],
            "reasoning": None,
        }
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs([score for piece in pieces for score in piece.scores]),
            "finish_reason": outcome.finish_reason,
            "stop_reason": outcome.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }

    def _logprobs(self, scores: Sequence[TokenScore]) -> Body | None:
        if not self._scored or not scores:
            return None
        content = [
            {**self._entry(score.token_id, score.logprob), "top_logprobs": [self._entry(*top) for top in score.top]}
            for score in scores
        ]
        return {"content": content}

    def _chunk(self, choices: list[Body], **more: Any) -> str:
        body = {"id": f"chatcmpl-{self._id}", "object": "chat.completion.chunk", **self._head, "choices": choices}
        return event({**body, **more})

    def opening(self) -> str:
        """The first chunk: the role."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._chunk([choice], prompt_token_ids=None, prompt_text=None)

    def piece(self, piece: Piece) -> str:
        """One chunk of text."""
        return self._chunk([self._delta(piece, None, {})])

    def closing(self, piece: Piece, outcome: Outcome) -> str:
        """The chunk with the reason for the end; it carries the last text, as in vLLM."""
        return self._chunk(
            [self._delta(piece, outcome.finish_reason, {"stop_reason": outcome.stop_reason})],
            system_fingerprint=system_fingerprint(),
        )

    def _delta(self, piece: Piece, finish_reason: str | None, more: Body) -> Body:
        return {
            "index": 0,
            "delta": {"content": piece.text},
            "logprobs": self._logprobs(piece.scores),
            "finish_reason": finish_reason,
            **more,
            "token_ids": None,
        }

    def used(self, used: Body) -> str:
        """The usage chunk."""
        return self._chunk([], usage=used, system_fingerprint=system_fingerprint())


class CompletionAnswer(Answer):
    """Bodies of `/v1/completions`."""

    _offset = 0

    def whole(self, answers: Sequence[tuple[Sequence[Piece], Outcome]], used: Body) -> Body:
        """The answer in one body."""
        choices = [self._choice(index, pieces, outcome) for index, (pieces, outcome) in enumerate(answers)]
        return {
            "id": f"cmpl-{self._id}",
            "object": "text_completion",
            **self._head,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": system_fingerprint(),
            "usage": used,
            "kv_transfer_params": None,
        }

    def _choice(self, index: int, pieces: Sequence[Piece], outcome: Outcome) -> Body:
        self._offset = 0
        return {
            "index": index,
            "text": "".join(piece.text for piece in pieces),
            "logprobs": self._logprobs([score for piece in pieces for score in piece.scores]),
            "finish_reason": outcome.finish_reason,
            "stop_reason": outcome.stop_reason,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }

    def _logprobs(self, scores: Sequence[TokenScore]) -> Body | None:
        if not self._scored or not scores:
            return None
        tokens = [self._token(score.token_id) for score in scores]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        tops = []
        for score, token in zip(scores, tokens, strict=True):
            # The sampled token is always among them; two tokens of one text share an entry, the likelier one stays.
            ranked = [*score.top, (score.token_id, score.logprob)]
            entries: dict[str, float] = {}
            for top_id, logprob in ranked:
                entries.setdefault(self._token(top_id), logprob)
            entries[token] = score.logprob
            tops.append(entries)
        return {
            "text_offset": offsets,
            "token_logprobs": [score.logprob for score in scores],
            "tokens": tokens,
            "top_logprobs": tops,
        }

    def _chunk(self, choices: list[Body], **more: Any) -> str:
        body = {"id": f"cmpl-{self._id}", "object": "text_completion", **self._head, "choices": choices}
        return event({**body, **more})

    def opening(self) -> str:
        """Nothing: a text completion starts with text."""
        return ""

    def piece(self, piece: Piece) -> str:
        """One chunk of text."""
        return self._chunk([self._delta(piece, None, None)])

    def closing(self, piece: Piece, outcome: Outcome) -> str:
        """The chunk with the reason for the end."""
        choice = self._delta(piece, outcome.finish_reason, outcome.stop_reason)
        return self._chunk([choice], system_fingerprint=system_fingerprint())

    def _delta(self, piece: Piece, finish_reason: str | None, stop_reason: str | None) -> Body:
        return {
            "index": 0,
            "text": piece.text,
            "logprobs": self._logprobs(piece.scores),
            "finish_reason": finish_reason,
            "stop_reason": stop_reason,
            "token_ids": None,
        }

    def used(self, used: Body) -> str:
        """The usage chunk."""
        return self._chunk([], usage=used, system_fingerprint=system_fingerprint())


def event(body: Body) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, separators=(',', ':'), ensure_ascii=False)}\n\n"


STREAM_END = "data: [DONE]\n\n"
