"""What a service has answered for one release: on the disk before anybody has it, in the lake within seconds.

The lake may be away: answers then stay in their journal, and which texts have been answered is known as of the last
look.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from llm_platform.errors import PlatformError
from llm_platform.inference.answers import recalibrate
from llm_platform.inference.asked import AskedTexts
from llm_platform.inference.journal import Journal, held, recover
from llm_platform.operations.answering.sending import ASKED_SECONDS, asked_file, journals_of
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.records import Completion, InferenceRun, Release, from_json_lines
from llm_platform.warehouse.answered import AnsweredTexts, OnlineLease
from llm_platform.warehouse.store import ApplicationStore

_NEVER = float("inf")


class OnlineLedger:
    """The answers of one release that sends its own requests.

    `keep` is called in the thread of the engine's sink, everything else in threads of its own.

    Args:
        journals: Folder of the journals of the namespace.
        run_id: Whose answers these are.

    Attributes:
        problems: `read`, `write` → why the last of them did not succeed; what did is left out.
        uncommitted: Answers that are in the journal only.
        derived: Calibrated releases, whose answers are made of these.
    """

    def __init__(self, lake: OpenLake, application: str, release_id: str, *, journals: Path, run_id: str) -> None:
        self.problems: dict[str, str] = {}
        self.uncommitted = 0
        self.derived: tuple[Release, ...] = ()
        self._lake, self._application, self._run_id = lake, application, run_id
        self._release_id = release_id
        self._journals = journals
        self._bulk, self._folder = journals_of(journals, application, release_id)
        self._asked: AskedTexts | None = None
        self._writing, self._committing, self._opening = threading.Lock(), threading.Lock(), threading.Lock()
        self._journal: Journal | None = None
        self._waiting: list[Completion] = []
        self._left_behind = True
        self._opened: tuple[int, ApplicationStore, OnlineLease] | None = None
        self._stack = ExitStack()

    @property
    def answered(self) -> AnsweredTexts | None:
        """Which texts have been answered; None before the lake was there for the first time."""
        return None if self._opened is None else self._opened[2].answered

    def keep(self, lines: list[bytes]) -> None:
        """Make answers safe: when this returns, they are on the disk.

        Raises:
            StorageError: they are not.
        """
        with self._writing:
            if self._journal is None:
                self._journal = self._begun()
            self._journal(lines)
            self.uncommitted += len(lines)
            if self.derived:
                self._waiting += from_json_lines(Completion, lines)

    def begin(self, fingerprint: str) -> bool:
        """Note that a text is being asked about from now on; False where another process asks about it already.

        Raises:
            StorageError: it cannot be noted.
        """
        return not self._noting().take([fingerprint], seconds=ASKED_SECONDS)

    def _noting(self) -> AskedTexts:
        if self._asked is None:
            place = asked_file(self._journals, self._application, self._release_id)
            self._asked = AskedTexts(place, self._run_id)
        return self._asked

    def of_others(self, fingerprint: str) -> Completion | None:
        """The answer that another process has to a text and not committed yet."""
        folders = (self._bulk, self._folder)
        return next((row for folder in folders for row in held(folder, Completion, about=fingerprint)), None)

    def look(self) -> None:
        """Take in what anybody has committed.

        Raises:
            PlatformError: the lake cannot be read.
        """
        with self._noted("read"), self._store() as (_, lease):
            lease.answered.look()

    def read(self, fingerprints: Sequence[str]) -> dict[str, Completion]:
        """Stored answers to some texts.

        Raises:
            PlatformError: the lake cannot be read.
        """
        with self._store() as (store, _):
            return {row.fingerprint: row for row in store.completions.records(self._release_id, fingerprints)}

    def asks_again(self) -> None:
        """A text that has an answer, which cannot be read now, is asked about again: the ledger has to be searched."""
        if self._opened is not None and (watch := self._opened[2].watch) is not None:
            watch.search_whole()

    def commit(self) -> None:
        """Store what waits, and what is left of services that died.

        Raises:
            PlatformError: the lake cannot be written; everything is kept for the next time.
        """
        with self._committing, self._noted("write"):
            if not self.uncommitted and not self._left_behind:
                return
            with self._store():
                pass  # the lake is there
            following = self._begun()
            with self._writing:
                journal, self._journal = self._journal, following
                rows, self._waiting = self._waiting, []
                count = self.uncommitted
            if journal is not None:
                self._left_behind = True
                with journal:
                    pass  # leaving it commits
            with recover(self._folder, Completion) as found:
                found.store(self._restore)
                rows += [row for row in found if self.derived]
            self._left_behind = False
            for release in self.derived if rows else ():
                self._restore([recalibrate(row, release) for row in rows])
            with self._writing:
                self.uncommitted -= count

    def append_run(self, run: InferenceRun) -> None:
        """Put on record what an engine has sent and paid.

        Raises:
            PlatformError: the lake cannot be written.
        """
        with self._store() as (store, _):
            store.runs.append(run)

    def close(self) -> None:
        """Commit the rest.

        Raises:
            PlatformError: the lake cannot be written; whoever answers for the release next stores what is left.
        """
        try:
            self.commit()
        finally:
            with self._writing:
                journal, self._journal = self._journal, None
            try:
                if journal is not None:
                    with journal:
                        pass
            finally:
                self._stack.close()
                if self._asked is not None:
                    self._asked.close()

    def _begun(self) -> Journal:
        return Journal(self._folder, self._commit_segment, commit_rows=10**9, commit_seconds=_NEVER)

    def _commit_segment(self, segment: Path) -> None:
        with self._store() as (store, lease):
            store.completions.append_file(lease, segment)

    def _restore(self, rows: Sequence[Completion]) -> None:
        with self._store() as (store, _):
            store.completions.restore(rows)

    @contextmanager
    def _store(self) -> Iterator[tuple[ApplicationStore, OnlineLease]]:
        """The tables and the lease, for this thread's turn."""
        with self._lake.turn():
            yield self._open()

    def _open(self) -> tuple[ApplicationStore, OnlineLease]:
        with self._opening:
            lake = self._lake.lake()
            if self._opened is None or self._opened[0] != self._lake.generation:
                generation = self._lake.generation
                store = lake.application(self._application)
                lease = store.completions.online_lease(self._release_id, holder=self._run_id)
                self._stack.close()
                self._stack = ExitStack()
                self._stack.enter_context(lease)
                # From now on runs note what they ask about.
                self._noting()
                self._opened = generation, store, lease
            return self._opened[1], self._opened[2]

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except PlatformError as error:
            self.problems[what] = str(error)
            raise
        self.problems.pop(what, None)
