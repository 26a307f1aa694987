"""The answers of one application, for callers that wait: whose answer each gets, and from where."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_platform.documents.prepare import OneByOne, Prepared
from llm_platform.errors import ContractBroken, EndpointUnavailable, PlatformError, RequestRejected, SpecificationError
from llm_platform.inference.answers import ReadAnswer, recalibrate
from llm_platform.inference.live import Withdrawn
from llm_platform.inference.parts import failed_parts
from llm_platform.online.desk import DeskState, OnlineAnswer, Question, Turned
from llm_platform.operations.answering.documents import columns_read
from llm_platform.operations.answering.long_documents import answer_of_parts
from llm_platform.operations.answering.redacting import taking_out
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.spending import month_left, month_of, spent_by
from llm_platform.operations.online.asker import Asker, Found, PromptTooLong
from llm_platform.operations.online.deciding import Arm, Key, LiveDecision, live_decision
from llm_platform.operations.online.kept import KeptDocuments, KeptLooks
from llm_platform.operations.online.ledger import OnlineLedger
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Completion, DocumentRow, DocumentStatus, Release, Task
from llm_platform.redaction.redactor import put_back
from llm_platform.warehouse.store import ApplicationStore

logger = logging.getLogger(__name__)

AskingOf = Callable[[Release, str], Asking]
"""How a release is asked, on behalf of a run."""
AWAY_SECONDS = 5.0
"""What callers are told to wait where nobody knows how long an endpoint will be away."""
LONGEST_WAIT_SHARE = 0.5
"""A request that would wait longer than this share of its deadline before it is sent is turned away at once."""
UNKNOWN_PACE_ROWS = 32
"""So many may wait while nothing is known of the pace, or twice as many as are in flight."""
SWITCH_SECONDS = 10.0
"""So long a former champion answers while the endpoints of the next one are verified, and ends what it has begun."""
LOOK_SECONDS, LOOKS = 0.05, 20
USED_UP_SECONDS = 3600.0
"""What callers are told to wait once the month's budget is used up: somebody may raise it before the month ends."""
SHADOWED_ROWS = 200
"""So many documents may wait for a shadow; callers come first."""
USED_UP = (
    "The budget of the month of {} is used up: only texts that have an answer get one, until the month (UTC) ends or "
    "'budget.month' in application.yaml (or LLM_PLATFORM_BUDGET_MONTH_TOKENS, where that is less) is raised."
)


@dataclass(frozen=True)
class DeskPlace:
    """Where a service keeps what it does.

    Attributes:
        journals: Folder of the journals of the namespace.
        most_queued: Requests of one application that may wait to be sent.
    """

    lake: OpenLake
    journals: Path
    run_id: str
    most_queued: int


@dataclass(frozen=True)
class _Now:
    """A decision, and what documents are made by.

    Attributes:
        month_left: Tokens and money of `budget.month`, as far as is on record; None for no end.
    """

    loaded: LoadedApplication
    decision: LiveDecision
    making: OneByOne
    month_left: tuple[int | None, float | None]


