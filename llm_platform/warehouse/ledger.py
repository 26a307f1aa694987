"""Commits to `completions`: answers as lines of JSON in, one row for each key out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import duckdb
import numpy as np
import pyarrow as pa

from llm_platform.warehouse.leases import Lease
from llm_platform.warehouse.schema import COMPLETIONS_SCHEMA, MADE_OF_SCHEMA, sql_columns
from llm_platform.warehouse.session import Session, Transaction

LISTED = ", ".join(COMPLETIONS_SCHEMA.names)
PARTS_LISTED = ", ".join(MADE_OF_SCHEMA.names)
STRUCT = json.dumps(sql_columns(COMPLETIONS_SCHEMA) | {"label_logprobs": "JSON"})


def stage(cursor: duckdb.DuckDBPyConnection, lines: Sequence[bytes]) -> None:
    """Make the temporary table `answers` of lines of JSON, one row for each key.

    DuckDB reads the text: columns made of records by Python take twice as long.
    """
    ends = np.cumsum([0, *map(len, lines)], dtype=np.int64)
    # Not from a list: pyarrow would load pandas for that, 54 MiB and 0.3 s of CPU.
    text = pa.LargeStringArray.from_buffers(len(lines), pa.py_buffer(ends), pa.py_buffer(b"".join(lines)))
    cursor.register("lines", pa.table({"line": text}))
    cursor.execute(f"CREATE TEMP TABLE answers AS SELECT unnest(from_json_strict(line, '{STRUCT}')) FROM lines")
    cursor.unregister("lines")
    keys = "SELECT count(*) FROM (SELECT release_id, fingerprint FROM answers GROUP BY ALL)"
    if cursor.execute(keys).fetchall()[0][0] < len(lines):
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE answers AS SELECT * FROM answers "
            "QUALIFY row_number() OVER (PARTITION BY release_id, fingerprint ORDER BY document_id) = 1"
        )


def commit(
    session: Session, application: str, cursor: duckdb.DuckDBPyConnection, *, lease: Lease | None, with_parts: bool
) -> int:
    """Store those of the table `answers` whose key is missing, here and upstream; returns how many.

    Args:
        lease: Verified within the commit. Where its holder has looked for what is missing, and nobody else has stored
            answers since, the ledger is not searched for the keys again: that takes as long as the ledger is large.
        with_parts: Store the table `made_of` with them.
    """
    watch = None if lease is None else lease.watch
    search = True

    @contextmanager
    def guard() -> Iterator[None]:
        nonlocal search
        with nullcontext() if lease is None else lease.guard():
            search = watch is None or watch.is_disturbed()
            yield

    def body(transaction: Transaction) -> int:
        found = _missing(transaction) if search else "answers"
        return _insert(transaction, found, with_parts=with_parts) if found else 0

    with nullcontext() if watch is None else watch.lock:
        stored, snapshot = session.write(application, body, cursor=cursor, guard=guard)
        if watch is not None:
            watch.committed(snapshot)
    return stored


def _missing(transaction: Transaction) -> str | None:
    """Name of a table of those answers whose key is missing; None when there are none."""
    absent = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {relation} c WHERE c.release_id = a.release_id AND c.fingerprint = a.fingerprint)"
        for relation in (transaction.relation("completions"), transaction.upstream("completions"))
    )
    transaction.run(f"CREATE OR REPLACE TEMP TABLE new AS SELECT * FROM answers a WHERE {absent}")
    return "new" if transaction.count("SELECT count(*) FROM new") else None


def _insert(transaction: Transaction, found: str, *, with_parts: bool) -> int:
    stored = transaction.count(
        f"INSERT INTO {transaction.target('completions')} ({LISTED}) SELECT {LISTED} FROM {found}"
    )
    if with_parts:
        transaction.run(
            f"INSERT INTO {transaction.target('made_of')} ({PARTS_LISTED}) SELECT {PARTS_LISTED} FROM made_of "
            f"SEMI JOIN {found} USING (release_id, fingerprint) ORDER BY fingerprint, position"
        )
    return stored
