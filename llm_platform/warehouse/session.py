"""Transactions on one attached lake: cursors, the write lock, retries, and names of tables that may not exist yet."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from llm_platform.errors import ContractBroken, StorageError
from llm_platform.records.tables import TO_EVERY_READER
from llm_platform.warehouse.coordination import Coordinator
from llm_platform.warehouse.engine import (
    Parameters,
    execute,
    identifier,
    is_race,
    literal,
    load,
    one_of,
    platform_error,
    rollback,
)
from llm_platform.warehouse.following import Following
from llm_platform.warehouse.looked_up import LookedUp
from llm_platform.warehouse.object_store import S3Access, make_secret
from llm_platform.warehouse.own_commits import OwnCommit, OwnCommits
from llm_platform.warehouse.schema import columns_of, empty_relation, is_published

LAKE = "lake"
UPSTREAM = "upstream_lake"
AUTHOR = "llm_platform"
"""Author of our commits, in DuckLake's record of them."""
ATTEMPTS = 12
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 2.0
SPARING_MIB = (64, 160, 576)
"""As much DuckDB may hold while it passes over a whole table; where that is too little the next, and then all there is.

A publication of 10^6 rows fits the first, one of 10^7 the second."""

FEW_KEYS = 1_000
MOST_KEPT = 16
KINDS_OF_CHANGE = {"inserted_into_table": "insert", "deleted_from_table": "delete"}
COMPACTIONS = ("compacted_table", "merge_adjacent", "rewrite_delete")
"""How DuckLake names what a snapshot did to a table."""

Written = TypeVar("Written")
Found = TypeVar("Found")


