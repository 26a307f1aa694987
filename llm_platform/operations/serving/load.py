"""What an endpoint gives to a bulk run: synthetic documents through the engine, without a lake.

It is the same engine as in a run, with the same search for a limit, so that a figure of a server's own benchmark can be
put beside it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, SpecificationError
from llm_platform.inference.core import EngineResult, complete
from llm_platform.inference.engine import default_wire
from llm_platform.inference.meter import Progress
from llm_platform.inference.policy import EnginePolicy
from llm_platform.inference.requests import PreparedRequest, RequestBuilder
from llm_platform.models.identity import observe
from llm_platform.nim.discovery import detect_dialect
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.serving.endpoints import target
from llm_platform.prompts.render import RenderedPrompt
from llm_platform.records import (
    Completion,
    Dialect,
    ModelPin,
    Prompt,
    PromptMessage,
    Release,
    Sampling,
    from_json_lines,
)
from llm_platform.settings.connection import Connection, endpoint_root

_WORDS = ("river", "contract", "seven", "window", "paper", "under", "green", "signal", "market", "quiet", "letter")
# While a run fills an endpoint and while it empties it, the endpoint is not what is measured.
_FIRST, _LAST = 0.1, 0.9
# What a model stops at by itself would make short answers of long ones; vLLM and NIM on it know the field.
_KNOWS_IGNORE_EOS = frozenset({"nim-2.x", "vllm"})


@dataclass(frozen=True)
class Load:
    """What is sent.

    Attributes:
        words: Words of one document.
        shared_words: So many of them are the same in all documents, as a long instruction is.
        answer_tokens: Tokens of each answer, where the endpoint can be told to go on; at most so many elsewhere.
    """

    requests: int = 1000
    words: int = 450
    shared_words: int = 150
    answer_tokens: int = 90
    seed: int = 7

    def __post_init__(self) -> None:
        if not 0 <= self.shared_words <= self.words or min(self.requests, self.words, self.answer_tokens) < 1:
            raise SpecificationError(
                f"{self.requests} requests of {self.words} words, {self.shared_words} of them shared, with answers of "
                f"{self.answer_tokens} tokens cannot be sent: counts start at 1, and what is shared (--shared-words) "
                "is a part of all (--words)."
            )


@dataclass(frozen=True)
class LoadFigures:
    """What came back.

    Attributes:
        seconds: From the first request to the last answer.
        requests_per_second: Of the answers between a tenth and nine tenths; over all of them where there are few.
        limit: Requests in flight that the engine ended with.
        failed: Cause → requests without an answer.
    """

    answered: int
    seconds: float
    requests_per_second: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    words: int
    limit: int
    latency_p50_seconds: float | None
    latency_p99_seconds: float | None
    failed: dict[str, int]

    def per_second(self, count: float) -> float:
        """A count of all answers, at the rate of the middle of the run."""
        return self.requests_per_second * count / self.answered if self.answered else 0.0

    def per_gpu_hour(self, count: float, gpus: int) -> float:
        """The same for each GPU and hour."""
        return 3600.0 * self.per_second(count) / gpus


@dataclass(frozen=True)
class Asked:
    """Whom a load is sent to.

    Attributes:
        urls: Roots of the endpoints.
        model: The name that requests carry.
    """

    urls: tuple[str, ...]
    model: str
    dialect: Dialect


def found(url: str, model: str | None, connection: Connection) -> Asked:
    """What an address serves, and how it speaks.

    Raises:
        EndpointMismatch: it serves no base model or several, and none is named.
        EndpointUnavailable: it does not answer.
    """
    with EndpointClient(connection) as client:
        names = [card.id for card in observe(url, client.get).models if card.base is None]
        if model is None and len(names) != 1:
            listed = ", ".join(names) or "none"
            raise EndpointMismatch(f"{url} serves {len(names)} base models ({listed}). Name the one to ask.")
        return Asked((endpoint_root(url),), model or names[0], detect_dialect(url, client))


def measure_load(
    asked: Asked,
    load: Load,
    *,
    connection: Connection | None = None,
    limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadFigures:
    """Send a load and count what comes back.

    Args:
        limit: Requests in flight for each; None has it found.

    Raises:
        EndpointUnavailable: nobody answers, or nothing that is an answer.
        EndpointMismatch: the endpoints refuse such requests.
    """
    connection = connection or Connection()
    policy = EnginePolicy(limit=limit, unavailable_after_seconds=60.0)
    finished: list[float] = []
    last: list[Progress] = []

    def note(progress: Progress) -> None:
        last[:] = [progress]
        if on_progress is not None:
            on_progress(progress)

    def take(lines: list[bytes]) -> None:
        rows = from_json_lines(Completion, lines)
        finished.extend(row.created_at.timestamp() for row in rows if row.completion_tokens)

    release = _release(asked, load)
    targets = [target(url, slots=None, connection=connection) for url in asked.urls]

    async def run() -> EngineResult:
        wire = default_wire(connection, policy)
        try:
            result = await complete(
                _requests(release, load),
                release=release,
                endpoints=targets,
                wire=wire,
                policy=policy,
                on_lines=take,
                on_progress=note,
                total=load.requests,
            )
        finally:
            await wire.close()
        if result.error is not None:
            raise result.error
        return result

    result = asyncio.run(run())
    if not finished:
        causes = ", ".join(f"{cause} {count}" for cause, count in result.meter.failed.items())
        raise EndpointUnavailable(f"None of {load.requests} requests was answered by {asked.model!r}: {causes}.")
    return _figures(load, result, finished=finished, limit=last[0].limit if last else 0)


def _figures(load: Load, result: EngineResult, *, finished: Sequence[float], limit: int) -> LoadFigures:
    meter = result.meter
    return LoadFigures(
        answered=len(finished),
        seconds=result.seconds,
        requests_per_second=_rate(sorted(finished), result.seconds),
        prompt_tokens=meter.prompt_tokens,
        cached_tokens=meter.cached_tokens,
        completion_tokens=meter.completion_tokens,
        words=load.words * len(finished),
        limit=limit,
        latency_p50_seconds=meter.latency.percentile(0.5),
        latency_p99_seconds=meter.latency.percentile(0.99),
        # An answer that was cut at its length is what was asked for here.
        failed={cause: count for cause, count in meter.failed.items() if cause != "truncated"},
    )


def _release(asked: Asked, load: Load) -> Release:
    message = PromptMessage(role="user", template="{{ text }}")
    # What the context holds is the endpoint's to say: it refuses what is too long.
    pin = ModelPin(entry="load", served_name=asked.model, dialect=asked.dialect, context_length=1)
    return Release(
        application="load",
        task="generate",
        model=pin,
        prompt=Prompt(name="load", api="chat", messages=(message,)),
        sampling=Sampling(max_tokens=load.answer_tokens),
        decision="text",
    )


def _requests(release: Release, load: Load) -> Iterator[PreparedRequest]:
    more = {"ignore_eos": True} if release.model.dialect in _KNOWS_IGNORE_EOS else {}
    builder = RequestBuilder(release, constraint=more)
    draw = random.Random(load.seed)
    shared = " ".join(draw.choices(_WORDS, k=load.shared_words))
    for number in range(load.requests):
        own = " ".join(draw.choices(_WORDS, k=load.words - load.shared_words))
        rendered = RenderedPrompt(
            messages=[{"role": "user", "content": f"{shared}\nDOC#{number:08d}# {own}"}], text=None
        )
        yield builder.prepare(document_id=str(number), fingerprint=str(number), rendered=rendered)


def _rate(finished: list[float], seconds: float) -> float:
    first, last = int(_FIRST * len(finished)), int(_LAST * len(finished)) - 1
    middle = finished[last] - finished[first] if last > first else 0.0
    return (last - first) / middle if middle > 0 else len(finished) / seconds
