"""Commits to `completions`: a file of answers in, one row for each key out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import duckdb

from llm_platform.errors import StorageError, UnstorableRow
from llm_platform.records.tables import TABLES
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.provenance import sign
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

LISTED = listed("completions")
PARTS_LISTED = listed("made_of")
COLUMNS = TABLES["completions"] | {"label_logprobs": "JSON"}
_SHORTEST_BUFFER = 2**20


@contextmanager
def in_file(lines: Sequence[bytes]) -> Iterator[Path]:
    """A file of lines of JSON for the length of a `with` block.

    Raises:
        StorageError: it cannot be written.
    """
    with tempfile.NamedTemporaryFile(prefix="llm_platform_answers_") as file:
        try:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
        except OSError as error:
            raise StorageError(
                f"Cannot write {len(lines)} answers to {file.name}: {error.strerror}. Free some space, then run again."
            ) from error
        yield Path(file.name)


def stage(cursor: duckdb.DuckDBPyConnection, file: Path) -> int:
    """Make the temporary table `answers` of a file of JSON, one row for each key; returns how many.

    DuckDB reads the file: columns that Python makes of records take three times as long, and pyarrow loads pandas for
    them, 54 MiB.

    Raises:
        UnstorableRow: a line is not an answer.
    """
    with file.open("rb") as lines:
        longest = max(map(len, lines), default=0)
    options = f"format = 'newline_delimited', compression = 'uncompressed', columns = {COLUMNS}"
    try:
        cursor.execute(
            f"CREATE TEMP TABLE answers AS SELECT * FROM read_json({literal(str(file))}, {options}, "
            f"maximum_object_size = {max(longest, _SHORTEST_BUFFER)})"
        )
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.OutOfRangeException):
        # What the engine says quotes the value, which may be an answer.
        raise UnstorableRow(f"{file.name} holds a line that is not an answer; nothing of it was stored.") from None
    rows = int(cursor.execute("SELECT count(*) FROM answers").fetchall()[0][0])
    keys = "SELECT count(*) FROM (SELECT release_id, fingerprint FROM answers GROUP BY ALL)"
    distinct = int(cursor.execute(keys).fetchall()[0][0])
    if distinct < rows:
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE answers AS SELECT * FROM answers "
            "QUALIFY row_number() OVER (PARTITION BY release_id, fingerprint ORDER BY document_id) = 1"
        )
    return distinct


def commit(
    session: Session, application: str, cursor: duckdb.DuckDBPyConnection, *, lease: Lease | None, with_parts: bool
) -> int:
    """Store those of the table `answers` whose key is missing, here and upstream; returns how many.

    Args:
        lease: Verified within the commit. Where its holder has looked for what is missing, the keys are searched among
            the answers that others have stored since. The whole ledger is searched where that cannot be told: it takes
            as long as the ledger is large.
        with_parts: Store the table `made_of` with them.
    """
    watch = None if lease is None else lease.watch
    alone, others = False, None

    @contextmanager
    def guard() -> Iterator[None]:
        nonlocal alone, others
        with nullcontext() if lease is None else lease.guard():
            alone = watch is not None and not watch.is_disturbed()
            others = None if watch is None or alone else watch.others()
            yield

    def body(transaction: Transaction) -> int:
        if alone:
            found: str | None = "answers"
        elif others is not None:
            found = _absent(transaction, [f"FROM {others} o WHERE o.text_hash = hash(a.fingerprint)"])
        else:
            relations = transaction.relation("completions"), transaction.upstream("completions")
            key = "c.release_id = a.release_id AND c.fingerprint = a.fingerprint"
            found = _absent(transaction, [f"FROM {relation} c WHERE {key}" for relation in relations])
        return _insert(transaction, found, with_parts=with_parts) if found else 0

    with nullcontext() if watch is None else watch.lock:
        stored, snapshot = session.write(application, body, cursor=cursor, guard=guard)
        if watch is not None:
            watch.committed(snapshot)
    return stored


def _absent(transaction: Transaction, stored: Sequence[str]) -> str | None:
    """Name of a table of those answers that are in none of `stored`; None when there are none."""
    absent = " AND ".join(f"NOT EXISTS (SELECT 1 {one})" for one in stored)
    transaction.run(f"CREATE OR REPLACE TEMP TABLE new AS SELECT * FROM answers a WHERE {absent}")
    return "new" if transaction.count("SELECT count(*) FROM new") else None


def _insert(transaction: Transaction, found: str, *, with_parts: bool) -> int:
    stored = transaction.count(
        f"INSERT INTO {transaction.target('completions')} ({LISTED}) SELECT {LISTED} FROM {found}"
    )
    sign(transaction, found)
    transaction.answers_of = frozenset(row[0] for row in transaction.run(f"SELECT DISTINCT release_id FROM {found}"))
    if with_parts:
        transaction.run(
            f"INSERT INTO {transaction.target('made_of')} ({PARTS_LISTED}) SELECT {PARTS_LISTED} FROM made_of "
            f"SEMI JOIN {found} USING (release_id, fingerprint) ORDER BY fingerprint, position"
        )
    return stored