class Session:
    """One process's view of a lake.

    Every call works on a cursor of its own, so threads do not meet in one transaction.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        address: str,
        coordinator: Coordinator,
        metadata_schemas: dict[str, str],
        s3: S3Access,
        signing_key: str | None = None,
    ) -> None:
        self._connection = connection
        self._metadata_schemas = metadata_schemas
        self._columns: dict[tuple[str, str, str], frozenset[str]] = {}
        self._looked_up: dict[tuple[str, str], int | None] = {}
        self._columns_then: dict[tuple[str, str, int], dict[str, frozenset[str]]] = {}
        self._changes: dict[tuple[int, str, str], tuple[int, tuple[frozenset[str], Sequence[int]]]] = {}
        self._keys: dict[tuple[str, str, str, int, int], Sequence[str] | None] = {}
        self._following = Following(coordinator, self._ask, self.metadata)
        self._looking = threading.Lock()
        self._memory_limit = self._setting("memory_limit")
        self._sparing: int | None = None
        self.address = address
        self.s3 = s3
        self.signing_key = signing_key
        self.coordinator = coordinator
        self.own_commits = OwnCommits(coordinator)
        # Of `Tallies`, which are made anew for every store: what this process has counted, and what of it is stored.
        self.counted: dict[tuple[str, str], Any] = {}
        self.stored_tallies: dict[tuple[str, str], Any] = {}
        self.tallies_read_at: dict[str, int] = {}
        self.recount: set[str] = set()
        self._looked_up_texts: dict[str, LookedUp] = {}

    @property
    def has_upstream(self) -> bool:
        """Whether another namespace is attached read-only."""
        return UPSTREAM in self._metadata_schemas

    def reach_store(self, cursor: duckdb.DuckDBPyConnection, address: str) -> None:
        """Let the engine read and write files under an `s3://` address."""
        load(cursor, "httpfs")
        bucket = "/".join(address.split("/")[:3])
        make_secret(cursor, self.s3, name=f"copies_in_{bucket}", scope=f"{bucket}/")

    @contextmanager
    def cursor(self, doing: str = "read") -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for one piece of work; engine errors leave it as ours."""
        with self.errors(doing), closing(self.open()) as cursor:
            yield cursor

    def open(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own, to be closed."""
        return self._connection.cursor()

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Engine errors leave this block as ours."""
        try:
            yield
        except duckdb.Error as error:
            raise platform_error(error, f"{doing} the lake at {self.address}") from None

    def sparingly(self, look: Callable[[], Found]) -> Found:
        """What `look` finds in a whole table, spilling to disk instead of taking memory that grows with it.

        `look` may be called more than once: where it needs more in any case, it gets it.
        """
        with self._looking:
            try:
                self._spare(0)
                while self._sparing is not None:
                    # Too little memory has many names: a catalog that got none calls its transaction aborted.
                    with suppress(duckdb.Error, StorageError):
                        return look()
                    self._spare_less()
                return look()
            finally:
                self._spare(None)

    @property
    def spill_folder(self) -> str | None:
        """Folder of this process alone, which goes with it; None where there is no room for one beside the lake."""
        return self._setting("temp_directory") or None

    def _spare(self, step: int | None) -> None:
        """Let DuckDB hold so much; None for what there is."""
        self._sparing = step
        limit = self._memory_limit if step is None else f"{SPARING_MIB[step]} MiB"
        # What is held already, and can go nowhere, may be more.
        with suppress(duckdb.OutOfMemoryException):
            # Not RESET: it changes what the setting says, and the limit stays.
            self._connection.execute(f"SET GLOBAL memory_limit = '{limit}'")

    def _spare_less(self) -> None:
        if self._sparing is not None:
            self._spare(self._sparing + 1 if self._sparing + 1 < len(SPARING_MIB) else None)

    def _setting(self, name: str) -> str:
        return str(self._connection.execute(f"SELECT current_setting('{name}')").fetchall()[0][0])

    def table(self, sql: str, parameters: Parameters = ()) -> pa.Table:
        """All rows of a query; those of before where no table that it reads was changed."""

        def find() -> pa.Table:
            with self.cursor() as cursor:
                return execute(cursor, sql, parameters).to_arrow_table()

        return self._following.answer("table", sql, repr(parameters), find)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """All rows of a small query; those of before where no table that it reads was changed."""
        return list(self._following.answer("rows", sql, repr(parameters), lambda: self._ask(sql, parameters)))

    def _ask(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        with self.cursor() as cursor:
            return execute(cursor, sql, parameters).fetchall()

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """The first value of the first row; None when there is none."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def snapshot(self, *, catalog: str = LAKE) -> int:
        """Id of the newest snapshot of the lake."""
        return self._following.newest() if catalog == LAKE else int(self.value(self._newest_snapshot(catalog)))

    def _newest_snapshot(self, catalog: str) -> str:
        # Not `current_snapshot()`: it loads the whole catalog first, 30 ms of CPU.
        return f"SELECT max(snapshot_id) FROM {self.metadata('ducklake_snapshot', catalog=catalog)}"

    def has_snapshot(self, snapshot: int, *, catalog: str = LAKE) -> bool:
        """Whether the lake still knows this snapshot."""
        snapshots = self.metadata("ducklake_snapshot", catalog=catalog)
        return bool(self.value(f"SELECT count(*) FROM {snapshots} WHERE snapshot_id = $id", {"id": snapshot}))

    def insertions(self, application: str, table: str, *, after: int, until: int, catalog: str = LAKE) -> str:
        """SQL to read the rows from that were added to a table by snapshots after one and up to another."""
        names = ", ".join(literal(name) for name in (catalog, application, table))
        return f"ducklake_table_insertions({names}, {after + 1:d}, {until:d})"

    def changes_feed(self, application: str, table: str, *, after: int, until: int) -> str:
        """SQL to read the rows from that were added to, or left, a table by snapshots after one and up to another.

        A row is listed once a change, and some of them twice: take the keys only.
        """
        names = ", ".join(literal(name) for name in (LAKE, application, table))
        return f"ducklake_table_changes({names}, {after + 1:d}, {until:d})"

    def kinds_of_change(self, snapshot: int, application: str, table: str) -> frozenset[str] | None:
        """What later snapshots did to a table of ours: `insert`, `delete`, `other`; None where that cannot be told.

        Compaction changes no row.
        """
        found = self._changes_since(snapshot, application, table)
        return None if found is None else found[0]

    def _changes_since(
        self, snapshot: int, application: str, table: str
    ) -> tuple[frozenset[str], Sequence[int]] | None:
        """The same, and the snapshots that did it; None where that cannot be told."""
        if not self.has_snapshot(snapshot):
            return None
        key, at = (snapshot, application, table), self.snapshot()
        known = self._changes.get(key)
        if known is not None and not self.is_written_since(known[0], application, table):
            return known[1]
        found = self.rows(
            f"SELECT c.snapshot_id, c.changes_made, t.table_id FROM {self.metadata('ducklake_snapshot_changes')} c "
            f"JOIN {self.metadata('ducklake_table')} t ON concat(c.changes_made, ',') LIKE "
            "concat('%:', t.table_id, ',%') "
            f"JOIN {self.metadata('ducklake_schema')} s USING (schema_id) "
            "WHERE c.snapshot_id > $since AND s.schema_name = $schema AND t.table_name = $table",
            {"since": snapshot, "schema": application, "table": table},
        )
        made = {
            (one.rpartition(":")[0], by)
            for by, changes, table_id in found
            for one in changes.split(",")
            if one.rpartition(":")[2] == str(table_id)
        }
        kinds = frozenset(KINDS_OF_CHANGE.get(kind, "other") for kind, _ in made if kind not in COMPACTIONS)
        self._changes[key] = at, (kinds, sorted({by for kind, by in made if kind not in COMPACTIONS}))
        return self._changes[key][1]

    def changed_keys(
        self, application: str, table: str, *, after: int, until: int, column: str = "document_id"
    ) -> Sequence[str] | None:
        """Keys of the rows that snapshots after one and up to another added or took away; None for more than
        `FEW_KEYS`, or where it cannot be told.
        """
        found = self._changes_since(after, application, table)
        if found is None or found[0] - {"insert", "delete"}:
            return None
        snapshots = [one for one in found[1] if one <= until]
        if not snapshots:
            return ()
        # Ranges that begin and end elsewhere have the same changes in them, and what they were does not change.
        key = (application, table, column, snapshots[0], snapshots[-1])
        if key not in self._keys:
            # Rows that were only added are in files of their own; of one that left, the file that had it is read.
            only_added = found[0] == {"insert"}
            read = self.insertions if only_added else self.changes_feed
            feed = read(application, table, after=snapshots[0] - 1, until=snapshots[-1])
            rows = self._ask(f"SELECT DISTINCT {identifier(column)} FROM {feed} LIMIT {FEW_KEYS + 1:d}")
            self._know_keys(key, [row[0] for row in rows])
        return self._keys[key]

    def _know_keys(self, key: tuple[str, str, str, int, int], found: Sequence[str]) -> None:
        if len(self._keys) >= MOST_KEPT:
            self._keys.clear()
        self._keys[key] = tuple(found) if len(found) <= FEW_KEYS else None

    def _note_keys(self, transaction: Transaction, application: str, before: int) -> None:
        """Know which rows a commit of ours has changed: the lake's feed would read the files that they left."""
        for table, keys in transaction.changed.items():
            found = self._changes_since(before, application, table)
            # Another program may have committed in between, too.
            if found is not None and len(found[1]) == 1:
                self._know_keys((application, table, "document_id", found[1][0], found[1][0]), keys)

    def is_written_since(self, snapshot: int, application: str, table: str, *, catalog: str = LAKE) -> bool:
        """Whether a later snapshot changed a table of ours in any way; also true where that cannot be told any more."""
        if catalog == LAKE:
            return self._following.is_changed_since(
                snapshot, (application, table), ask=lambda: self._is_recorded_since(snapshot, application, table, LAKE)
            )
        return self._is_recorded_since(snapshot, application, table, catalog)

    def _is_recorded_since(self, snapshot: int, application: str, table: str, catalog: str) -> bool:
        changes = self.metadata("ducklake_snapshot_changes", catalog=catalog)
        snapshots = self.metadata("ducklake_snapshot", catalog=catalog)
        found = self.value(
            f"SELECT count(*) > 0 OR NOT EXISTS (SELECT 1 FROM {snapshots} WHERE snapshot_id = $since) "
            f"FROM {changes} c "
            f"JOIN {self.metadata('ducklake_table', catalog=catalog)} t "
            "ON concat(c.changes_made, ',') LIKE concat('%:', t.table_id, ',%') "
            f"JOIN {self.metadata('ducklake_schema', catalog=catalog)} s USING (schema_id) "
            "WHERE c.snapshot_id > $since AND s.schema_name = $schema AND t.table_name = $table",
            {"since": snapshot, "schema": application, "table": table},
        )
        return bool(found)

    def metadata(self, table: str, *, catalog: str = LAKE) -> str:
        """Qualified name of one of DuckLake's own tables."""
        return metadata_table(table, catalog=catalog, schema=self._metadata_schemas[catalog])

    @property
    def metadata_place(self) -> tuple[str, str]:
        """(name under which the lake's catalog is attached, schema of DuckLake's own tables in it)."""
        return f"__ducklake_metadata_{LAKE}", self._metadata_schemas[LAKE]

    def columns(self, application: str, table: str, *, catalog: str = LAKE) -> frozenset[str]:
        """Columns that a table of ours has in this lake; empty when nobody has written it."""
        key = (catalog, application, table)
        if key not in self._columns:
            structure = self._structure(catalog)
            if structure is None or self._looked_up.get((catalog, application)) != structure:
                # Of all tables at once: a run asks for most of them, and one query costs as much as one for all.
                for name, found in self._columns_of_tables(application, catalog=catalog).items():
                    self._columns.setdefault((catalog, application, name), found)
                self._looked_up[catalog, application] = structure
        return self._columns.get(key, frozenset())

    def _structure(self, catalog: str) -> int | None:
        """Another number where a table was made or altered since; None where that is not followed."""
        if catalog != LAKE:
            return None
        self._following.newest()
        return self._following.structure

    def tables(self, application: str) -> list[str]:
        """Tables of ours that somebody has written in this lake."""
        found = self._columns_of_tables(application, catalog=LAKE)
        return sorted(name for name in found if columns_of(name) is not None)

    def exists(self, application: str, table: str, *, catalog: str = LAKE) -> bool:
        """Whether somebody has written this table."""
        return bool(self.columns(application, table, catalog=catalog))

    def relation(self, application: str, table: str, *, catalog: str = LAKE, at_snapshot: int | None = None) -> str:
        """SQL to read a table of ours from; without rows when nobody has written it.

        A lake that was last written by an older version lacks columns: they read as NULL.

        Raises:
            ContractBroken: the table is none of ours.
        """
        wanted = columns_of(table)
        if wanted is None:
            raise ContractBroken(
                f"Table {table!r} is not one of the platform's tables; see llm_platform.warehouse.schema."
            )
        if catalog == UPSTREAM and not self.has_upstream:
            return empty_relation(wanted)
        stored = self.columns(application, table, catalog=catalog)
        name = qualified(catalog, application, table)
        if at_snapshot is not None and stored:
            then = (catalog, application, at_snapshot)
            if then not in self._columns_then:
                # A snapshot is what it is for ever.
                self._columns_then[then] = self._columns_of_tables(
                    application, catalog=catalog, at_snapshot=at_snapshot
                )
            stored = self._columns_then[then].get(table, frozenset())
            name += f" AT (VERSION => {at_snapshot:d})"
        if not stored:
            return empty_relation(wanted)
        if is_published(table):
            # Its other columns are those of its contract.
            wanted = dict.fromkeys(stored, "") | TO_EVERY_READER
        return name if stored.issuperset(wanted) else widened(name, stored, wanted)

    def looked_up(self, application: str) -> LookedUp:
        """Texts of an application that this process has looked up."""
        return self._looked_up_texts.setdefault(application, LookedUp(self, application))

    def last_written(self, application: str, table: str, *, at_snapshot: int) -> str | None:
        """What tells whether a table has changed: it itself, and the last snapshot that wrote it; None without one."""
        files, deletes = (self.metadata(f"ducklake_{kind}_file") for kind in ("data", "delete"))
        at = f"{at_snapshot:d}"
        # What ended is forgotten by a compaction; then a table only seems to have changed.
        found = self.rows(
            "SELECT t.table_uuid::VARCHAR, greatest(t.begin_snapshot, coalesce(max(f.snapshot), 0)) "
            f"FROM {self.metadata('ducklake_table')} t JOIN {self.metadata('ducklake_schema')} s USING (schema_id) "
            "LEFT JOIN ("
            f"SELECT table_id, begin_snapshot AS snapshot FROM {files} UNION ALL "
            f"SELECT table_id, end_snapshot FROM {files} UNION ALL SELECT table_id, begin_snapshot FROM {deletes} "
            # A later deletion from the same file is put into its file of deletions, which keeps its first snapshot.
            f"UNION ALL SELECT n.table_id, c.snapshot_id FROM {self.metadata('ducklake_snapshot_changes')} c "
            f"JOIN {self.metadata('ducklake_table')} n ON concat(c.changes_made, ',') LIKE "
            "concat('%:', n.table_id, ',%')"
            f") f ON f.table_id = t.table_id AND f.snapshot <= {at} "
            f"WHERE s.schema_name = $schema AND t.table_name = $table AND t.begin_snapshot <= {at} "
            f"AND (t.end_snapshot IS NULL OR t.end_snapshot > {at}) GROUP BY t.table_uuid, t.begin_snapshot",
            {"schema": application, "table": table},
        )
        return f"{found[0][0]}@{found[0][1]}" if found else None

    def _columns_of_tables(
        self, application: str, *, catalog: str, at_snapshot: int | None = None
    ) -> dict[str, frozenset[str]]:
        living = "{0}.end_snapshot IS NULL"
        if at_snapshot is not None:
            at = f"{at_snapshot:d}"
            living = f"{{0}}.begin_snapshot <= {at} AND ({{0}}.end_snapshot IS NULL OR {{0}}.end_snapshot > {at})"
        # A schema has no end while one of its tables lives.
        found = self.rows(
            f"SELECT t.table_name, c.column_name FROM {self.metadata('ducklake_table', catalog=catalog)} t "
            f"JOIN {self.metadata('ducklake_schema', catalog=catalog)} s USING (schema_id) "
            f"JOIN {self.metadata('ducklake_column', catalog=catalog)} c USING (table_id) "
            f"WHERE {living.format('t')} AND {living.format('c')} AND s.end_snapshot IS NULL AND s.schema_name = ?",
            [application],
        )
        columns: dict[str, set[str]] = {}
        for table, column in found:
            columns.setdefault(table, set()).add(column)
        return {table: frozenset(names) for table, names in columns.items()}

    def write(
        self,
        application: str,
        body: Callable[[Transaction], Written],
        *,
        cursor: duckdb.DuckDBPyConnection | None = None,
        guard: Callable[[], Any] | None = None,
    ) -> tuple[Written, int]:
        """Run `body` in one transaction under the write lock; run it again when it loses a race.

        Args:
            application: The schema that is written.
            body: Called once per attempt; it must do nothing but statements on its transaction.
            cursor: A connection that already holds temporary tables.
            guard: Context manager to enter inside the lock, around all attempts.

        Returns:
            What `body` returned, and the id of the newest snapshot after the commit.
        """
        with (
            self.coordinator.write_lock(application),
            self.own_commits.one() as commit,
            guard() if guard is not None else nullcontext(),
            nullcontext(cursor) if cursor is not None else closing(self._connection.cursor()) as used,
        ):
            return self.retried(application, lambda: self._attempt(application, body, used, commit))

    def retried(self, what: str, attempt: Callable[[], Written]) -> Written:
        """Call `attempt` until it loses no race, at most `ATTEMPTS` times."""
        pause = FIRST_PAUSE_SECONDS
        for number in range(1, ATTEMPTS + 1):
            try:
                return attempt()
            except duckdb.OutOfMemoryException as error:
                if number == ATTEMPTS:
                    raise platform_error(error, f"write {what!r} in the lake at {self.address}") from None
                # Somebody may be passing over a table: who writes goes first.
                self._spare_less()
            except duckdb.Error as error:
                if number == ATTEMPTS or not is_race(error):
                    raise platform_error(error, f"write {what!r} in the lake at {self.address}") from None
            threading.Event().wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(
        self,
        application: str,
        body: Callable[[Transaction], Written],
        cursor: duckdb.DuckDBPyConnection,
        commit: OwnCommit,
    ) -> tuple[Written, int]:
        before = self.snapshot()
        cursor.begin()
        try:
            transaction = Transaction(self, cursor, application)
            result = body(transaction)
            if transaction.answers:
                cursor.execute(commit_statement(transaction.word))
            cursor.commit()
        except BaseException:
            rollback(cursor)
            raise
        finally:
            self._following.committed()
        for table, columns in transaction.written.items():
            self._columns[LAKE, application, table] = columns
        commit.answers_of = transaction.answers_of if transaction.answers else frozenset()
        self._note_keys(transaction, application, before)
        return result, self.snapshot()


class Transaction:
    """One open write transaction on the tables of one application.

    Attributes:
        written: Tables that it made or widened.
        changed: Table → keys of the documents whose rows it changes, where it says so.
        answers: Whether it writes the table of answers, and `word` the hash of those that it stores; both are said in
            the commit, so that a merge can tell what the platform wrote (`provenance`).
        answers_of: Releases whose answers it stores; None where that is not known.
    """

    def __init__(self, session: Session, cursor: duckdb.DuckDBPyConnection, application: str) -> None:
        self._session = session
        self._application = application
        self.cursor = cursor
        self.written: dict[str, frozenset[str]] = {}
        self.changed: dict[str, Sequence[str]] = {}
        self.answers = False
        self.word: str | None = None
        self.answers_of: frozenset[str] | None = None

    def relation(self, table: str) -> str:
        """SQL to read a table of ours from, with what this transaction has written."""
        if self.written.get(table):
            return qualified(LAKE, self._application, table)
        return self._session.relation(self._application, table)

    def columns(self, table: str, *, upstream: bool = False) -> frozenset[str]:
        """Columns that a table of ours, or of the attached upstream, has; none where nobody has written it."""
        if upstream:
            return self._session.columns(self._application, table, catalog=UPSTREAM)
        return self.written[table] if table in self.written else self._session.columns(self._application, table)

    def upstream(self, table: str) -> str:
        """SQL to read the same table of the attached upstream from; without rows when there is none."""
        return self._session.relation(self._application, table, catalog=UPSTREAM)

    def target(self, table: str, columns: Mapping[str, str] | None = None) -> str:
        """Qualified name to write to; makes the table, and columns that it does not have yet.

        Args:
            table: One of ours.
            columns: Of a published table, which has those of its contract.
        """
        name = qualified(LAKE, self._application, table)
        self.answers = self.answers or table == "completions"
        if table in self.written:
            return name
        wanted = columns if columns is not None else columns_of(table) or {}
        stored = self._session.columns(self._application, table)
        listed = [f"{identifier(column)} {kind}" for column, kind in wanted.items() if column not in stored]
        if not stored:
            self.cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {LAKE}.{identifier(self._application)}")
            self.cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(listed)})")
        for column in listed if stored else ():
            self.cursor.execute(f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column}")
        if listed:
            self.written[table] = stored | frozenset(wanted)
        return name

    def drop(self, table: str) -> None:
        """Take a table away, with its rows."""
        self.cursor.execute(f"DROP TABLE IF EXISTS {qualified(LAKE, self._application, table)}")
        self.written[table] = frozenset()

    def next_sequence(self, table: str) -> int:
        """The number of the next row of an append-only table. Writers of an application take turns, so none is given
        twice, and it says what came first whatever the clocks of their machines say.
        """
        return self.count(f'SELECT coalesce(max("sequence"), 0) + 1 FROM {self.relation(table)}')

    def among(self, table: str) -> str:
        """SQL that a document is among those of a temporary table; few are written out, so that files that have none
        of them are passed over.
        """
        found = self.run(f"SELECT DISTINCT document_id FROM {table} LIMIT {FEW_KEYS + 1:d}")
        if len(found) > FEW_KEYS:
            return f"document_id IN (SELECT document_id FROM {table})"
        return one_of("document_id", [row[0] for row in found])

    def changes_documents(self, table: str, changed: str) -> None:
        """Say which documents' rows this transaction changes in a table: all of those in a query of their keys."""
        found = self.run(f"SELECT DISTINCT document_id FROM ({changed}) LIMIT {FEW_KEYS + 1:d}")
        self.changed[table] = [row[0] for row in found]

    def answers_to(self, table: str) -> str:
        """SQL to read stored answers of this lake to the texts of a temporary table from."""
        found = self.run(f"SELECT DISTINCT fingerprint FROM {table} LIMIT {FEW_KEYS + 1:d}")
        if len(found) > FEW_KEYS:
            return (
                f"(SELECT * FROM {self.relation('completions')} WHERE fingerprint IN (SELECT fingerprint FROM {table}))"
            )
        at = self.count(f"SELECT id FROM {LAKE}.current_snapshot()")
        return self._session.looked_up(self._application).answers([row[0] for row in found], at=at)

    def run(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Rows of one statement; for INSERT and DELETE one row with the count."""
        return execute(self.cursor, sql, parameters).fetchall()

    def count(self, sql: str, parameters: Parameters = ()) -> int:
        """The first value of the first row, as a number."""
        return int(self.run(sql, parameters)[0][0])


def commit_statement(word: str | None) -> str:
    """What a commit of answers says: whose it is, and the hash of what it stored, if it stored any."""
    said = json.dumps({"completions": word})
    return f"CALL {LAKE}.set_commit_message({literal(AUTHOR)}, {literal('answers')}, extra_info => {literal(said)})"


def qualified(catalog: str, schema: str, table: str) -> str:
    """Qualified, quoted name of a table."""
    return f"{identifier(catalog)}.{identifier(schema)}.{identifier(table)}"


def widened(relation: str, stored: Collection[str], wanted: Mapping[str, str]) -> str:
    """A SELECT of the wanted columns from a relation that has only some of them."""
    listed = ", ".join(
        identifier(name) if name in stored else f"NULL::{kind} AS {identifier(name)}" for name, kind in wanted.items()
    )
    return f"(SELECT {listed} FROM {relation})"


def metadata_table(table: str, *, catalog: str, schema: str) -> str:
    """Qualified name of one of DuckLake's own tables; `schema` is its metadata schema."""
    return f"{identifier('__ducklake_metadata_' + catalog)}.{identifier(schema)}.{identifier(table)}"
