"""Leases: who may store answers of one release, with expiry and a fencing token.

A lease is a row outside DuckLake. It prevents paying twice for one answer. What prevents storing twice is the commit,
which holds
the row, verifies its token, and looks for the keys again.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from llm_platform.errors import LeaseHeld, PlatformError, TransientError
from llm_platform.warehouse.coordination import Coordinator, Statements

ALL_BUCKETS = -1
COLUMNS = "bucket, token, holder, host, node, pid, process_started, acquired_at, expires_at"


def process_started(pid: int) -> str | None:
    """When process `pid` of this machine started, in clock ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces; start time is field 22, the 20th after it.
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else after_name[19]


@cache
def node() -> str:
    """The place in which process ids mean the same: boot and pid namespace; empty where that cannot be known."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


@dataclass(frozen=True)
class Row:
    """A stored lease."""

    bucket: int
    token: int
    holder: str
    host: str
    node: str
    pid: int
    process_started: str
    acquired_at: float
    expires_at: float

    def is_live(self, now: float) -> bool:
        """Whether its holder may still be at work: not expired, and not seen to be dead."""
        if self.expires_at <= now:
            return False
        if not self.node or self.node != node():
            return True
        return process_started(self.pid) == self.process_started

    def describe(self) -> str:
        """Holder, host, process and time, for a message."""
        since = datetime.fromtimestamp(self.acquired_at, UTC).isoformat(timespec="seconds")
        return f"{self.holder!r} (process {self.pid} on {self.host}) since {since}"


class Lease:
    """The right to store answers of one release; a context manager that renews itself in the background.

    Attributes:
        token: Larger than that of every earlier holder.
        bucket: The bucket that it covers; None means all.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        application: str,
        release_id: str,
        *,
        holder: str,
        ttl_seconds: float,
        bucket: int | None,
    ) -> None:
        self.application = application
        self.release_id = release_id
        self.bucket = bucket
        self.holder = holder
        self.token = 0
        self._coordinator = coordinator
        self._ttl_seconds = ttl_seconds
        self._slot = ALL_BUCKETS if bucket is None else bucket
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._renewal: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether somebody else has taken it over: stop sending, the commit would be refused."""
        return self._lost.is_set()

    def __enter__(self) -> Lease:
        self.acquire()
        self._renewal = threading.Thread(target=self._renew_until_ended, name=f"lease {self.release_id}", daemon=True)
        self._renewal.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        if self._renewal is not None:
            self._renewal.join()
        try:
            self.release()
        except TransientError:
            # A lease that cannot be given back expires; what was stored under it is stored.
            return

    def acquire(self) -> None:
        """Take the lease, without renewal.

        Raises:
            LeaseHeld: a live holder has it; the message names it.
        """
        now = self._coordinator.now()
        with self._transaction() as statements:
            overlapping = self._overlapping(statements)
            for row in overlapping:
                if row.is_live(now):
                    raise LeaseHeld(
                        f"Release {self.release_id!r} of {self.application!r} is being answered by {row.describe()}. "
                        f"Wait for it, or stop it; the lease ends {self._ttl_seconds:.0f} s after its holder falls "
                        "silent."
                    )
            self.token = self._next_token(statements)
            self._take(statements, now)

    def release(self) -> None:
        """Give the lease back, if it is still ours. The row stays, so that tokens keep growing."""
        with self._transaction() as statements:
            statements.changed(
                f"UPDATE {self._coordinator.leases} SET expires_at = 0 "
                "WHERE application = %s AND release_id = %s AND bucket = %s AND token = %s",
                [*self._key(), self.token],
            )

    def renew(self) -> bool:
        """Move the expiry; False when the lease is no longer ours."""
        expires_at = self._coordinator.now() + self._ttl_seconds
        with self._transaction() as statements:
            changed = statements.changed(
                f"UPDATE {self._coordinator.leases} SET expires_at = %s "
                "WHERE application = %s AND release_id = %s AND bucket = %s AND token = %s",
                [expires_at, *self._key(), self.token],
            )
        if not changed:
            self._lost.set()
        return bool(changed)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Hold the lease's row for the length of a commit: nobody can take it over meanwhile.

        Raises:
            LeaseHeld: somebody has taken it over.
        """
        with self._transaction() as statements:
            rows = statements.run(
                f"SELECT {COLUMNS} FROM {self._coordinator.leases} "
                f"WHERE application = %s AND release_id = %s AND bucket = %s{self._coordinator.row_lock}",
                self._key(),
            )
            if not rows or Row(*rows[0]).token != self.token:
                self._lost.set()
                taken = Row(*rows[0]).describe() if rows else "nobody: the row is gone"
                raise LeaseHeld(
                    f"The lease of {self.holder!r} on release {self.release_id!r} of {self.application!r} expired "
                    "and was taken "
                    f"over by {taken}. Nothing was stored by this commit; run again to go on with what is missing."
                )
            yield

    def _transaction(self) -> Any:
        return self._coordinator.transaction(f"{self.application}/{self.release_id}")

    def _key(self) -> list[Any]:
        return [self.application, self.release_id, self._slot]

    def _overlapping(self, statements: Statements) -> list[Row]:
        rows = statements.run(
            f"SELECT {COLUMNS} FROM {self._coordinator.leases} WHERE application = %s AND release_id = %s",
            [self.application, self.release_id],
        )
        found = [Row(*row) for row in rows]
        return [row for row in found if ALL_BUCKETS in (self._slot, row.bucket) or row.bucket == self._slot]

    def _next_token(self, statements: Statements) -> int:
        largest = statements.run(
            f"SELECT coalesce(max(token), 0) FROM {self._coordinator.leases} WHERE application = %s AND release_id = "
            "%s",
            [self.application, self.release_id],
        )
        return int(largest[0][0]) + 1

    def _take(self, statements: Statements, now: float) -> None:
        # Overlapping rows get the new token too: a former holder of another bucket range must fail its commit as well.
        overlap = "" if self._slot == ALL_BUCKETS else f" AND bucket IN ({ALL_BUCKETS:d}, {self._slot:d})"
        statements.changed(
            f"UPDATE {self._coordinator.leases} SET expires_at = 0, token = %s WHERE application = %s AND release_id "
            f"= %s{overlap}",
            [self.token, self.application, self.release_id],
        )
        values = [*self._key(), self.token, self.holder, socket.gethostname(), node(), os.getpid()]
        values += [process_started(os.getpid()) or "", now, now + self._ttl_seconds]
        statements.changed(
            f"INSERT INTO {self._coordinator.leases} (application, release_id, {COLUMNS}) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (application, release_id, bucket) DO "
            "UPDATE SET "
            "token = excluded.token, holder = excluded.holder, host = excluded.host, node = excluded.node, pid = "
            "excluded.pid, "
            "process_started = excluded.process_started, acquired_at = excluded.acquired_at, expires_at = "
            "excluded.expires_at",
            values,
        )

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._ttl_seconds / 3):
            try:
                if not self.renew():
                    return
            except PlatformError:
                # A database that is away for a moment is no loss: the commit verifies the token in any case.
                continue
