"""Calls of people's and teams' own code, on their way to the lake.

A call is written to a file when its reply has been read, which survives the death of this process, and reaches the lake
in the background: a commit takes tens of milliseconds, and nobody should wait for it. What a process leaves behind is
stored by the next one of the same namespace.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from llm_platform.errors import PlatformError, StorageError
from llm_platform.inference.journal import Journal, recover
from llm_platform.records import Call, from_json_lines, json_lines

logger = logging.getLogger(__name__)

COMMIT_SECONDS = 2.0
SYNC_SECONDS = 0.25
_NEVER = float("inf")


class CallRecorder:
    """Takes calls from any thread; `close` (or the end of the process) stores the last ones.

    A call that cannot be recorded is an error in the log and, at `flush`, an exception; the caller of the model has
    its answer all the same.

    Args:
        folder: Where calls are kept until they are in the lake; on storage that outlives the process.
        store: Stores calls in the lake, each id once.
        commit_seconds: How long calls are collected for one commit.
    """

    def __init__(
        self, folder: Path, store: Callable[[list[Call]], object], *, commit_seconds: float = COMMIT_SECONDS
    ) -> None:
        self._folder, self._store, self._commit_seconds = folder, store, commit_seconds
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._journal: Journal | None = None
        self._unwritten: list[Call] = []
        self._waiting, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def record(self, call: Call) -> None:
        """Take a call; never raises for a disk or a lake that fails."""
        with self._lock:
            try:
                if self._journal is None:
                    self._journal = Journal(
                        self._folder, self._commit_segment, commit_rows=10**9, commit_seconds=_NEVER, synced=False
                    )
                self._journal(json_lines([call]))
            except StorageError as error:
                self._unwritten.append(call)
                logger.error("A call of %s is only in memory: %s", call.caller, error)
            self._run_in_background()
        self._waiting.set()

    def flush(self) -> None:
        """Store everything that was recorded so far, and what dead processes left behind.

        Raises:
            StorageError: the lake cannot be written; the calls are kept for the next attempt.
            TransientError: the same, and trying again may help.
        """
        with self._flushing:
            with self._lock:
                journal, self._journal = self._journal, None
                unwritten, self._unwritten = self._unwritten, []
                self._waiting.clear()
            try:
                if journal is not None:
                    with journal:
                        pass  # leaving it commits
                self._commit(unwritten)
                unwritten = []
                with recover(self._folder, Call) as left_behind:
                    left_behind.store(self._commit)
            finally:
                with self._lock:
                    self._unwritten = unwritten + self._unwritten

    def close(self) -> None:
        """Store the rest and stop; what is recorded afterwards begins anew."""
        self._closed.set()
        self._waiting.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            atexit.unregister(self._at_exit)
        self._closed.clear()
        self.flush()

    def _commit(self, calls: list[Call]) -> None:
        if calls:
            self._store(calls)

    def _commit_segment(self, segment: Path) -> None:
        self._commit(from_json_lines(Call, segment.read_bytes().splitlines()))

    def _run_in_background(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="llm-platform-calls", daemon=True)
            self._thread.start()
            atexit.register(self._at_exit)

    def _work(self) -> None:
        while not self._closed.is_set():
            self._waiting.wait()
            waited = 0.0
            while waited < self._commit_seconds and not self._closed.wait(SYNC_SECONDS):
                waited += SYNC_SECONDS
                self._sync()
            if not self._closed.is_set():
                self._try_flush()

    def _sync(self) -> None:
        with self._flushing:
            with self._lock:
                journal = self._journal
            try:
                if journal is not None:
                    journal.sync()
            except OSError as error:
                logger.error("Calls in %s are not safe from a power cut: %s", self._folder, error.strerror)

    def _try_flush(self) -> None:
        try:
            self.flush()
        except PlatformError as error:
            logger.error("Calls are kept in %s and not in the lake yet: %s", self._folder, error)

    def _at_exit(self) -> None:
        self._closed.set()
        self._try_flush()
