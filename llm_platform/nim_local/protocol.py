"""Every body that the 2.x dialect answers with; nothing else in this folder knows their shape.

Sources: the NIM for LLMs API reference 2.0/2.1, and bodies recorded from vLLM 0.23, the engine inside NIM 2.x. Another
dialect is another module with these functions.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.generation import Outcome, Piece, TokenScore
from llm_platform.nim_local.vocabulary import Vocabulary

API_VERSION = "2.1.0"
METRICS_CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

Body = dict[str, Any]


class ApiError(Exception):
    """An answer in the error envelope."""

    def __init__(self, status: int, message: str, *, kind: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Body = {"error": {"message": message, "type": kind, "param": parameter, "code": status}}


def bad_request(message: str, *, kind: str = "BadRequestError", parameter: str | None = None) -> ApiError:
    """A 400."""
    return ApiError(400, message, kind=kind, parameter=parameter)


def bad_parameter(message: str, parameter: str, value: float | None = None) -> ApiError:
    """A 400 that names a parameter, in vLLM's wording."""
    suffix = f"(parameter={parameter})" if value is None else f"(parameter={parameter}, value={value})"
    return bad_request(f"{message} {suffix}", parameter=parameter)


def unknown_model(model: str) -> ApiError:
    """The 404 for a model that is not served."""
    return ApiError(404, f"The model `{model}` does not exist.", kind="NotFoundError", parameter="model")


def context_overflow(*, context_length: int, prompt_tokens: int, output_tokens: int, counted: bool = True) -> ApiError:
    """The 400 for a request that does not fit; not `counted`, its prompt has at least so many tokens."""
    least = "" if counted else "at least "
    return bad_parameter(
        f"This model's maximum context length is {context_length} tokens. However, you requested {output_tokens} "
        f"output tokens and your prompt contains {least}{prompt_tokens} input tokens, for a total of "
        f"{least}{prompt_tokens + output_tokens} tokens. Please reduce the length of the input prompt or the number of "
        "requested output tokens.",
        "input_tokens",
        prompt_tokens,
    )


def engine_error(message: str) -> ApiError:
    """The 500 for an engine that failed."""
    return ApiError(500, message, kind="InternalServerError")


def not_ready() -> ApiError:
    """The 503 while the model loads or the server drains."""
    return ApiError(503, "Service is not ready.", kind="ServiceUnavailableError")


def health(word: str) -> Body:
    """`/v1/health/live` and `/v1/health/ready`."""
    return {"object": "health.response", "message": word, "status": word}


def models(config: EmbeddedConfig, *, now: int) -> Body:
    """`/v1/models`; `created` is the time of the request, as in vLLM."""
    permission = {
        "id": f"modelperm-{secrets.token_hex(8)}",
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {
        "id": config.model_id,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": str(config.weights),
        "parent": None,
        "max_model_len": config.context_length,
        "permission": [permission],
    }
    return {"object": "list", "data": [card]}


def licence(config: EmbeddedConfig) -> Body:
    """`/v1/license`."""
    content = config.licence_text
    return {
        "name": config.licence_name,
        "path": "LICENSE",
        "sha": hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest(),
        "size": len(content.encode()),
        "url": config.licence_url,
        "type": "file",
        "content": content,
    }


def metadata(config: EmbeddedConfig) -> Body:
    """`/v1/metadata`; `assetInfo` carries the hash of the weights."""
    name = config.weights.name
    return {
        "assetInfo": [f"file://{config.weights}", f"sha256:{config.weights_sha256}", "embedded: llama.cpp"],
        "licenseInfo": licence(config),
        "modelInfo": [{"modelUrl": f"file://{config.weights}", "shortName": f"{config.model_id}:{name}"}],
        "version": config.release,
        "repository_override": "",
        "selectedModelProfileId": config.profile,
    }


def release(config: EmbeddedConfig) -> Body:
    """`/v1/version`."""
    return {"release": config.release, "api": API_VERSION}


def manifest(config: EmbeddedConfig) -> Body:
    """`/v1/manifest`."""
    lines = [
        "schema_version: 2.0.0",
        "profiles:",
        f"- id: {config.profile}",
        f"  tags: {{llm_engine: llama.cpp, context_length: '{config.context_length}', feat_lora: 'false'}}",
        "  workspace:",
        "    files:",
        f"      {config.weights.name}: {{uri: 'file://{config.weights}', sha256: {config.weights_sha256}}}",
    ]
    return {"manifest_file": "\n".join(lines) + "\n", "repository_override": ""}


def openapi(config: EmbeddedConfig, paths: dict[str, list[str]]) -> Body:
    """`/openapi.json`: the paths and methods there are."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Embedded NIM {config.model_id}", "version": config.release},
        "paths": {
            path: {
                method.lower(): {"responses": {"200": {"description": "OK"}}} for method in methods if method != "HEAD"
            }
            for path, methods in paths.items()
        },
    }


@cache
def fingerprint() -> str:
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
            "system_fingerprint": fingerprint(),
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
            system_fingerprint=fingerprint(),
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
        return self._chunk([], usage=used, system_fingerprint=fingerprint())


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
            "system_fingerprint": fingerprint(),
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
        return self._chunk([choice], system_fingerprint=fingerprint())

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
        return self._chunk([], usage=used, system_fingerprint=fingerprint())


def event(body: Body) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, separators=(',', ':'), ensure_ascii=False)}\n\n"


STREAM_END = "data: [DONE]\n\n"


def stream_error(error: ApiError) -> str:
    """An error after the stream has begun: its status can no longer say so."""
    return event(error.body)


def tokenized(tokens: list[int], *, context_length: int, strings: list[str] | None) -> Body:
    """`/tokenize`."""
    return {"count": len(tokens), "max_model_len": context_length, "tokens": tokens, "token_strs": strings}


def detokenized(text: str) -> Body:
    """`/detokenize`."""
    return {"prompt": text}
