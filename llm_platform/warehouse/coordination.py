"""What keeps two writers apart, outside DuckLake: the write lock of a lake, and the database that holds its leases.

DuckLake has no unique keys: two transactions that each look for a key and insert it both commit. So every write
transaction
runs under a lock of its application. On a SQLite catalog that is a lock file beside the catalog, on Postgres an
advisory
lock of the catalog's own server; both end with their process.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

WAIT_SECONDS = 120.0
"""How long a writer waits for the others: the longest write, `published` of a million rows, takes some seconds."""

ATTACH = "attach"
"""Scope of the write lock in which a lake is made; it waits for no other writer."""

COPIES = "copies"
"""Scope of the write lock of what readers use outside the lake, application by application: it writes no lake."""

LEASES_DDL = """
CREATE TABLE IF NOT EXISTS {table} (
    application TEXT NOT NULL, release_id TEXT NOT NULL, bucket INTEGER NOT NULL, token BIGINT NOT NULL,
    holder TEXT NOT NULL, host TEXT NOT NULL, node TEXT NOT NULL, pid BIGINT NOT NULL, process_started TEXT NOT NULL,
    acquired_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (application, release_id, bucket))
"""


class Statements(Protocol):
    """One open transaction on the database of leases; `%s` marks a parameter."""

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any."""

    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""


class Coordinator(Protocol):
    """The write lock of one lake and the database of its leases."""

    @property
    def leases(self) -> str:
        """Qualified name of the table of leases."""

    @property
    def requests(self) -> str:
        """Qualified name of the table of requests to forget."""

    @property
    def row_lock(self) -> str:
        """Suffix of a SELECT that keeps the rows from others until the transaction ends."""

    @property
    def mark_is_free(self) -> bool:
        """Whether to ask for `mark` asks no server."""

    def has_catalog(self) -> bool:
        """Whether somebody has made the lake."""

    def write_lock(self, scope: str, /) -> AbstractContextManager[None]:
        """Nobody else writes in `scope` meanwhile."""

    def transaction(self, key: str, /) -> AbstractContextManager[Statements]:
        """One transaction; those with equal `key` run one after the other."""

    def mark(self) -> object:
        """Another one after every commit to the lake, whoever makes it; to be compared with an earlier one."""

    def settled_mark(self) -> object:
        """`mark`, where everything that it covers can be read and what comes later has another one; None otherwise."""

    def erase(self) -> None:
        """Leave nothing of deleted leases and requests in the pages of their database."""

    def now(self) -> float:
        """The clock that expiry is measured with, in seconds since 1970."""

    def close(self) -> None:
        """Close what is kept open between calls."""
