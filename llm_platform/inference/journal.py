"""Answers on disk before they are in the lake.

A commit to the lake costs tens of milliseconds whatever its size, so it should be large; an answer that is only in
memory is lost in a crash, so it should be safe at once. The journal gives both: every batch is appended to a segment
and synced, and the lake gets many batches in one commit. After a crash, `recover` gives back what was not committed.

A segment belongs to one process, which holds a lock on it for as long as it lives. The folder must be on storage that
outlives the process, with locks that all hosts see; on a disk that does not, the promise is one commit instead of one
batch.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from pydantic import ValidationError

from llm_platform.errors import StorageError
from llm_platform.files import said_when_slow
from llm_platform.records import Record

_SUFFIX = ".journal"

Row = TypeVar("Row", bound=Record)


class Journal:
    """A sink in front of a sink; use it as a context manager around a run.

    Args:
        folder: Where segments are kept; made when missing.
        commit: Stores the rows of a segment for good: a file of their JSON, a line each. Each row is in one such file,
            in the order it came.
        commit_rows, commit_seconds: It is called when this many rows wait, or the first has waited this long.
        synced: Whether a batch is on the disk before it counts as taken; otherwise it is only safe from the death of
            this process, until somebody calls `sync`.
    """

    def __init__(
        self,
        folder: Path,
        commit: Callable[[Path], None],
        *,
        commit_rows: int = 4000,
        commit_seconds: float = 5.0,
        synced: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._commit, self._synced = folder, commit, synced
        self._commit_rows, self._commit_seconds, self._clock = commit_rows, commit_seconds, clock
        self._waiting = 0
        self._since = 0.0
        self._failed = False
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit the rest. After a failed commit the segment stays, for the next run to recover."""
        try:
            if not self._failed:
                self._commit_waiting()
                self._path.unlink(missing_ok=True)
        finally:
            self._file.close()

    def __call__(self, lines: Sequence[bytes]) -> None:
        """Make rows safe, each a line of JSON, and commit if enough wait."""
        if not self._waiting:
            self._since = self._clock()
        self._append(lines)
        self._waiting += len(lines)
        if self._waiting >= self._commit_rows or self._clock() - self._since >= self._commit_seconds:
            self._commit_waiting()
            self._begin()

    def sync(self) -> None:
        """Put what was written onto the disk."""
        os.fsync(self._file.fileno())

    def _begin(self) -> None:
        self._path = self._folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # It gets its name once it is locked: whoever recovers would take it for that of a dead process.
            begun = self._path.with_suffix(".begun")
            self._file: BinaryIO = begun.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            begun.rename(self._path)
            if self._synced:
                _sync_names(self._folder)
        except OSError as error:
            raise StorageError(
                f"Cannot keep a journal in {self._folder}: {error.strerror}. Mend the state folder."
            ) from error

    def _append(self, lines: Sequence[bytes]) -> None:
        try:
            self._file.write(b"".join(line + b"\n" for line in lines))
            self._file.flush()
            if self._synced:
                self.sync()
        except OSError as error:
            self._failed = True
            raise StorageError(
                f"Cannot write the journal {self._path}: {error.strerror}. Free some space, then run again."
            ) from error

    def _commit_waiting(self) -> None:
        if not self._waiting:
            return
        self._failed = True
        self._commit(self._path)
        # Between the commit and this, a crash gives the rows twice: the ledger leaves out keys that it has.
        self._path.unlink()
        self._file.close()
        self._waiting, self._failed = 0, False


def _sync_names(folder: Path) -> None:
    """Put the names of a folder's files onto the disk: a synced file without a name is lost."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        # Network file systems that cannot do this commit names by themselves.
        with suppress(OSError):
            os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def recover(folder: Path, record: type[Row]) -> Iterator[list[Row]]:
    """What dead processes left behind; segments are removed when the block ends without an error.

    Segments of living processes are left alone. A line that was being written when the process died is not an answer.
    One process recovers at a time and the others wait: what a dead one left is either stored or theirs to store.

    Example:
        with recover(folder, Completion) as rows:
            store.append(rows)
    """
    with _alone(folder):
        segments = [file for path in sorted(folder.glob(f"*{_SUFFIX}")) if (file := _orphan(path)) is not None]
        try:
            yield [row for file in segments for row in _rows(file, record)]
            for file in segments:
                Path(file.name).unlink(missing_ok=True)
        finally:
            for file in segments:
                file.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    if not any(folder.glob(f"*{_SUFFIX}")):
        yield
        return
    # NFS locks only files that are open for writing.
    with folder.with_name(f"{folder.name}.lock").open("ab") as lock:
        with said_when_slow(f"another process that stores the journal in {folder}"):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _orphan(path: Path) -> BinaryIO | None:
    """The segment, locked, unless a living process holds it or has just removed it."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _rows(file: BinaryIO, record: type[Row]) -> Iterator[Row]:
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            yield record.model_validate_json(line)
        except ValidationError:
            # Blocks of a file may reach the disk in any order: after a torn line nothing is certain.
            return
