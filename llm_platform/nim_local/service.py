"""From a validated request to jobs, and from their outcomes to bodies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from llm_platform.errors import EndpointUnavailable, RequestRejected
from llm_platform.nim_local import answers, protocol
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.constraints import (
    Constraint,
    Grammar,
    choice_constraint,
    json_constraint,
    regex_constraint,
)
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.generation import Job, Outcome, Piece, TokenSampling
from llm_platform.nim_local.metrics import Metrics
from llm_platform.nim_local.requests import (
    ChatRequest,
    CompletionRequest,
    Generation,
    StructuredOutputs,
    TokenizeRequest,
)
from llm_platform.nim_local.scheduler import Scheduler, Ticket
from llm_platform.nim_local.templates import ChatTemplate, Part

_ANY_OBJECT = {"type": "object"}

Result = TypeVar("Result")
Prompt = str | tuple[int, ...]


class Service:
    """One loaded model that answers validated requests."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._config: EmbeddedConfig = engine.config
        self._template = ChatTemplate(engine.vocabulary, model_id=engine.config.model_id)
        self._scheduler = Scheduler(engine, metrics)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def engine(self) -> Engine:
        """The model, with the adapters that are loaded beside it."""
        return self._engine

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the engine for the length of a `with` block, also after it has been replaced."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._unused.set()

    async def close_when_unused(self) -> None:
        """Let every request finish, then release the engine; for one that new requests no longer reach."""
        await self._unused.wait()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Finish what runs and release the engine."""
        self._scheduler.close()
        self._engine.close()

    async def jobs(self, request: ChatRequest | CompletionRequest, *, adapter: str | None = None) -> list[Job]:
        """One job per answer wanted, in the order of `choices`; the base model's without `adapter`.

        Raises:
            ApiError: the request cannot be served.
        """
        if isinstance(request, ChatRequest):
            prompts: list[Prompt] = [await self._conversation(request)]
            limit = request.max_completion_tokens or request.max_tokens
            scores = (request.top_logprobs or 0) if request.logprobs else None
        else:
            prompts = _prompts(request)
            limit, scores = request.max_tokens, request.logprobs
        limits = [await self._limit(prompt, limit) for prompt in prompts]
        constraint = _constraint(request)
        sampling = _sampling(request)
        return [
            Job(
                prompt=prompt,
                max_tokens=most,
                sampling=sampling if number == 0 else _reseeded(sampling, number),
                stop=request.stops,
                ignore_end=request.ignore_eos,
                top_logprobs=scores,
                constraint=constraint,
                adapter=adapter,
            )
            for prompt, most in zip(prompts, limits, strict=True)
            for number in range(request.n or 1)
        ]

    async def run(self, jobs: list[Job]) -> list[tuple[list[Piece], Outcome]]:
        """Every job's pieces and outcome.

        Raises:
            ApiError: one of them was refused or failed; the others are stopped.
        """
        tickets = [Ticket(job) for job in jobs]
        if len(tickets) == 1:
            return [(tickets[0].pieces, await _as_api(self._scheduler.run(tickets[0])))]
        tasks = [asyncio.create_task(_as_api(self._scheduler.run(ticket))) for ticket in tickets]
        try:
            outcomes = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [(ticket.pieces, outcome) for ticket, outcome in zip(tickets, outcomes, strict=True)]

    async def stream(self, job: Job) -> AsyncGenerator[Piece | Outcome]:
        """The job's pieces as they come, then its outcome.

        Raises:
            ApiError: it was refused or failed.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Piece | None] = asyncio.Queue()

        def pass_on(piece: Piece) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, piece)

        ticket = Ticket(job, on_piece=pass_on)
        task = asyncio.create_task(_as_api(self._scheduler.run(ticket)))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        with self.in_use():
            try:
                while (piece := await queue.get()) is not None:
                    yield piece
                yield await task
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError, protocol.ApiError):
                    await task

    def count_usage(self, used: protocol.Body) -> None:
        """Add the usage that is about to be served to the counters."""
        details = used["prompt_tokens_details"] or {"cached_tokens": 0}
        self._metrics.used(
            prompt_tokens=used["prompt_tokens"],
            completion_tokens=used["completion_tokens"],
            cached_tokens=details["cached_tokens"],
        )

    async def tokenize(self, request: TokenizeRequest) -> list[int]:
        """Token ids of a text or of a rendered conversation.

        Raises:
            ApiError: neither is given.
        """
        if request.messages is not None:
            parts = self._template.render(request.messages, add_generation_prompt=request.add_generation_prompt)
            return await self._tokenize_parts(parts, add_special=bool(request.add_special_tokens))
        if request.prompt is not None:
            text, special = request.prompt, request.add_special_tokens is not False
        else:
            raise protocol.bad_request("Either `prompt` or `messages` is required.", kind="Bad Request")
        return await self._tokenize(text, add_special=special)

    async def detokenize(self, tokens: list[int]) -> str:
        """Text of token ids.

        Raises:
            ApiError: an id is out of the vocabulary.
        """
        self._check_vocabulary(tokens)
        return await _as_api(asyncio.to_thread(self._engine.detokenize, tokens))

    def token_strings(self, tokens: list[int]) -> list[str]:
        """The tokens as the vocabulary writes them."""
        return [self._engine.vocabulary.tokens[token] for token in tokens]

    async def _conversation(self, request: ChatRequest) -> Prompt:
        """The prompt of a conversation: a text, or tokens where somebody has written the name of a control token."""
        parts = self._template.render(request.messages, add_generation_prompt=request.add_generation_prompt)
        if len(parts) == 1:
            return parts[0].text
        if sum(len(part.text) for part in parts) > self._config.context_length * self._engine.vocabulary.longest_token:
            return "".join(part.text for part in parts)  # too long in any case, and refused without counting
        return tuple(await self._tokenize_parts(parts, add_special=True))

    async def _tokenize_parts(self, parts: Sequence[Part], *, add_special: bool) -> list[int]:
        tokens: list[int] = []
        for number, part in enumerate(parts):
            first = add_special and number == 0
            tokens += await self._tokenize(part.text, add_special=first, parse_special=part.has_control)
        return tokens

    async def _tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        work = asyncio.to_thread(self._engine.tokenize, text, add_special=add_special, parse_special=parse_special)
        return await _as_api(work)

    async def _limit(self, prompt: Prompt, wanted: int | None) -> int:
        """How many tokens may be generated: what is wanted, or what the prompt leaves of the context.

        A token of byte-level BPE is at least one byte and at most as long as the longest one, so the bytes of a prompt
        bound its tokens from both sides; they are counted only where that does not decide.
        """
        if not prompt:
            raise protocol.bad_request("The decoder prompt cannot be empty")
        length = self._config.context_length
        if isinstance(prompt, str):
            size = len(prompt.encode())
            if wanted is not None and size + 1 + wanted <= length:
                return wanted
            least = -(-size // self._engine.vocabulary.longest_token)
            if least + (wanted or 1) > length:
                raise protocol.context_overflow(
                    context_length=length, prompt_tokens=least, output_tokens=wanted or 1, counted=False
                )
            count = len(await self._tokenize(prompt, add_special=True))
        else:
            self._check_vocabulary(prompt)
            count = len(prompt)
        if count + (wanted or 1) > length:
            raise protocol.context_overflow(context_length=length, prompt_tokens=count, output_tokens=wanted or 1)
        return wanted or length - count

    def _check_vocabulary(self, tokens: list[int] | tuple[int, ...]) -> None:
        for token in tokens:
            if not 0 <= token < self._engine.vocabulary.size:
                raise protocol.bad_request(f"Token id {token} is out of vocabulary")


def answer_for(
    request: ChatRequest | CompletionRequest, *, request_id: str, config: EmbeddedConfig, engine: Engine
) -> answers.ChatAnswer | answers.CompletionAnswer:
    """The maker of this request's bodies."""
    kind = answers.ChatAnswer if isinstance(request, ChatRequest) else answers.CompletionAnswer
    scored = request.logprobs not in (None, False)
    return kind(
        request_id=request_id,
        created=int(time.time()),
        model=request.model or config.model_id,
        vocabulary=engine.vocabulary,
        scored=scored,
    )


def _prompts(request: CompletionRequest) -> list[Prompt]:
    given = request.prompt
    if isinstance(given, str):
        return [given]
    if all(isinstance(part, int) for part in given):
        return [tuple(part for part in given if isinstance(part, int))]
    return [part if isinstance(part, str) else tuple(part) for part in given if not isinstance(part, int)]


def _sampling(request: Generation) -> TokenSampling:
    names = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(request, name)) is not None}
    return TokenSampling(**given, seed=request.seed, logit_bias=tuple((request.logit_bias or {}).items()))


