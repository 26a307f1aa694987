"""Slots: how many generations are computed at once; the others wait in order of arrival, however many they are."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from llm_platform.nim_local.choices import generate_choice
from llm_platform.nim_local.constraints import Grammar, GrammarGuard, OneOf
from llm_platform.nim_local.engine import Engine
from llm_platform.nim_local.generation import Job, Outcome, Piece, generate_text
from llm_platform.nim_local.metrics import Metrics
from llm_platform.nim_local.signals import leave_signals_alone
from llm_platform.nim_local.turns import Turns


@dataclass
class Ticket:
    """One generation: what it has given so far, and the way to stop it."""

    job: Job
    arrived: float = field(default_factory=time.perf_counter)
    pieces: list[Piece] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    on_piece: Callable[[Piece], None] | None = None

    def emit(self, piece: Piece) -> None:
        """Take one piece; called in the slot's thread."""
        self.times.append(time.perf_counter())
        self.pieces.append(piece)
        if self.on_piece is not None:
            self.on_piece(piece)


class Scheduler:
    """Runs generations in the engine's slots."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._guard = GrammarGuard(engine)
        self._turns = Turns(engine.config.slots)
        self._threads = ThreadPoolExecutor(
            engine.config.slots, thread_name_prefix="slot", initializer=leave_signals_alone
        )

    async def run(self, ticket: Ticket) -> Outcome:
        """Wait for a slot and generate. Cancelling the task stops the generation at its next token.

        Raises:
            RequestRejected: the engine refused the request.
            EndpointUnavailable: the engine failed.
        """
        adapter = ticket.job.adapter
        with self._metrics.waiting(adapter):
            await self._turns.enter(adapter)
        self._metrics.left_queue(time.perf_counter() - ticket.arrived)
        self._metrics.begin(adapter)
        held = _expected_tokens(ticket.job)
        self._metrics.hold(held)
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._generate, ticket)
        running.add_done_callback(lambda done: self._release(done, held, adapter))
        try:
            outcome = await asyncio.shield(running)
        except asyncio.CancelledError:
            ticket.cancelled.set()
            self._metrics.finished("abort", prompt_tokens=0, completion_tokens=0, end_to_end=_since(ticket.arrived))
            raise
        self._record(ticket, outcome)
        return outcome

    def close(self) -> None:
        """Wait for the running generations and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _generate(self, ticket: Ticket) -> Outcome:
        job = ticket.job
        if isinstance(job.constraint, OneOf):
            return generate_choice(self._engine, job, emit=ticket.emit, cancelled=ticket.cancelled)
        if isinstance(job.constraint, Grammar):
            self._guard.check(job.constraint, job.adapter)
        return generate_text(self._engine, job, emit=ticket.emit, cancelled=ticket.cancelled)

    def _release(self, done: asyncio.Future[Outcome], held: int, adapter: str | None) -> None:
        if not done.cancelled():
            # Looked at, so that asyncio does not report the failure of a generation nobody waits for any more.
            done.exception()
        self._metrics.end(adapter)
        self._metrics.hold(-held)
        self._turns.leave()

    def _record(self, ticket: Ticket, outcome: Outcome) -> None:
        self._metrics.finished(
            outcome.finish_reason,
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            end_to_end=_since(ticket.arrived),
        )
        if ticket.times:
            between = [later - earlier for earlier, later in pairwise(ticket.times)]
            self._metrics.timed(first_token=ticket.times[0] - ticket.arrived, between_tokens=between)


def _expected_tokens(job: Job) -> int:
    """About how many tokens of cache a job fills; English text has four bytes a token."""
    return job.max_tokens + (len(job.prompt) // 4 if isinstance(job.prompt, str) else len(job.prompt))


def _since(moment: float) -> float:
    return time.perf_counter() - moment
