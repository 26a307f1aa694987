"""Leases: who may store answers of one release, with expiry and a fencing token.

A lease is a row outside DuckLake. It prevents paying twice for one answer. What prevents storing twice is the commit,
which holds the row, verifies its token, and leaves out the keys that others have stored.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from llm_platform.errors import LeaseHeld, PlatformError, TransientError
from llm_platform.warehouse.coordination import Coordinator, Statements
from llm_platform.warehouse.holders import ALL_BUCKETS, COLUMNS, Holder, node, process_started
from llm_platform.warehouse.watch import AnswersWatch

_ROWS_A_STATEMENT = 500
"""SQLite takes some 32,000 parameters in one statement."""


@dataclass(frozen=True)
class Claim:
    """Buckets that a lease covers from now on.

    Attributes:
        free_rows: Rows without an answer in these, and in those that nobody holds.
    """

    buckets: tuple[int, ...] = ()
    free_rows: int = 0


class Lease:
    """The right to store answers of one release; a context manager that renews itself in the background.

    It covers all buckets of documents or one, taken when the block begins; or none at first, and then those that
    `claim` takes.

    Attributes:
        watch: On the answers of the application, from before its holder looked for what is missing; None where it has
            not.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        application: str,
        release_id: str,
        *,
        holder: str,
        ttl_seconds: float,
        wanted: Collection[int] = (ALL_BUCKETS,),
    ) -> None:
        self.application = application
        self.release_id = release_id
        self.holder = holder
        self.watch: AnswersWatch | None = None
        self._coordinator = coordinator
        self._ttl_seconds = ttl_seconds
        self._wanted = tuple(wanted)
        # Bucket → token. Replaced as a whole, since other threads read it while one claims.
        self._tokens: dict[int, int] = {}
        self._claiming = threading.Lock()
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._renewal: threading.Thread | None = None

    @property
    def lost(self) -> bool:
        """Whether somebody else has taken a part of it over: stop sending, the commit would be refused."""
        return self._lost.is_set()

    @property
    def token(self) -> int:
        """Larger than that of every earlier holder."""
        return max(self._tokens.values(), default=0)

    @property
    def buckets(self) -> tuple[int, ...]:
        """What it covers now; `ALL_BUCKETS` stands for all."""
        return tuple(self._tokens)

    def __enter__(self) -> Lease:
        if self._wanted:
            self.acquire()
        self._renewal = threading.Thread(target=self._renew_until_ended, name=f"lease {self.release_id}", daemon=True)
        self._renewal.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        if self._renewal is not None:
            self._renewal.join()
        # A lease that cannot be given back expires; what was stored under it is stored.
        with suppress(TransientError):
            self.release()
        if self.watch is not None:
            self.watch.close()

    def acquire(self) -> None:
        """Take all that was asked for, without renewal.

        Raises:
            LeaseHeld: a live holder has a part of it; the message names it.
        """
        now = self._coordinator.now()
        with self._transaction() as statements:
            for row in self._stored(statements):
                overlaps = ALL_BUCKETS in (*self._wanted, row.bucket) or row.bucket in self._wanted
                if overlaps and row.is_live(now):
                    raise LeaseHeld(
                        f"Release {self.release_id!r} of {self.application!r} is being answered by {row.describe()}. "
                        f"Wait for it, or stop it; the lease ends {self._ttl_seconds:.0f} s after its holder falls "
                        "silent."
                    )
            token = self._take(statements, self._wanted, now)
        self._tokens = dict.fromkeys(self._wanted, token)

    def claim(self, missing: Mapping[int, int], *, least_rows: int) -> Claim:
        """Take further buckets that nobody holds: half of what is free, so that whoever joins finds work.

        Halves become small: the last ones are taken together once they have `least_rows` rows or fewer.

        Args:
            missing: Bucket → rows without an answer.
            least_rows: As many are taken in any case, if there are.

        Returns:
            No buckets when others hold all of `missing`, or the lease has ended.
        """
        # A thread that claims must not do so after the end of the block: nobody would give that back.
        with self._claiming:
            if self._ended.is_set():
                return Claim()
            now = self._coordinator.now()
            with self._transaction() as statements:
                busy = {row.bucket for row in self._stored(statements) if row.is_live(now)}
                free = {bucket: rows for bucket, rows in missing.items() if bucket not in {*busy, *self._tokens}}
                taken = () if ALL_BUCKETS in busy else _half(free, least_rows)
                token = self._take(statements, taken, now) if taken else 0
            self._tokens = {**self._tokens, **dict.fromkeys(taken, token)}
            return Claim(taken, sum(free.values()))

    def release(self) -> None:
        """Give back what is still ours. Rows stay, so that tokens keep growing."""
        with self._claiming, self._transaction() as statements:
            self._expire(statements, self._tokens, 0.0)

    def renew(self) -> bool:
        """Move the expiry; False when a part of the lease is no longer ours."""
        tokens = self._tokens
        expires_at = self._coordinator.now() + self._ttl_seconds
        with self._transaction() as statements:
            ours = self._expire(statements, tokens, expires_at)
        if ours < len(tokens):
            self._lost.set()
        return ours == len(tokens)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Hold the lease's rows for the length of a commit: nobody can take them over meanwhile.

        Raises:
            LeaseHeld: somebody has taken one over.
        """
        with self._transaction() as statements:
            stored = {row.bucket: row for row in self._stored(statements, self._coordinator.row_lock)}
            for bucket, token in self._tokens.items():
                row = stored.get(bucket)
                # The holder, too: a table of leases that was lost counts its tokens from one again.
                if row is None or (row.token, row.holder) != (token, self.holder):
                    self._lost.set()
                    raise LeaseHeld(
                        f"The lease of {self.holder!r} on release {self.release_id!r} of {self.application!r} expired "
                        f"and was taken over by {self._taker(stored, bucket)}. Nothing was stored by this commit; run "
                        "again to go on with what is missing."
                    )
            yield

    def _taker(self, stored: Mapping[int, Holder], bucket: int) -> str:
        # Whoever takes all buckets over has a row of its own, and only marks those of single ones.
        found = [row for row in stored.values() if row.bucket in (bucket, ALL_BUCKETS)]
        newest = max(found, key=lambda row: (row.token, row.expires_at), default=None)
        return newest.describe() if newest else "nobody: the row is gone"

    def _transaction(self) -> Any:
        return self._coordinator.transaction(f"{self.application}/{self.release_id}")

    def _stored(self, statements: Statements, suffix: str = "") -> list[Holder]:
        return stored_leases(statements, self._coordinator.leases, self.application, self.release_id, suffix=suffix)

    def _take(self, statements: Statements, buckets: Sequence[int], now: float) -> int:
        """Make rows of `buckets` ours, and return their token."""
        token = 1 + max((row.token for row in self._stored(statements)), default=0)
        # Overlapping rows get the new token too: a former holder of all, or of one of all, must fail its commit.
        overlap = "" if ALL_BUCKETS in buckets else f" AND bucket = {ALL_BUCKETS:d}"
        statements.changed(
            f"UPDATE {self._coordinator.leases} SET expires_at = 0, token = %s "
            f"WHERE application = %s AND release_id = %s{overlap}",
            [token, self.application, self.release_id],
        )
        process = [self.holder, socket.gethostname(), node(), os.getpid(), process_started(os.getpid()) or ""]
        for start in range(0, len(buckets), _ROWS_A_STATEMENT):
            some = buckets[start : start + _ROWS_A_STATEMENT]
            values = [
                [self.application, self.release_id, bucket, token, *process, now, now + self._ttl_seconds]
                for bucket in some
            ]
            places = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(some))
            changed = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[1:])
            statements.changed(
                f"INSERT INTO {self._coordinator.leases} (application, release_id, {COLUMNS}) VALUES {places} "
                f"ON CONFLICT (application, release_id, bucket) DO UPDATE SET {changed}",
                [value for row in values for value in row],
            )
        return token

    def _expire(self, statements: Statements, tokens: Mapping[int, int], expires_at: float) -> int:
        """Set the expiry of those rows that are still ours; how many there are."""
        changed = 0
        for token in set(tokens.values()):
            # The row of all buckets may bear the token of one that was taken after it, and the other way round.
            covered = "=" if ALL_BUCKETS in tokens else "<>"
            changed += statements.changed(
                f"UPDATE {self._coordinator.leases} SET expires_at = %s "
                f"WHERE application = %s AND release_id = %s AND token = %s AND bucket {covered} {ALL_BUCKETS:d}",
                [expires_at, self.application, self.release_id, token],
            )
        return changed

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._ttl_seconds / 3):
            try:
                if not self.renew():
                    return
            except PlatformError:
                # A database that is away for a moment is no loss: the commit verifies the token in any case.
                continue


def stored_leases(
    statements: Statements, table: str, application: str, release_id: str, *, suffix: str = ""
) -> list[Holder]:
    """Rows of one release, also of those that have expired."""
    rows = statements.run(
        f"SELECT {COLUMNS} FROM {table} WHERE application = %s AND release_id = %s{suffix}", [application, release_id]
    )
    return [Holder(*row) for row in rows]


def _half(free: Mapping[int, int], least_rows: int) -> tuple[int, ...]:
    """The first buckets that have half of the rows, and at least `least_rows`."""
    wanted = max(sum(free.values()) / 2, least_rows)
    taken: list[int] = []
    for bucket in sorted(free):
        if wanted <= 0:
            break
        taken.append(bucket)
        wanted -= free[bucket]
    return tuple(taken)
