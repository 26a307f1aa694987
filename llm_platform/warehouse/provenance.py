"""Who wrote a lake's answers: every commit of ours to `completions` says so, with a hash of the rows that it stored.

The hash stands in DuckLake's own record of the commit and costs no file. Rows that somebody has changed by hand, in SQL
or in the files, are those of a commit without such a word, or of one whose word does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from llm_platform.records.tables import TABLES
from llm_platform.warehouse.hashing import version_select
from llm_platform.warehouse.session import AUTHOR, Session, Transaction

TABLE = "completions"
COLUMNS = tuple(TABLES[TABLE])
MOVED = ("compacted_table", "merge_adjacent", "rewrite_delete", "flushed_inlined")
"""Changes that move rows from file to file."""


def digest_of(rows: Sequence[tuple[Any, ...]]) -> str:
    """The hash of some rows, of what `version_select` counts."""
    (count, combined) = rows[0]
    return f"{count}:{combined}"


def sign(transaction: Transaction, stored: str) -> None:
    """Say in the commit of a transaction that it stores the rows of a relation."""
    transaction.word = digest_of(transaction.run(version_select(COLUMNS, stored)))


def strange_commits(session: Session, application: str, *, catalog: str) -> Iterator[str]:
    """Commits to an application's answers that the platform did not make, or not as they are now, a sentence each."""

    def metadata(name: str) -> str:
        return session.metadata(name, catalog=catalog)

    tables = session.rows(
        f"SELECT t.table_id, t.begin_snapshot FROM {metadata('ducklake_table')} t JOIN {metadata('ducklake_schema')} s "
        "USING (schema_id) WHERE s.schema_name = $application AND t.table_name = $table ORDER BY t.begin_snapshot",
        {"application": application, "table": TABLE},
    )
    if not tables:
        return
    if len({table for table, _ in tables}) > 1:
        yield f"the table {TABLE!r} was replaced by another one"
        return
    table, begun = tables[0]
    oldest = session.value(f"SELECT min(snapshot_id) FROM {metadata('ducklake_snapshot')}")
    if oldest > begun:
        yield (
            f"its history before snapshot {oldest} has expired (compact), so nothing shows who wrote its first answers"
        )
        return
    changes = session.rows(
        f"SELECT snapshot_id, changes_made, author, commit_extra_info FROM {metadata('ducklake_snapshot_changes')} "
        f"WHERE concat(changes_made, ',') LIKE '%:{int(table)},%' ORDER BY snapshot_id"
    )
    for snapshot, made, author, extra in changes:
        kinds = [kind for kind, _, number in (one.partition(":") for one in made.split(",")) if number == str(table)]
        if all(kind.startswith(MOVED) for kind in kinds):
            continue
        if author != AUTHOR:
            yield f"snapshot {snapshot} ({', '.join(kinds)}) was not written by the platform"
        elif any(kind.startswith(("inserted_into", "inlined_insert")) for kind in kinds):
            inserted = session.insertions(application, TABLE, after=snapshot - 1, until=snapshot, catalog=catalog)
            known = session.columns(application, TABLE, catalog=catalog)
            found = digest_of(session.rows(version_select([name for name in COLUMNS if name in known], inserted)))
            if found != _word(extra):
                yield f"the rows of snapshot {snapshot} are not those that the platform stored"


def _word(extra: str | None) -> str | None:
    try:
        found = json.loads(extra or "{}")["completions"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
