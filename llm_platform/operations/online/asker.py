"""One release that answers callers: its endpoints, its ledger, and what is known of the texts it has answered."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from llm_platform.application.model import Application
from llm_platform.errors import EndpointUnavailable, PlatformError, RequestRejected
from llm_platform.inference.engine import default_wire
from llm_platform.inference.live import LiveAnswers, live_policy
from llm_platform.inference.policy import EndpointTarget
from llm_platform.inference.requests import PreparedRequest, RequestBuilder
from llm_platform.nim.dialects import constraint
from llm_platform.nim.http import EndpointClient
from llm_platform.operations.answering.fitting import BudgetedRenderer, LongDocument
from llm_platform.operations.answering.levels import Joining
from llm_platform.operations.answering.sending import Asking, renderer_of, require_told_apart
from llm_platform.operations.online.account import OnlineAccount
from llm_platform.operations.online.ledger import OnlineLedger
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.prompts.render import RenderedPrompt
from llm_platform.records import Completion, CompletionStatus, DocumentRow, Release

Result = TypeVar("Result")
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 10.0
OTHERS_SECONDS, OTHERS_LOOK_SECONDS = 10.0, 0.1
"""So long a caller waits for the answer that another process has asked for, and half of what its deadline leaves."""
LONGEST_LOOK_SECONDS = 10.0
"""So long a caller waits for a look at what others have just committed: longer, and its text may be paid for twice."""
KEPT_ANSWERS = 20_000
"""Answers in memory, the newest: what is not in the lake yet is found among them."""


class PromptTooLong(RequestRejected):
    """A document that is asked about in parts.

    Attributes:
        document: How long it is.
    """

    def __init__(self, document: LongDocument) -> None:
        super().__init__(
            f"The prompt has {document.tokens} tokens, more than the model has room for, and nothing asks about its "
            "parts now. Shorten the document, or ask again."
        )
        self.document = document


@dataclass(frozen=True)
class Found:
    """An answer, and whether it was there before."""

    completion: Completion
    was_stored: bool


@dataclass(frozen=True)
class _Rendering:
    """What makes requests of documents, once an endpoint is there."""

    renderer: BudgetedRenderer
    builder: RequestBuilder


class Asker:
    """Answers texts for one release that sends its own requests; its methods belong to the event loop.

    Args:
        paid_by: Release on whose account its requests are: of parts of documents, the documents' own.

    Attributes:
        problem: Why no endpoint is asked now, in words; None while it is.
        live: The requests that wait, and what the engine says.
        account: What it has sent and paid.
        asked_again: Texts that were asked again, since their stored answers could not be read.
        callers: How many are being answered by it, also those whose text is still looked up.
    """

    def __init__(
        self,
        release: Release,
        *,
        application: Application,
        asking: Asking,
        ledger: OnlineLedger,
        lake: OpenLake,
        threads: ThreadPoolExecutor,
        paid_by: str,
    ) -> None:
        self.release, self.ledger = release, ledger
        self.problem: str | None = "Its endpoints have not shown yet that they serve what the lock file pins."
        self.live = LiveAnswers(
            release, live_policy(asking.policy), ledger.keep, asking.run_id, on_answer=self._on_answer
        )
        self.account = OnlineAccount(paid_by, self.live)
        self.asked_again = self.callers = 0
        self._application, self._asking, self._lake, self._threads = application, asking, lake, threads
        # Counting tokens waits for an endpoint, and one document after the other is enough.
        self._counting = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm-platform-counting")
        self._rendering: _Rendering | None = None
        self._open = ExitStack()
        self._client = self._open.enter_context(EndpointClient(asking.connection))
        self._has_valid = False
        self._recent: OrderedDict[str, Completion] = OrderedDict()
        self._looking: asyncio.Task[None] | None = None
        self._wanted: dict[str, asyncio.Future[Completion | None]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether a new text would be sent now."""
        return self._rendering is not None and not self.live.is_away

    async def run(self) -> None:
        """Keep endpoints verified and asked until `stop`."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                targets = await self._in_thread(self._bring_up)
                self.problem = None
                self.problem = await self._answer_until_it_ends(targets)
            except PlatformError as error:
                self.problem = str(error)
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > 60.0 else min(2 * pause, LONGEST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    def stop(self) -> None:
        """Send nothing new; what is in flight is waited for, and stored."""
        self._stop.set()

    async def close(self) -> None:
        """Store what is left, once `run` has ended."""
        for task in (self._looking, self._reading):
            if task is not None:
                await asyncio.gather(task, return_exceptions=True)
        try:
            await self._in_thread(self.ledger.close)
        finally:
            self._counting.shutdown(wait=False)
            self._open.close()

    async def stored(self, fingerprint: str, *, look_seconds: float | None = None) -> Completion | None:
        """The answer that a text has already, whoever has asked for it; None where it has none.

        Where the lake is away, or does not say within `look_seconds` (`LONGEST_LOOK_SECONDS` if not given) what others
        have just committed, of as many as are known.
        """
        if (recent := self._recent.get(fingerprint)) is not None:
            return recent
        answered = self.ledger.answered
        if answered is None or fingerprint not in answered:
            if answered is None or not answered.is_current:
                await self._fresh(LONGEST_LOOK_SECONDS if look_seconds is None else look_seconds)
                answered = self.ledger.answered
            if answered is None or fingerprint not in answered:
                return None
        return await self._read(fingerprint)

    def waiting_for(self, fingerprint: str) -> asyncio.Future[Completion] | None:
        """The answer to a text that somebody has asked for a moment ago."""
        return self.live.find(fingerprint)

    async def ask(self, row: DocumentRow, *, until: float) -> asyncio.Future[Completion]:
        """Send a text that has no answer.

        Raises:
            EndpointUnavailable: no endpoint answers now.
            PromptTooLong: it is asked about in parts.
        """
        rendering = self._required_rendering()
        unsent = PreparedRequest(row.document_id, row.fingerprint, rendering.builder.path, b"")
        try:
            rendered = rendering.renderer.render_uncounted(row)
            if rendered is None:
                loop = asyncio.get_running_loop()
                rendered = await loop.run_in_executor(self._counting, _counted, rendering.renderer, row)
            request = rendering.builder.prepare(
                document_id=row.document_id, fingerprint=row.fingerprint, rendered=rendered
            )
        except PromptTooLong:
            raise
        except RequestRejected as error:
            return self.live.refuse(unsent, str(error))
        found = await self._of_others(row.fingerprint, until)
        # Somebody else's request may have come back while this one was looked up.
        found = found or self._recent.get(row.fingerprint)
        if found is not None:
            answered: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
            answered.set_result(found)
            return answered
        return self.live.ask(request, until=until)

    async def cut(self, row: DocumentRow, document: LongDocument) -> list[DocumentRow]:
        """The parts of a document that is asked about in parts, as a bulk run cuts it.

        Raises:
            EndpointUnavailable: no endpoint counts its tokens now.
            RequestRejected: the prompt leaves no room for a part.
        """
        renderer = self._required_rendering().renderer
        return await asyncio.get_running_loop().run_in_executor(self._counting, renderer.parts, row, document)

    def joining(self) -> Joining:
        """What is to be asked of this release to put answers to parts together.

        Raises:
            EndpointUnavailable: no endpoint counts its tokens now.
        """
        return Joining(self.release, self._required_rendering().renderer)

    async def groups(self, joining: Joining, row: DocumentRow, answers: Sequence[str]) -> list[list[str]] | None:
        """Those of `joining`, whose tokens an endpoint counts."""
        return await asyncio.get_running_loop().run_in_executor(self._counting, joining.groups, row, answers)

    def _required_rendering(self) -> _Rendering:
        if self._rendering is None:
            raise EndpointUnavailable("The model does not answer now.")
        return self._rendering

    async def _of_others(self, fingerprint: str, until: float) -> Completion | None:
        """The answer of a process that asks about a text already; None where it is ours to ask, or that takes long."""
        now = time.monotonic()
        give_up = now + min(OTHERS_SECONDS, (until - now) / 2)
        while not self.ledger.begin(fingerprint) and time.monotonic() < give_up:
            await asyncio.sleep(OTHERS_LOOK_SECONDS)
            found = await self._in_thread(partial(self.ledger.of_others, fingerprint))
            left = give_up - time.monotonic()
            if found is not None or (found := await self.stored(fingerprint, look_seconds=left)) is not None:
                return found
        return None

    def _on_answer(self, row: Completion) -> None:
        self._has_valid = self._has_valid or row.status is CompletionStatus.VALID
        self._recent[row.fingerprint] = row
        if len(self._recent) > KEPT_ANSWERS:
            self._recent.popitem(last=False)
        if (answered := self.ledger.answered) is not None:
            answered.add([row.fingerprint])

    async def _fresh(self, longest_seconds: float) -> None:
        """Have looked at the lake since now, or waited for so long where an earlier look is known."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self.ledger.answered is None else longest_seconds):
                await self._looked()

    async def _looked(self) -> None:
        """Have looked at the lake since now; callers that come together share a look."""
        running = self._looking
        if running is not None and not running.done():
            # It may have begun before somebody committed what we are to see.
            await asyncio.wait([running])
            answered = self.ledger.answered
            if answered is not None and answered.is_current:
                return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait([self._looking])

    async def _look(self) -> None:
        # What is wrong is in the ledger's `problems`; texts are answered all the same.
        with suppress(PlatformError):
            await self._in_thread(self.ledger.look)

    async def _read(self, fingerprint: str) -> Completion | None:
        """A stored answer; None where there is none after all, or it cannot be read now."""
        waiting = self._wanted.get(fingerprint)
        if waiting is None:
            waiting = self._wanted[fingerprint] = asyncio.get_running_loop().create_future()
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_wanted())
        return await asyncio.shield(waiting)

    async def _read_wanted(self) -> None:
        """One question for all that wait, then one for those that have come meanwhile."""
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            found: dict[str, Completion] = {}
            try:
                found = await self._in_thread(partial(self.ledger.read, tuple(wanted)))
            except PlatformError:
                self.asked_again += len(wanted)
                self.ledger.asks_again()
            for fingerprint, waiting in wanted.items():
                if not waiting.done():
                    waiting.set_result(found.get(fingerprint))

    def _bring_up(self) -> Sequence[EndpointTarget]:
        targets = self._asking.endpoints()
        try:
            store = self._lake.lake().application(self._application.name)
        except PlatformError:
            if self._rendering is None:
                raise
            return targets  # what was made of the lake is as it was
        if self.release.serves is not None:
            store.releases.put(self.release)
        renderer = renderer_of(
            store, self.release, application=self._application, target=targets[0], client=self._client
        )
        if self.release.long_documents is not None:
            renderer.require_tokenizer()
        require_told_apart(self.release, targets[0], self._client)
        self._rendering = _Rendering(renderer, RequestBuilder(self.release, constraint=constraint(self.release)))
        return targets

    async def _answer_until_it_ends(self, targets: Sequence[EndpointTarget]) -> str | None:
        wire = default_wire(self._asking.connection, self.live.policy)
        self.account.begin()
        try:
            result = await self.live.run(
                tuple(targets),
                wire,
                stop=self._stop,
                discover=self._asking.endpoints,
                has_answers=self._has_answers,
            )
        finally:
            await wire.close()
        await self.put_on_record()
        return None if result.error is None else str(result.error)

    async def put_on_record(self) -> None:
        """Store what was sent and paid since the last time; where the lake is away, the next time."""
        run = self.account.since_the_last(self._asking)
        if run is None:
            return
        with suppress(PlatformError):
            await self._in_thread(partial(self.ledger.append_run, run))
            self.account.is_stored()

    def _has_answers(self) -> bool:
        return self._has_valid or bool(self.ledger.answered)

    def _in_thread(self, work: Callable[[], Result]) -> Awaitable[Result]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)


def _counted(renderer: BudgetedRenderer, row: DocumentRow) -> RenderedPrompt:
    """The prompt of a document whose tokens have to be counted.

    Raises:
        PromptTooLong: it is asked about in parts.
    """
    rendered = renderer.render(row)
    if rendered is None:
        raise PromptTooLong(renderer.long.pop())
    return rendered