def _reseeded(sampling: TokenSampling, number: int) -> TokenSampling:
    """The sampling of a further answer to the same prompt: another draw."""
    if sampling.seed is None:
        return sampling
    return replace(sampling, seed=sampling.seed + number)


def _constraint(request: Generation) -> Constraint:
    try:
        return _structure(request)
    except RequestRejected as error:
        raise protocol.bad_request(str(error)) from error


def _structure(request: Generation) -> Constraint:
    if request.structured_outputs is not None:
        return _structured(request.structured_outputs)
    shape = request.response_format
    if shape is None or shape.type == "text":
        return None
    return json_constraint(shape.json_schema.json_schema if shape.json_schema else _ANY_OBJECT)


def _structured(wanted: StructuredOutputs) -> Constraint:
    if wanted.choice is not None:
        return choice_constraint(wanted.choice)
    if wanted.regex is not None:
        return regex_constraint(wanted.regex)
    if wanted.grammar is not None:
        return Grammar(wanted.grammar)
    if wanted.json_ is not None or wanted.json_object:
        return json_constraint(_ANY_OBJECT if wanted.json_ is None else wanted.json_)
    return None


async def _as_api(work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result, its errors as answers."""
    try:
        return await work
    except RequestRejected as error:
        raise protocol.bad_request(str(error)) from error
    except EndpointUnavailable as error:
        raise protocol.engine_error(str(error)) from error