class OnlineDesk:
    """Answers documents of one application; its methods belong to the event loop.

    Args:
        loading: Reads the files of the application.
        asking_of: How a release is asked.
        deciding: Who answers, as is stored.
    """

    def __init__(
        self,
        name: str,
        loading: Callable[[], LoadedApplication],
        *,
        asking_of: AskingOf,
        place: DeskPlace,
        threads: ThreadPoolExecutor,
        deciding: Callable[[ApplicationStore, LoadedApplication], LiveDecision | None] = live_decision,
    ) -> None:
        self._deciding = deciding
        self._name, self._loading, self._asking_of = name, loading, asking_of
        self._place, self._threads = place, threads
        self._loaded = loading()
        self._unread: str | None = None
        self._read_files: object = None
        self._take(self._loaded)
        self._now: _Now | None = None
        self._pending: tuple[_Now, float] | None = None
        self._is_closing = False
        self.askers: dict[Key, Asker] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._problem: str | None = "The decision which release serves has not been read yet."
        self._mark: object = None
        self._skipped_shadows = 0
        self._kept = KeptDocuments(place.lake, name, place.journals)
        self._looks = KeptLooks(place.lake, name, place.journals)

    def _take(self, loaded: LoadedApplication) -> None:
        self._loaded = loaded
        source = loaded.application.source
        self.task: Task = loaded.application.task
        self.columns = tuple(dict.fromkeys((*source.text_columns, *source.attributes)))
        # Not a template of one column.
        is_column = isinstance(source.text, str) and source.text_columns == (source.text,)
        self.text_column = str(source.text) if is_column else None

    def state(self) -> DeskState:
        """How it is now."""
        now, askers = self._now, list(self.askers.values())
        champion = None if now is None else self.askers.get(now.decision.champion.key)
        problem = self._problem if now is None or champion is None else None
        if champion is not None and not champion.is_ready:
            problem = champion.problem or "The model does not answer now."
        degraded = [text for asker in askers for text in asker.ledger.problems.values()]
        degraded += [self._problem] if self._problem is not None and now is not None else []
        degraded += [one.problem for one in askers if one.problem is not None and one is not champion]
        degraded += [] if now is None or self._month_has_room(now) else [USED_UP.format(self._name)]
        degraded += [*self._kept.problems, *self._looks.problems, *([self._unread] if self._unread is not None else [])]
        progress = None if champion is None else champion.live.progress
        return DeskState(
            problem=problem,
            degraded=tuple(dict.fromkeys(degraded)),
            champion=None if now is None else now.decision.champion.release_id,
            variant=None if now is None else now.decision.champion.variant,
            queued=sum(asker.live.queued for asker in askers),
            open=sum(asker.live.open for asker in askers),
            limit=0 if progress is None else progress.limit,
            uncommitted=sum(asker.ledger.uncommitted for asker in askers),
            asked_again=sum(asker.asked_again for asker in askers),
            skipped_shadows=self._skipped_shadows,
        )

    async def answer(self, question: Question) -> OnlineAnswer:
        """The answer to one document, once it is safe on the disk.

        Raises:
            Turned: there is none.
        """
        now = self._now
        if now is None:
            raise Turned(503, "not_ready", self._problem or "Nothing serves yet.", retry_after=AWAY_SECONDS)
        until = time.monotonic() + question.deadline_seconds
        prepared = self._prepared(question, now)
        row = prepared.row
        arm = now.decision.arm_of(row.document_id)
        try:
            found = await self._found(self.askers[arm.key], row, until=until)
        except PromptTooLong as error:
            found = await self._in_parts(arm, row, error, until=until)
        completion = found.completion
        if arm.release_id != arm.sender_id:
            completion = recalibrate(completion, arm.release)
        self._note(question.caller, row.document_id)
        if self._loaded.application.online.keep_documents:
            self._keep(prepared, now, question)
        self._shadow(now.decision, row, until=until)
        completion = self._with_withheld(completion, prepared, now)
        return OnlineAnswer(row.document_id, arm.variant, arm.release_id, completion, found.was_stored)

    async def notify(self, caller: str) -> None:
        """Store that a caller says that the source has changed.

        Raises:
            Turned: it could not be stored.
        """

        def store() -> None:
            with self._place.lake.turn() as lake:
                lake.application(self._name).notices.append("webhook", by=caller, at=datetime.now(UTC))

        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, store)
        except PlatformError as error:
            logger.warning("A notice of %s was not stored: %s", self._name, error)
            raise Turned(503, "not_stored", "The notice could not be stored.", retry_after=AWAY_SECONDS) from None

    async def refresh(self) -> None:
        """Follow the stored decision; where it cannot be read, the last one holds."""
        loop = asyncio.get_running_loop()
        try:
            mark, now = await loop.run_in_executor(self._threads, self._read_decision)
        except PlatformError as error:
            self._problem, self._mark = str(error), None
            return
        for asker in list(self.askers.values()):
            with suppress(PlatformError):  # it is in the ledger's problems
                await loop.run_in_executor(self._threads, asker.ledger.look)
        if mark == self._mark:
            self._switch()
            return
        self._mark = mark
        if now is None:
            self._problem = (
                f"{self._name} has no champion: nothing has been promoted yet. Run it first: llm-platform run "
                f"{self._name}"
            )
            return
        if self._now is not None:
            self._problem = None
        self._pending = now, time.monotonic() + SWITCH_SECONDS
        self._start_missing(now)
        champion = self.askers[now.decision.champion.key]
        for _ in range(LOOKS):
            if champion.is_ready:
                break
            await asyncio.sleep(LOOK_SECONDS)
        self._switch()

    async def commit(self) -> None:
        """Store what waits; where that fails, it is kept, and `state` says why."""
        loop = asyncio.get_running_loop()
        for asker in list(self.askers.values()):
            with suppress(PlatformError):
                await loop.run_in_executor(self._threads, asker.ledger.commit)
        for kept in (self._kept, self._looks):
            with suppress(PlatformError):
                await loop.run_in_executor(self._threads, kept.commit)

    @property
    def is_cut_off(self) -> bool:
        """Whether the lake could not be read or written the last time."""
        return self._mark is None or any(asker.ledger.problems for asker in self.askers.values())

    async def close(self) -> None:
        """Wait for what is in flight, and store everything."""
        self._is_closing = True
        for asker in self.askers.values():
            asker.stop()
        await asyncio.gather(*self._running.values(), *self._others, return_exceptions=True)
        for asker in self.askers.values():
            with suppress(PlatformError):  # whoever answers next stores what is left
                await asker.close()
        for kept in (self._kept, self._looks):
            with suppress(PlatformError):
                await asyncio.get_running_loop().run_in_executor(self._threads, kept.close)

    def _read_decision(self) -> tuple[object, _Now | None]:
        """The mark of the lake, and what it says where that is another one; in a thread."""
        lake = self._place.lake.lake()
        files = self._files()
        mark = lake.mark(), files, month_of(datetime.now(UTC))
        if mark == self._mark:
            return mark, None
        with self._place.lake.turn() as lake:
            return mark, self._read_now(lake.application(self._name), files)

    def _read_now(self, store: ApplicationStore, files: object) -> _Now | None:
        self._looks.learn(store)
        loaded = self._loaded if files == self._read_files else self._reloaded(files)
        decision = self._deciding(store, loaded)
        if decision is None:
            return None
        application, taken_out = loaded.application, taking_out(loaded.application)
        if taken_out is not None:
            taken_out.redactor.load()
        making = OneByOne(
            application.source,
            application.documents,
            read_by_prompts=columns_read(loaded, store),
            taking_out=taken_out,
        )
        left = month_left(application.budget.month, spent_by(store, loaded, None))
        return _Now(loaded, decision, making, left)

    def _files(self) -> object:
        """Another one after every change of the application's files."""
        folder = self._loaded.application.folder
        with suppress(OSError):
            found = [(path, path.stat()) for path in (*folder.glob("*.yaml"), *folder.glob("*/*.md"))]
            return frozenset((path.name, stat.st_mtime_ns, stat.st_size) for path, stat in found)
        return None

    def _reloaded(self, files: object) -> LoadedApplication:
        """The application as its files say now; with mistakes in them, as they said before."""
        self._read_files = files
        try:
            loaded, self._unread = self._loading(), None
        except SpecificationError as error:
            self._unread = str(error)
            return self._loaded
        return loaded

    def _switch(self) -> None:
        """Follow the newest decision, once its champion's endpoints have been verified: callers are answered meanwhile.

        Where they are not within `SWITCH_SECONDS`, or the former champion does not answer either, it is followed as it
        is.
        """
        if self._pending is None:
            return
        now, until = self._pending
        self._start_missing(now)
        former = None if self._now is None else self.askers.get(self._now.decision.champion.key)
        is_ready = self.askers[now.decision.champion.key].is_ready
        if not is_ready and former is not None and former.is_ready and time.monotonic() < until:
            return
        self._pending = None
        self._follow(now)

    def _start_missing(self, now: _Now) -> None:
        for arm in now.decision.arms.values():
            for key, sender in arm.senders.items():
                if key not in self.askers:
                    self._start(key, sender, paid_by=arm.sender_id)

    def _follow(self, now: _Now) -> None:
        self._take(now.loaded)
        derived: dict[Key, list[Release]] = {key: [] for arm in now.decision.arms.values() for key in arm.senders}
        for arm in now.decision.arms.values():
            if arm.release.calibration is not None:
                derived[arm.key].append(arm.release)
        for key, releases in derived.items():
            self.askers[key].ledger.derived = tuple(releases)
        self._now, self._problem = now, None
        for key in [one for one in self.askers if one not in derived]:
            self._retire(key)

    def _start(self, key: Key, sender: Release, *, paid_by: str) -> None:
        place = self._place
        ledger = OnlineLedger(place.lake, self._name, sender.release_id, journals=place.journals, run_id=place.run_id)
        asker = Asker(
            sender,
            application=self._loaded.application,
            asking=self._asking_of(sender, place.run_id),
            ledger=ledger,
            lake=place.lake,
            threads=self._threads,
            paid_by=paid_by,
        )
        self.askers[key] = asker
        self._running[key] = asyncio.create_task(asker.run())

    def _retire(self, key: Key) -> None:
        """Let what is in flight come back, and store it."""
        asker, running = self.askers.pop(key), self._running.pop(key)

        async def close() -> None:
            until = time.monotonic() + SWITCH_SECONDS
            # A caller who was given to it a moment ago has sent nothing yet.
            while (asker.live.open or asker.callers) and time.monotonic() < until and not self._is_closing:
                await asyncio.sleep(LOOK_SECONDS)
            asker.stop()
            await asyncio.gather(running, return_exceptions=True)
            with suppress(PlatformError):
                await asker.close()

        self._spawn(close())

    def _prepared(self, question: Question, now: _Now) -> Prepared:
        try:
            prepared = now.making.document(question.values, key=question.document_id)
        except ContractBroken as error:
            raise Turned(422, "impossible_document", str(error)) from None
        if prepared.status is not DocumentStatus.SENDABLE:
            raise Turned(422, prepared.status.value, f"The document cannot be answered: {prepared.reason}.")
        return prepared

    async def _found(self, asker: Asker, row: DocumentRow, *, until: float) -> Found:
        """The answer to a text.

        Raises:
            Turned: there is none.
            PromptTooLong: it is asked about in parts.
        """
        asker.callers += 1
        came_at = datetime.now(UTC)
        try:
            async with self._told(until):
                waiting = asker.waiting_for(row.fingerprint)
                if waiting is None:
                    stored = await asker.stored(row.fingerprint)
                    if stored is not None:
                        return Found(stored, was_stored=True)
                    self._admit(asker, until)
                    waiting = await asker.ask(row, until=until)
                # Somebody else's, that was found late, may have been there before.
                completion = await asyncio.shield(waiting)
                return Found(completion, was_stored=completion.created_at < came_at)
        finally:
            asker.callers -= 1

    async def _in_parts(self, arm: Arm, row: DocumentRow, long: PromptTooLong, *, until: float) -> Found:
        """The answer to a document out of those to its parts, which are stored: a run makes its row of them.

        Raises:
            Turned: there is none.
        """
        if arm.parts is None:
            raise Turned(422, "too_long", str(long))
        async with self._told(until):
            parts = await self.askers[arm.key].cut(row, long.document)
        found = await self._found_all(self.askers[arm.key_of(arm.parts)], parts, until=until)
        answers = [one.completion for one in found]
        joined: ReadAnswer | None = None
        asked: list[Found] = []
        if arm.together is not None and failed_parts(answers) is None:
            joined, asked = await self._joined(self.askers[arm.key_of(arm.together)], row, answers, until=until)
        paid = [one.completion for one in (*found, *asked) if not one.was_stored]
        answer = answer_of_parts(
            arm.sender,
            row,
            answers,
            joined=joined,
            asked=[one.completion for one in asked],
            paid=paid,
            run_id=self._place.run_id,
        )
        return Found(answer, was_stored=not paid)

    async def _joined(
        self, asker: Asker, row: DocumentRow, parts: Sequence[Completion], *, until: float
    ) -> tuple[ReadAnswer, list[Found]]:
        """What a model makes of the answers to the parts of a document, and what it was asked for that.

        Raises:
            Turned: there is none.
        """
        asked: list[Found] = []
        answers: list[str] | None = [part.answer or "" for part in parts]
        async with self._told(until):
            joining = asker.joining()
        while answers is not None:
            async with self._told(until):
                groups = await asker.groups(joining, row, answers)
            if groups is None:
                break
            found = await self._found_all(asker, joining.questions(row, groups), until=until)
            asked += found
            said = {one.completion.fingerprint: one.completion for one in found}
            answers = joining.next_level(row, groups, said)
        return joining.readings[row.fingerprint], asked

    async def _found_all(self, asker: Asker, rows: Sequence[DocumentRow], *, until: float) -> list[Found]:
        return await asyncio.gather(*(self._found(asker, row, until=until) for row in rows))

    @asynccontextmanager
    async def _told(self, until: float) -> AsyncIterator[None]:
        """Whatever goes wrong in the block until then is what the caller is told."""
        try:
            async with asyncio.timeout(until - time.monotonic()):
                yield
        except (TimeoutError, Withdrawn):
            raise Turned(
                504, "deadline", "There was no answer before the deadline. What was sent is stored when it comes back: "
                "ask again.", retry_after=1.0,
            ) from None  # fmt: skip
        except EndpointUnavailable:
            raise _away() from None
        except PromptTooLong:
            raise
        except ContractBroken as error:
            raise Turned(422, "impossible_document", str(error)) from None
        except RequestRejected as error:
            raise Turned(422, "too_long", str(error)) from None
        except PlatformError as error:
            logger.error("A document of %s was not answered: %s", self._name, error)
            raise Turned(
                503, "not_answered", "The service cannot answer now; its log says why.", retry_after=AWAY_SECONDS
            ) from None

    def _admit(self, asker: Asker, until: float) -> None:
        """Turn a request away that would wait for long before it is sent, or that nobody has agreed to pay for.

        Raises:
            Turned: with how long the queue is, in seconds.
        """
        live = asker.live
        if self._now is not None and not self._month_has_room(self._now):
            raise Turned(503, "budget_used_up", USED_UP.format(self._name), retry_after=USED_UP_SECONDS)
        if not asker.is_ready:
            raise _away()
        if not live.queued:
            return
        wait = live.wait_seconds
        allowed = LONGEST_WAIT_SHARE * (until - time.monotonic())
        is_full = live.queued >= self._place.most_queued
        most = max(UNKNOWN_PACE_ROWS, 2 * live.progress.limit if live.progress is not None else 0)
        if is_full or (wait is None and live.queued >= most) or (wait is not None and wait > allowed):
            seconds = math.ceil(min(max(wait or 1.0, 1.0), 60.0))
            raise Turned(
                429, "too_many_requests", f"{live.queued} documents of {self._name} wait already. Try again in "
                f"{seconds} s.", retry_after=seconds,
            )  # fmt: skip

    def _note(self, caller: str, document_id: str) -> None:
        """Write down who gets an answer, before it does.

        Raises:
            Turned: it cannot be written down.
        """
        try:
            self._looks.note(caller, document_id)
        except PlatformError as error:
            logger.error("An answer of %s is not given, since nobody could tell to whom: %s", self._name, error)
            raise Turned(
                503, "not_answered", "The service cannot answer now; its log says why.", retry_after=AWAY_SECONDS
            ) from None

    def _with_withheld(self, completion: Completion, prepared: Prepared, now: _Now) -> Completion:
        """An answer as its caller gets it; what is stored keeps the placeholders."""
        redaction = now.loaded.application.redaction
        if redaction is None or not redaction.put_back or completion.answer is None:
            return completion
        answer = put_back(completion.answer, prepared.withheld, is_json=self.task == "extract")
        return completion.model_copy(update={"answer": answer})

    def _keep(self, prepared: Prepared, now: _Now, question: Question) -> None:
        try:
            columns = now.making.storable(question.values, prepared.withheld)
            self._kept.keep_document(prepared.row.document_id, columns)
        except PlatformError as error:
            logger.error("A document of %s is answered and not kept: %s", self._name, error)

    def _shadow(self, decision: LiveDecision, row: DocumentRow, *, until: float) -> None:
        """Have shadows answer, once the reply is on its way; where they have no room, they do not."""
        for arm in decision.shadows_of(row.document_id):
            # It may have been withdrawn since the caller came.
            asker = self.askers.get(arm.key)
            has_room = asker is not None and asker.is_ready and asker.live.queued < SHADOWED_ROWS
            if asker is None or not has_room or not self._may_spend(arm, asker):
                self._skipped_shadows += 1
                continue
            self._spawn(self._shadowed(asker, row, until=until + 600.0))

    def _may_spend(self, arm: Arm, asker: Asker) -> bool:
        """Whether a shadow's budget and the month's leave anything."""
        in_month = self._now is None or self._month_has_room(self._now)
        return in_month and self._has_room(arm.budget_tokens, arm.budget_usd, [asker])

    def _month_has_room(self, now: _Now) -> bool:
        return self._has_room(*now.month_left, self.askers.values())

    def _has_room(self, tokens: int | None, usd: float | None, askers: Iterable[Asker]) -> bool:
        """Whether a budget leaves anything, with what is not on record yet of those who take from it."""
        taken = [(one.release.model.entry, *one.account.unrecorded) for one in askers]
        if tokens is not None and sum(usage.total for _, usage, _ in taken) >= tokens:
            return False
        costs = (self._loaded.prices(entry).cost_usd(seconds, usage) for entry, usage, seconds in taken)
        return usd is None or sum(costs) < usd

    async def put_on_record(self) -> None:
        """Store what was sent and paid since the last time."""
        for asker in list(self.askers.values()):
            await asker.put_on_record()

    async def _shadowed(self, asker: Asker, row: DocumentRow, *, until: float) -> None:
        with suppress(PlatformError, TimeoutError):
            if asker.waiting_for(row.fingerprint) is None and await asker.stored(row.fingerprint) is None:
                await asyncio.shield(await asker.ask(row, until=until))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)


def _away() -> Turned:
    return Turned(
        503, "model_away", "The model does not answer now. Nothing was lost; ask again later.", retry_after=AWAY_SECONDS
    )
