"""One generation from prompt to end, in the thread of its slot; knows nothing of HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from llm_platform.nim_local.constraints import Constraint, Grammar
from llm_platform.nim_local.engine import Chunk, Engine

FinishReason = Literal["stop", "length", "abort"]

# The order in which vLLM applies them; llama.cpp's own order scales by temperature last.
_SAMPLERS = ["penalties", "temperature", "min_p", "top_k", "top_p"]


@dataclass(frozen=True)
class TokenSampling:
    """How the next token is chosen; the defaults are vLLM's."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Job:
    """One prompt and what is wanted of it."""

    prompt: str | tuple[int, ...]
    max_tokens: int
    sampling: TokenSampling = TokenSampling()
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    top_logprobs: int | None = None
    constraint: Constraint = None
    adapter: str | None = None


@dataclass(frozen=True)
class TokenScore:
    """A token, its log-probability, and those of the most probable tokens in its place."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """Text that is certain to be part of the answer, with the tokens since the last piece when scores are wanted.

    llama.cpp gives no scores for a token that is only a part of a character.
    """

    text: str
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a generation ended, and what it used."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    stop_reason: str | None = None


Emit = Callable[[Piece], None]


class StopScanner:
    """Finds stop strings in text that arrives in pieces, holding back what may be the beginning of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """The part of the text so far that is certain to stay."""
        self._held += text
        hits = [(position, stop) for stop in self._stops if (position := self._held.find(stop)) >= 0]
        if hits:
            position, self.found = min(hits)
            certain, self._held = self._held[:position], ""
            return certain
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def rest(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins the stop string."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if stop.startswith(self._held[-size:])), 0)


@dataclass
class _TokenReader:
    """Takes llama.cpp's chunks and passes on what is certain."""

    job: Job
    emit: Emit
    cancelled: threading.Event
    scanner: StopScanner
    finish_reason: FinishReason = "abort"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    pending: list[TokenScore] = field(default_factory=list)

    def receive(self, chunk: Chunk) -> bool:
        """Handle one chunk; true when nothing more is wanted."""
        choice = chunk["choices"][0]
        self._count(chunk)
        if self.job.top_logprobs is not None:
            self.pending.extend(_scores(choice, self.job.top_logprobs))
        certain = self.scanner.feed(choice["text"] or "")
        if choice["finish_reason"] and self.scanner.found is None:
            self.finish_reason = choice["finish_reason"]
            certain += self.scanner.rest()
        self._pass_on(certain)
        if self.scanner.found is not None:
            self.finish_reason = "stop"
            return True
        return self.cancelled.is_set()

    def _count(self, chunk: Chunk) -> None:
        if usage := chunk.get("usage"):
            self.prompt_tokens, self.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
            self.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
        elif timings := chunk.get("timings"):
            self.prompt_tokens = timings["prompt_n"] + timings["cache_n"]
            self.cached_tokens, self.completion_tokens = timings["cache_n"], timings["predicted_n"]

    def _pass_on(self, text: str) -> None:
        if text or self.pending:
            self.emit(Piece(text, tuple(self.pending)))
            self.pending.clear()

    def outcome(self) -> Outcome:
        return Outcome(
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            stop_reason=self.scanner.found,
        )


def generate_text(engine: Engine, job: Job, *, emit: Emit, cancelled: threading.Event) -> Outcome:
    """Generate freely or by a grammar.

    Raises:
        RequestRejected: llama.cpp refused the request.
        EndpointUnavailable: llama.cpp failed.
    """
    reader = _TokenReader(job=job, emit=emit, cancelled=cancelled, scanner=StopScanner(job.stop))
    engine.generate(_request(job, engine.config.context_length), reader.receive, adapter=job.adapter)
    return reader.outcome()


def _request(job: Job, engine_context: int) -> dict[str, Any]:
    sampling = job.sampling
    request: dict[str, Any] = {
        "prompt": job.prompt if isinstance(job.prompt, str) else list(job.prompt),
        "max_tokens": job.max_tokens,
        "samplers": _SAMPLERS,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": max(sampling.top_k, 0),
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": engine_context,
        "logit_bias": [list(pair) for pair in sampling.logit_bias],
        "ignore_eos": job.ignore_end,
        "cache_prompt": True,
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed % (1 << 32)
    if job.top_logprobs is not None:
        request["n_probs"] = max(1, job.top_logprobs)
    if isinstance(job.constraint, Grammar):
        request["grammar"] = job.constraint.text
    return request


def _scores(choice: dict[str, Any], top_count: int) -> list[TokenScore]:
    content = (choice.get("logprobs") or {}).get("content") or []
    return [
        TokenScore(
            token_id=int(token["id"]),
            logprob=float(token["logprob"]),
            top=tuple((int(top["id"]), float(top["logprob"])) for top in token["top_logprobs"][:top_count]),
        )
        for token in content
    ]
