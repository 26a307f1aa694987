"""Answers on disk before they are in the lake.

A commit to the lake costs tens of milliseconds whatever its size, so it should be large; an answer that is only in
memory is lost in a crash, so it should be safe at once. The journal gives both: every batch is appended to a segment
and synced, and the lake gets many batches in one commit. After a crash, `recover` gives back what was not committed.

A segment belongs to one process, which holds a lock on it for as long as it lives. The folder must be on storage that
outlives the process, with locks that all hosts see; on a disk that does not, the promise is one commit instead of one
batch.

Nothing in a journal stands in the way of the rest: a line that is no row, or one that no table takes, is set aside in
`SET_ASIDE` beside the segments, named by its keys in the log, and the rest is stored.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

from pydantic import ValidationError

from llm_platform.errors import StorageError, UnstorableRow
from llm_platform.files import said_when_slow
from llm_platform.records import Record

logger = logging.getLogger(__name__)

SET_ASIDE = "set_aside.lines"
"""Lines that could not be stored, as they were written; they are answers, so the file is as secret as the lake."""
KEYS = ("release_id", "fingerprint", "document_id", "call_id")
_LISTED = 20
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


class Recovered(list[Row]):
    """Rows that dead processes left behind in one folder, in the order in which they were written.

    Of a line with fields that this version does not know, what it knows.
    """

    def __init__(self, folder: Path, lines: list[tuple[Row, bytes]]) -> None:
        super().__init__(row for row, _ in lines)
        self._folder, self._lines = folder, lines

    def store(self, store: Callable[[list[Row]], object]) -> None:
        """Hand all rows over; those that cannot be stored are found by halves, and set aside.

        Raises:
            As `store`, for everything else that goes wrong.
        """
        self._store(self._lines, store)

    def _store(self, lines: list[tuple[Row, bytes]], store: Callable[[list[Row]], object]) -> None:
        if not lines:
            return
        try:
            store([row for row, _ in lines])
        except UnstorableRow:
            if len(lines) == 1:
                set_aside(self._folder, [lines[0][1]], why="no table takes them")
                return
            half = len(lines) // 2
            self._store(lines[:half], store)
            self._store(lines[half:], store)


@contextmanager
def recover(folder: Path, record: type[Row]) -> Iterator[Recovered[Row]]:
    """What dead processes left behind; segments are removed when the block ends without an error.

    Segments of living processes are left alone. A line that was being written when the process died is not an answer.
    One process recovers at a time and the others wait: what a dead one left is either stored or theirs to store.

    Example:
        with recover(folder, Completion) as found:
            found.store(store.append)
    """
    with _alone(folder):
        segments = [file for path in sorted(folder.glob(f"*{_SUFFIX}")) if (file := _orphan(path)) is not None]
        try:
            yield Recovered(folder, [found for file in segments for found in _rows(folder, file, record)])
            for file in segments:
                Path(file.name).unlink(missing_ok=True)
        finally:
            for file in segments:
                file.close()


def held(folder: Path, record: type[Row], *, about: str = "") -> list[Row]:
    """Rows that living processes have written there and not committed yet; their segments are left alone.

    Args:
        about: Only rows in whose line this stands, such as a key; the others are not read.
    """
    found: list[Row] = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            continue  # committed meanwhile
        # The last one may be about to be written.
        rows = (_row(line, record) for line in lines if line.endswith(b"\n") and about.encode() in line)
        found += [row for row in rows if row is not None]
    return found


def set_aside(folder: Path, lines: Sequence[bytes], *, why: str) -> None:
    """Keep lines that cannot be stored, and name them by their keys.

    Raises:
        StorageError: they cannot be kept; then nothing else may be done with their journal.
    """
    path = folder / SET_ASIDE
    try:
        with path.open("ab") as file:
            file.write(b"".join(line.rstrip(b"\n") + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"Cannot keep {len(lines)} lines of a journal in {path}: {error.strerror}. Free some space, then run again."
        ) from error
    named = "; ".join(map(_key, lines[:_LISTED])) + ("; …" if len(lines) > _LISTED else "")
    logger.warning("%d lines of a journal are set aside in %s, since %s: %s", len(lines), path, why, named)


def _key(line: bytes) -> str:
    """What a line is about; never what it says."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    found = [f"{name} {row[name]!r}" for name in KEYS if isinstance(row, dict) and isinstance(row.get(name), str)]
    return ", ".join(found) or f"{len(line)} bytes without a key"


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


def _rows(folder: Path, file: BinaryIO, record: type[Row]) -> list[tuple[Row, bytes]]:
    """Rows with their lines; blocks of a file may reach the disk in any order, so each line is judged by itself."""
    found: list[tuple[Row, bytes]] = []
    broken: list[bytes] = []
    for line in file:
        if not line.endswith(b"\n"):
            break  # it was being written
        row = _row(line, record)
        if row is None:
            broken.append(line)
        else:
            found.append((row, line))
    if broken:
        set_aside(folder, broken, why="they are no rows of this version")
    return found


def _row(line: bytes, record: type[Row]) -> Row | None:
    try:
        return record.model_validate_json(line)
    except ValidationError:
        known = _known(line, record)
    if known is None:
        return None
    try:
        return record.model_validate(known)
    except ValidationError:
        return None


def _known(line: bytes, record: type[Row]) -> dict[str, Any] | None:
    """Of a line that a newer version has written, the fields that this one knows."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    return {name: value for name, value in fields.items() if name in record.model_fields}
