"""What a connection remembers of its lake, and what tells that it is so still.

A query on a DuckLake costs some 10 ms of CPU whatever its size, and the steps of a run ask the same small questions
again and again: which release serves, what its evidence is, which columns a table has. The answer to a question about
tables that no snapshot has changed since is the answer of before. Which tables each new snapshot changed is read once
from the lake's own record; whether there is a new one is told by the times of the catalog's files, or by its server.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from llm_platform.warehouse.coordination import Coordinator

Table = tuple[str, str]
"""Application and table."""
Query = Callable[[str], list[tuple[Any, ...]]]

MOST_ANSWERS = 512
MOST_ROWS = 1_000
MOST_BYTES = 2**20
"""Of one answer that is kept: what is asked again and again is small."""
MOST_SECONDS = 5.0
"""A mark is believed for so long: a program that is none of ours may commit without our lock."""

OF_THE_LAKE = re.compile(r'"lake"\."([^"]+)"\."([^"]+)"')
NOT_OF_TABLES_ALONE = re.compile(
    r'memory\.|"upstream_lake"|__ducklake|ducklake_|\bnow\(|\bcurrent_|random\(|uuid\(|read_[a-z]+\(|"source_'
)
"""What an answer may rest on beside the tables that a statement names; such an answer is not kept."""
CHANGE = re.compile(r"([a-z_]+):(\d+)(?=,|$)")
OF_ROWS = frozenset(
    {"inserted_into_table", "deleted_from_table", "compacted_table", "merge_adjacent", "rewrite_delete"}
)
"""Changes that leave every table its name and its columns."""


@dataclass(frozen=True)
class _Answer:
    tables: frozenset[Table]
    value: Any


class Following:
    """The newest snapshot of a lake, which tables were changed since this began, and answers that are true still."""

    def __init__(self, coordinator: Coordinator, query: Query, metadata: Callable[[str], str]) -> None:
        self._coordinator, self._query, self._metadata = coordinator, query, metadata
        self._lock = threading.RLock()
        self._mark: object = None
        self._marked_at = 0.0
        self._snapshot: int | None = None
        self._known_since = 0
        self._changed: dict[Table, int] = {}
        self._names: dict[int, set[Table]] = {}
        self._asked: dict[tuple[int, Table], int | None] = {}
        self._answers: dict[object, _Answer] = {}
        self.structure = 0
        """Another number after every snapshot that made, altered or dropped a table, and when that cannot be told."""

    def newest(self) -> int:
        """Id of the newest snapshot; what it and those before it changed is known afterwards."""
        with self._lock:
            mark = self._coordinator.settled_mark()
            known = self._snapshot
            fresh = time.monotonic() - self._marked_at < MOST_SECONDS
            if known is not None and mark is not None and mark == self._mark and fresh:
                return known
            found = self._first() if known is None else self._look(known)
            # The mark is of before the look: what is committed in between makes the next question a look.
            self._snapshot, self._mark, self._marked_at = found, mark, time.monotonic()
            return found

    def committed(self) -> None:
        """The owner has committed: the next question is a look, whatever the files say."""
        with self._lock:
            self._mark = None

    def is_changed_since(self, snapshot: int, table: Table, *, ask: Callable[[], bool]) -> bool:
        """Whether a snapshot after this one changed a table.

        Args:
            snapshot: May be older than what is known here.
            table: Of this lake.
            ask: Finds it in the lake's record of all snapshots.
        """
        with self._lock:
            now = self.newest()
            if snapshot >= self._known_since:
                return self._changed.get(table, -1) > snapshot
            if (snapshot, table) not in self._asked:
                self._asked[snapshot, table] = None if ask() else now
            unchanged_at = self._asked[snapshot, table]
            return unchanged_at is None or self._changed.get(table, -1) > unchanged_at

    def answer(self, kind: str, sql: str, parameters: object, find: Callable[[], Any]) -> Any:
        """What `find` finds; what it found before where none of the tables that the statement names was changed."""
        tables = frozenset(OF_THE_LAKE.findall(sql))
        if not tables or NOT_OF_TABLES_ALONE.search(sql) is not None:
            return find()
        key = (kind, sql, parameters)
        with self._lock:
            seen = self.newest()
            if (kept := self._answers.get(key)) is not None:
                return kept.value
        value = find()
        if _is_small(value):
            with self._lock:
                # Another thread may have seen a change meanwhile, which has passed over what is not kept yet.
                if self._known_since <= seen and all(self._changed.get(table, -1) <= seen for table in tables):
                    if len(self._answers) >= MOST_ANSWERS:
                        self._answers.clear()
                    self._answers[key] = _Answer(tables, value)
        return value

    def _first(self) -> int:
        found = int(self._query(f"SELECT max(snapshot_id) FROM {self._metadata('ducklake_snapshot')}")[0][0])
        self._known_since = found
        return found

    def _look(self, known: int) -> int:
        rows = self._query(
            f"SELECT s.snapshot_id, c.changes_made FROM {self._metadata('ducklake_snapshot')} s "
            f"LEFT JOIN {self._metadata('ducklake_snapshot_changes')} c USING (snapshot_id) "
            f"WHERE s.snapshot_id >= {known:d} ORDER BY 1"
        )
        if not rows:
            # Another lake is in its place, as after a backup was brought back.
            self._forget(self._first())
            return self._known_since
        newest = int(rows[-1][0])
        if len(rows) != newest - known + 1:
            # A compaction has forgotten one of them.
            self._forget(newest)
            return newest
        for snapshot, changes in rows[1:]:
            self._take_in(int(snapshot), changes or "")
        self._answers = {
            key: kept
            for key, kept in self._answers.items()
            if all(self._changed.get(table, -1) <= known for table in kept.tables)
        }
        return newest

    def _take_in(self, snapshot: int, changes: str) -> None:
        """Note which tables one snapshot changed."""
        told = CHANGE.findall(changes)
        ids = {int(number) for kind, number in told if kind in OF_ROWS}
        # Everything that is no change of rows counts as one of names and columns, also what a later DuckLake may say.
        if not ids or ",".join(f"{kind}:{number}" for kind, number in told if kind in OF_ROWS) != changes:
            self._forget(snapshot)
            return
        if ids - self._names.keys():
            self._names = {}
            for number, application, table in self._query(
                f"SELECT t.table_id, s.schema_name, t.table_name FROM {self._metadata('ducklake_table')} t "
                f"JOIN {self._metadata('ducklake_schema')} s USING (schema_id)"
            ):
                self._names.setdefault(int(number), set()).add((application, table))
        for number in ids:
            for table in self._names.get(number, ()):
                self._changed[table] = snapshot

    def _forget(self, snapshot: int) -> None:
        """Nothing of before this snapshot is known any more."""
        self._known_since = snapshot
        self._changed.clear()
        self._asked.clear()
        self._answers.clear()
        self.structure += 1


def _is_small(value: Any) -> bool:
    if isinstance(value, pa.Table):
        return bool(value.nbytes <= MOST_BYTES)
    return len(value) <= MOST_ROWS
