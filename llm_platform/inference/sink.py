"""The one thread that hands answers to storage.

It is supervised: a sink that raises, or that does not return, ends the run with its reason; the run never waits for it
without a deadline.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from llm_platform.errors import PlatformError, StorageError
from llm_platform.inference.threads import step_aside

OnLines = Callable[[list[bytes]], None]
"""Stores answers, each the JSON of a `Completion` with all its fields."""


class SinkWriter:
    """Calls the sink from a thread of its own, one batch at a time.

    While one batch is written, those that arrive are joined: a slow sink gets fewer and larger ones.

    Args:
        steps_aside: Whether other threads go first; not where somebody waits for what is stored.
    """

    def __init__(self, on_lines: OnLines, *, timeout_seconds: float, steps_aside: bool = True) -> None:
        self._on_lines, self._steps_aside = on_lines, steps_aside
        self._timeout_seconds = timeout_seconds
        self._queue: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._busy_since: float | None = None
        self._error: BaseException | None = None
        self._handed_over = 0
        self.stored = 0
        # A daemon: a sink that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._write, name="llm-platform-sink", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Rows handed over and not yet stored."""
        return self._handed_over - self.stored

    def put(self, lines: list[bytes]) -> None:
        """Hand rows over; returns at once."""
        self._handed_over += len(lines)
        self._queue.put(lines)

    def failure(self) -> PlatformError | None:
        """Why the sink no longer stores anything, or None while it does."""
        error, busy_since = self._error, self._busy_since
        if isinstance(error, PlatformError):
            return error
        if error is not None:
            reason = error.strerror or str(error) if isinstance(error, OSError) else type(error).__name__
            failure = StorageError(
                f"Storing answers failed: {reason}. {self.stored} were stored and {self.backlog} were not; those are "
                "asked again by the next run. Mend the storage first."
            )
            failure.__cause__ = error
            return failure
        if busy_since is not None and time.monotonic() - busy_since > self._timeout_seconds:
            return StorageError(
                f"Storing answers has not returned for {self._timeout_seconds:g} s; {self.backlog} answers wait. Look "
                "for another process that locks the lake."
            )
        return None

    def close(self) -> None:
        """Wait until everything handed over is stored, the sink has failed, or its time is up."""
        self._queue.put(None)
        while self._thread.is_alive() and self.failure() is None:
            self._thread.join(timeout=0.05)

    def _write(self) -> None:
        if self._steps_aside:
            step_aside()
        while (lines := self._queue.get()) is not None:
            lines = lines + self._waiting()
            self._busy_since = time.monotonic()
            try:
                self._on_lines(lines)
            except BaseException as error:  # noqa: BLE001 - carried to the run, which raises it
                self._error = error
                return
            self._busy_since = None
            self.stored += len(lines)

    def _waiting(self) -> list[bytes]:
        """Everything that has arrived since, without waiting for more."""
        joined: list[bytes] = []
        while True:
            try:
                lines = self._queue.get_nowait()
            except queue.Empty:
                return joined
            if lines is None:
                self._queue.put(None)
                return joined
            joined += lines
