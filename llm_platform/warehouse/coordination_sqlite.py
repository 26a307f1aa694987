"""Coordination of a lake with a SQLite catalog: a lock file, and leases in a SQLite file of their own."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.files import SAID_AFTER_SECONDS, holder_of_lock
from llm_platform.warehouse.coordination import ATTACH, COPIES, LEASES_DDL, WAIT_SECONDS, Statements

log = logging.getLogger(__name__)

SETTLED_NANOSECONDS = 25_000_000
"""Longer than two ticks of the clock that files get their times from."""


class SqliteStatements:
    """`Statements` over a sqlite3 cursor."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of one statement."""
        return self._connection.execute(sql.replace("%s", "?"), tuple(parameters)).fetchall()

    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """How many rows one statement changed."""
        return self._connection.execute(sql.replace("%s", "?"), tuple(parameters)).rowcount


class FileCoordinator:
    """Coordination of a SQLite catalog: `<catalog>.lock`, and `leases.sqlite` beside the catalog.

    Leases have a file of their own: DuckLake needs the catalog's write lock for itself when it commits.
    """

    leases = "leases"
    requests = "forget_requests"
    row_lock = ""
    mark_is_free = True

    def __init__(
        self,
        catalog: Path,
        *,
        wait_seconds: float = WAIT_SECONDS,
        said_after_seconds: float = SAID_AFTER_SECONDS,
    ) -> None:
        self._catalog = catalog
        self._lock_file = catalog.with_name(catalog.name + ".lock")
        self._copies_file = catalog.with_name(catalog.name + ".copies.lock")
        self._attach_file = catalog.with_name(catalog.name + ".attach.lock")
        self._leases_file = catalog.with_name("leases.sqlite")
        self._wait_seconds, self._said_after_seconds = wait_seconds, said_after_seconds
        self._prepared = False
        self._writer: int | None = None
        self._marked = str(catalog), f"{catalog}-wal"

    def has_catalog(self) -> bool:
        """Whether the catalog's file holds anything.

        Raises:
            StorageError: it cannot be looked at.
        """
        try:
            return self._catalog.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"Cannot look at the lake at {str(self._catalog)!r}: {error.strerror}.") from error

    @contextmanager
    def write_lock(self, scope: str, /) -> Iterator[None]:
        """One writer at a time in the whole lake: SQLite has one anyway. What writes no lake has a lock of its own.

        Raises:
            StorageError: the file of the lock cannot be written.
            TransientError: another process holds it for longer than is waited.
        """
        lock_file = {ATTACH: self._attach_file, COPIES: self._copies_file}.get(scope.partition(":")[0], self._lock_file)
        try:
            descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"Cannot write the lake at {str(self._catalog)!r}: {error.strerror}. "
                "Make its folder writable, or choose another state folder."
            ) from error
        try:
            self._wait_for(descriptor, lock_file)
            if lock_file == self._lock_file:
                self._writer = threading.get_ident()
            yield
        finally:
            if lock_file == self._lock_file:
                self._writer = None
            os.close(descriptor)

    def _wait_for(self, descriptor: int, lock_file: Path) -> None:
        began = time.monotonic()
        deadline = began + self._wait_seconds
        pause = 0.001
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"Waited {self._wait_seconds:.0f} s to write the lake at {str(self._catalog)!r}: another "
                        f"process holds {lock_file.name!r}. Let it finish, then run again."
                    ) from error
                if not said and time.monotonic() - began > self._said_after_seconds:
                    said = True
                    log.warning(
                        "Waiting to write the lake at %r: %s holds %r. At most %.0f s more.",
                        str(self._catalog),
                        holder_of_lock(lock_file),
                        lock_file.name,
                        deadline - time.monotonic(),
                    )
                threading.Event().wait(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 1.5, 0.05)

    @contextmanager
    def transaction(self, _key: str, /) -> Iterator[Statements]:
        """A `BEGIN IMMEDIATE` transaction: SQLite runs them one after the other, whatever the key."""
        try:
            with closing(sqlite3.connect(self._leases_file, timeout=30.0, isolation_level=None)) as connection:
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    self._prepare(connection)
                    yield SqliteStatements(connection)
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
                self._prepared = True
        except sqlite3.Error as error:
            raise self._error(error) from error

    def erase(self) -> None:
        """Write the file of leases anew, without what was deleted in it."""
        try:
            with closing(sqlite3.connect(self._leases_file, timeout=30.0, isolation_level=None)) as connection:
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute("VACUUM")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Inside the transaction, which waits its turn; a change of SQLite's journal mode would fail at once instead.
        if not self._prepared:
            connection.execute(LEASES_DDL.format(table=self.leases))

    def _error(self, error: sqlite3.Error) -> PlatformError:
        if "locked" in str(error):
            return TransientError(f"Cannot write leases in {str(self._leases_file)!r}: {error}. Run again.")
        if "not a database" in str(error) or "malformed" in str(error):
            return StorageError(
                f"Cannot write leases in {str(self._leases_file)!r}: it is damaged. It says only which run is at work "
                "on what: when none is, delete it, then run again."
            )
        return StorageError(
            f"Cannot write leases in {str(self._leases_file)!r}: {error}. Check that the folder is writable and not "
            "full."
        )

    def mark(self) -> object:
        """Time and size of the catalog's files.

        They are looked at and not opened: whoever closes a file takes all locks of its process on it away, those of
        DuckDB too.
        """
        return _time_and_size(self._marked[0]), _time_and_size(self._marked[1])

    def settled_mark(self) -> object:
        """`mark`, unless a writer is at work or the files were written a moment ago.

        A commit is in the files before it can be read, while its writer holds the lock; and a file that is written
        twice within one tick of the kernel's clock has one time.
        """
        before = time.time_ns() - SETTLED_NANOSECONDS
        if self._is_being_written():
            return None
        marks = _time_and_size(self._marked[0]), _time_and_size(self._marked[1])
        return marks if all(one is None or one[0] < before for one in marks) else None

    def _is_being_written(self) -> bool:
        """Whether anybody may be committing; not this thread, which is asking."""
        if self._writer == threading.get_ident():
            return False
        try:
            descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # it cannot be told
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def now(self) -> float:
        """This machine's clock; all holders of a SQLite catalog's leases are on it."""
        return time.time()

    def close(self) -> None:
        """Nothing stays open between calls."""


def _time_and_size(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    # Whoever reads makes an empty log of writes for as long as that takes.
    return (found.st_mtime_ns, found.st_size) if found.st_size else None
