"""Reading tables that others write: their columns, how far they are, what changed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.application.source import Source, TableRef
from llm_platform.errors import ContractBroken
from llm_platform.records import SourceState
from llm_platform.tables.columns import python_rows, texts
from llm_platform.tables.folders import TableFiles, table_files
from llm_platform.tables.forms import inexact_keys
from llm_platform.tables.places import StoredFile, look_into
from llm_platform.warehouse.changes import AllBut, SourceChanges
from llm_platform.warehouse.engine import execute, identifier, rollback
from llm_platform.warehouse.hashing import version_of, version_select
from llm_platform.warehouse.object_store import S3Access
from llm_platform.warehouse.session import qualified
from llm_platform.warehouse.source_documents import FILE_KINDS, document_changes, document_files, document_rows
from llm_platform.warehouse.source_files import Files, as_it_was, found_files
from llm_platform.warehouse.source_folders import find_folder
from llm_platform.warehouse.source_forms import FLOATS, key_form, text_form
from llm_platform.warehouse.source_lakes import (
    LakeTable,
    find_lake_table,
    stage_changed_keys,
    why_full,
    with_changed_key,
)
from llm_platform.warehouse.source_slots import MIB, Slot, SlotLook, SlotStanding, stage_changed_rows
from llm_platform.warehouse.source_tables import TIMES, read_since, table_state
from llm_platform.warehouse.source_urls import FOLDERS, Attachments, SourceUrl, source_error

BATCH_ROWS = 4096
Read = TypeVar("Read")


class SourceReader:
    """Reads source tables; file paths must be absolute.

    All methods raise TransientError when the source cannot be read now, and ContractBroken when it lacks a table or a
    column.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sources: Mapping[str, str], *, s3: S3Access | None = None
    ) -> None:
        self._connection = connection
        self._attachments = Attachments(connection, sources, s3=s3)
        self._store = cache((s3 or S3Access()).file_system)

    def columns(self, ref: TableRef, wanted: Sequence[str] = ()) -> dict[str, str]:
        """Column → type, in the table's order; of a file of JSON as far as it takes to find those that are wanted."""
        if isinstance(ref, Source) and ref.files is not None:
            document_files(look_into(ref.files, self._store))
            return dict(FILE_KINDS)
        if ref.url is not None:
            files = self._tables(ref.url)
            files.require(wanted, f"Source {ref.address!r}")
            return files.columns(wanted)
        return self._inside(ref, _Table.columns)

    def state(self, source: Source, since: SourceState | None = None) -> SourceState:
        """How far the source is now; with a slot, for who has read it up to `since`."""
        if source.files is not None:
            return self._documents(source.files).state
        if source.url is not None:
            return self._found(source.url).state
        if (slot := self._slot(source)) is not None:
            self._inside(source, lambda table: table.require(_wanted(source)))
            return slot.look(settled=False).state(since)
        return self._inside(source, lambda table: _state(table, source))

    def standing(self, source: Source) -> SlotStanding | None:
        """How the slot is that a source is followed by; None where it has none."""
        slot = self._slot(source)
        return None if slot is None else slot.standing()

    def acknowledge(self, source: Source, state: SourceState) -> SlotStanding | None:
        """Say that a state was stored for good: a slot lets go of changes up to it. Returns how that is then."""
        slot = self._slot(source)
        return None if slot is None else slot.acknowledge(state)

    def only_grew(self, source: Source, since: SourceState | None) -> bool:
        """Whether it is known, without reading a row, that nothing has left: files came, and that is all."""
        if source.url is None:
            return False
        difference = self._found(source.url).since(since)
        return difference is not None and difference.only_new

    def version(self, ref: TableRef, columns: Sequence[str]) -> str:
        """Equal while these columns of a table are: of files by what they hold, of a DuckLake by its last change."""
        if ref.url is not None:
            return self._found(ref.url).state.token
        return self._inside(ref, lambda table: _version(table, columns))

    def count(self, ref: TableRef) -> int:
        """How many rows there are."""
        if isinstance(ref, Source) and ref.files is not None:
            return len(self._documents(ref.files).files)
        if ref.url is not None:
            return self._tables(ref.url).count()
        return self._inside(ref, _Table.count)

    def first(self, source: Source, rows: int) -> Iterator[pa.RecordBatch]:
        """The first rows, as `changes` would deliver them; in batches, so that there may be a few more of them."""
        if source.files is not None:
            yield from document_rows(self._documents(source.files).files[:rows])
            return
        if source.url is not None:
            wanted, seen = _wanted(source), 0
            files = self._tables(source.url)
            files.require(wanted, f"Source {source.address!r}")
            _require(wanted, files.columns(wanted), source)
            batches = files.batches(wanted, as_bytes=source.text_columns, keys=(source.key,), optional=source.optional)
            for batch in batches:
                yield batch
                seen += batch.num_rows
                if seen >= rows:
                    return
            return
        with closing(self._connection.cursor()) as cursor:
            self._inside(source, lambda table: _copy_first(table, source, rows), cursor=cursor)
            yield from cursor.execute("SELECT * FROM staged").to_arrow_reader(BATCH_ROWS)

    def rows(self, ref: TableRef, most: int) -> Iterator[dict[str, Any]]:
        """The first rows of a table with all its columns; of a file each value as it stands in it."""
        if ref.url is not None:
            yield from islice(self._tables(ref.url).rows(), most)
            return
        with closing(self._connection.cursor()) as cursor:
            body = f"CREATE TEMP TABLE staged AS SELECT * FROM {{}} LIMIT {most:d}"
            self._inside(ref, lambda table: cursor.execute(body.format(table.relation)), cursor=cursor)
            for batch in cursor.execute("SELECT * FROM staged").to_arrow_reader(BATCH_ROWS):
                yield from python_rows(batch)

    def followed(self, source: Source) -> str:
        """What tells that a source has changed, in words."""
        if source.files is not None:
            return f"{len(self._documents(source.files).files)} files, each by itself; only those that change are read"
        if source.url is not None:
            found = self._found(source.url)
            by = "size and time" if any("-" in mark for mark in found.marks.values()) else "content"
            if not found.place.many:
                return f"the file, by its {by}; a changed one is read whole and compared"
            return (
                f"{len(found.files)} files, each by its {by}; those that come are read alone, and where one changes or "
                "leaves, all are read and compared"
            )
        if (slot := self._slot(source)) is not None:
            slot.look(settled=False)
            held_back = f"{slot.standing().held_back // MIB} MB of WAL held back"
            return f"its replication slot {source.slot!r} ({held_back}); only keys that changed are read"
        return self._inside(source, lambda table: _followed(table, source))

    def changes(
        self,
        source: Source,
        since: SourceState | None,
        *,
        known: Callable[[], pa.Table] | None = None,
        emptied: bool = False,
    ) -> SourceChanges:
        """What has changed since a state, and the state after it. Rows have the source's column names; keys are text.

        Args:
            source: Where to look.
            since: The state that was consumed.
            known: Gives the keys that were consumed, as one column `document_id`: rows whose key is not among them are
                new, whatever their watermark says. Without it the rows of a table with a watermark are all read.
            emptied: Somebody has said that the source may have no rows any more. Files that hold nothing name no
                columns either, and are otherwise refused.
        """
        if source.files is not None:
            return document_changes(self._documents(source.files), source.files, since, self._store)
        if source.url is not None:
            return self._file_changes(source, source.url, since, known, emptied=emptied)
        slot = self._slot(source)
        # Before the transaction that reads begins, which is then at least as new.
        look = None if slot is None else slot.look(settled=True)

        def stage(table: _Table) -> _Staged:
            staged = _stage(table, source, since, known) if look is None else _stage_slot(table, look, source, since)
            _require_exact(table, source)
            return staged

        cursor = self._connection.cursor()
        try:
            staged = self._inside(source, stage, cursor=cursor)
        except BaseException:
            cursor.close()
            raise
        return SourceChanges(
            full=staged.full, rows=_rows(cursor), deleted=staged.deleted, state=staged.state, reason=staged.reason
        )

    def read(self, ref: TableRef, columns: Sequence[str], *, texts: Sequence[str] = ()) -> pa.Table:
        """Columns of a whole table, with the types that they declare; those of `texts` as text in one form."""
        if ref.url is not None:
            files = self._tables(ref.url)
            files.require(columns, f"Source {ref.address!r}")
            _require(columns, files.columns(columns), ref)
            return files.table(columns, keys=texts[:1])

        def body(table: _Table) -> pa.Table:
            kinds = table.require(columns)
            listed = ", ".join(
                f"{text_form(name, kinds[name])} AS {identifier(name)}" if name in texts else identifier(name)
                for name in columns
            )
            return table.cursor.execute(f"SELECT {listed} FROM {table.relation}").to_arrow_table()

        return self._inside(ref, body)

    def _slot(self, source: Source) -> Slot | None:
        if source.slot is None:
            return None
        _, url = self._attachments.attach(source.warehouse or "")
        if url.kind != "postgres":
            raise ContractBroken(
                f"Source {source.address!r} names replication slot {source.slot!r}, and its warehouse is {url.kind!r}: "
                "only Postgres has slots. Take 'slot' out of application.yaml."
            )
        schema, table = _named(source, url)
        return Slot(source, url.target, schema=schema, table=table)

    def _found(self, url: str) -> Files:
        return found_files(url, table_files, store=self._store)

    def _documents(self, url: str) -> Files:
        return found_files(url, document_files, store=self._store)

    def _tables(self, url: str) -> TableFiles:
        place = look_into(url, self._store)
        return TableFiles(table_files(place), place.name)

    def _file_changes(
        self,
        source: Source,
        url: str,
        since: SourceState | None,
        known: Callable[[], pa.Table] | None,
        *,
        emptied: bool,
    ) -> SourceChanges:
        found = self._found(url)
        state, difference = found.state, found.since(since)
        if since is not None and (since.token, since.table_id) == (state.token, state.table_id):
            what = "files are as they were" if found.place.many else "file is as it was"
            return SourceChanges(full=False, rows=(), deleted=[], state=state, reason=f"the {what}")
        wanted = _wanted(source)
        everything = TableFiles(found.files, found.place.name)
        if emptied and not everything.columns(wanted):
            return SourceChanges(full=True, rows=(), deleted=None, state=state, reason="it holds nothing any more")
        everything.require(wanted, f"Source {source.address!r}")
        _require(wanted, everything.columns(wanted), source)
        files = found.files
        reason = "first read" if since is None else "a file is always read whole"
        if difference is not None:
            reason = f"{difference}, so all are read"
            if known is not None and difference.only_new and not _holds(difference.new, source, known()):
                files, reason = difference.new, f"{len(difference.new)} files new"
        rows = TableFiles(files, found.place.name).batches(
            wanted,
            as_bytes=source.text_columns,
            keys=(source.key,),
            optional=source.optional,
        )
        full = files is found.files
        whole = as_it_was(rows, files, url, self._store)
        return SourceChanges(full=full, rows=whole, deleted=None if full else [], state=state, reason=reason)

    def _inside(
        self, ref: TableRef, body: Callable[[_Table], Read], *, cursor: duckdb.DuckDBPyConnection | None = None
    ) -> Read:
        """Run `body` in one read transaction: what it reads of the table belongs together."""
        alias, url = self._attachments.attach(ref.warehouse or "")
        folder = find_folder(url, ref, self._store) if url.kind in FOLDERS else None

        def found(inside: duckdb.DuckDBPyConnection) -> _Table:
            if folder is not None:
                return _Table(inside, ref, folder.relation, version=folder.version)
            return _find(inside, alias, url, ref)

        if cursor is None:
            with closing(self._connection.cursor()) as own:
                return _in_transaction(own, found, body, of=ref)
        return _in_transaction(cursor, found, body, of=ref)


@dataclass(frozen=True)
class _Table:
    """A source table, found.

    Attributes:
        name: SQL to read it from.
        alias: The attached database that it is in; empty where none is.
        lake: What a DuckLake knows of it; None outside one.
        version: Of a table that is a folder, what stands for its content.
    """

    cursor: duckdb.DuckDBPyConnection
    ref: TableRef
    name: str
    alias: str = ""
    lake: LakeTable | None = None
    version: str | None = None

    @property
    def relation(self) -> str:
        """SQL to read it from."""
        return self.name if self.lake is None else self.lake.at_version

    def columns(self) -> dict[str, str]:
        """Column → SQL type."""
        return {row[0]: row[1] for row in self.cursor.execute(f"DESCRIBE SELECT * FROM {self.relation}").fetchall()}

    def count(self) -> int:
        """How many rows there are."""
        return int(self.cursor.execute(f"SELECT count(*) FROM {self.relation}").fetchall()[0][0])

    def require(self, columns: Sequence[str]) -> dict[str, str]:
        """All columns, once these are among them."""
        present = self.columns()
        _require(columns, present, self.ref)
        return present


@dataclass(frozen=True)
class _Staged:
    """What was copied into the temporary table `staged`."""

    full: bool
    deleted: list[str] | AllBut | None
    state: SourceState
    reason: str


def _in_transaction(
    cursor: duckdb.DuckDBPyConnection,
    found: Callable[[duckdb.DuckDBPyConnection], _Table],
    body: Callable[[_Table], Read],
    *,
    of: TableRef,
) -> Read:
    try:
        cursor.begin()
        try:
            result = body(found(cursor))
            cursor.commit()
        except BaseException:
            rollback(cursor)
            raise
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise source_error(error, f"source {of.address!r}") from None
    return result


def _find(cursor: duckdb.DuckDBPyConnection, alias: str, url: SourceUrl, ref: TableRef) -> _Table:
    schema, name = _named(ref, url)
    lake = None
    if url.kind == "ducklake":
        lake = find_lake_table(cursor, alias=alias, metadata_schema=url.ducklake_schema, schema=schema, name=name)
        found = lake is not None
    else:
        found = name in _table_names(cursor, alias, schema)
    if not found:
        present = _table_names(cursor, alias, schema)
        raise ContractBroken(
            f"Warehouse {ref.warehouse!r} has no table {schema + '.' + name!r}{_nearest(name, present)}. "
            f"It has: {', '.join(sorted(present)) or 'no tables'}."
        )
    return _Table(cursor, ref, qualified(alias, schema, name), alias=alias, lake=lake)


def _named(ref: TableRef, url: SourceUrl) -> tuple[str, str]:
    """(schema, name) of a table."""
    schema, _, name = (ref.table or "").rpartition(".")
    return schema or url.default_schema, name


def _table_names(cursor: duckdb.DuckDBPyConnection, alias: str, schema: str) -> list[str]:
    rows = execute(
        cursor,
        "SELECT table_name FROM duckdb_tables() WHERE database_name = $alias AND schema_name = $schema UNION "
        "SELECT view_name FROM duckdb_views() WHERE database_name = $alias AND schema_name = $schema AND NOT internal",
        {"alias": alias, "schema": schema},
    ).fetchall()
    return [str(row[0]) for row in rows]


def _state(table: _Table, source: Source) -> SourceState:
    if table.lake is not None:
        return table.lake.state(table.cursor)
    if table.version is not None and source.watermark is None:
        return SourceState(kind="file", token=table.version, table_id=source.address)
    kinds = table.require([*_wanted(source), *([source.watermark] if source.watermark else [])])
    return table_state(table.cursor, table.relation, source, key=_key(source, kinds), kinds=kinds)


def _version(table: _Table, columns: Sequence[str]) -> str:
    if table.lake is not None:
        return table.lake.state(table.cursor).token
    if table.version is not None:
        return table.version
    table.require(columns)
    named = [identifier(name) for name in columns]
    return version_of(table.cursor.execute(version_select(named, table.relation)).fetchall()[0])


def _stage(table: _Table, source: Source, since: SourceState | None, known: Callable[[], pa.Table] | None) -> _Staged:
    kinds = table.require([*_wanted(source), *([source.watermark] if source.watermark else [])])
    key = _key(source, kinds)
    if table.lake is not None:
        return _stage_lake(table, table.lake, source, since, kinds=kinds)
    if table.version is not None and source.watermark is None:
        state = _state(table, source)
        same = since is not None and (since.token, since.table_id) == (state.token, state.table_id)
        _copy(table, source, "false" if same else "true", key=key)
        reason = "the table has no newer version" if same else "all of its present version is read and compared"
        return _Staged(full=not same, deleted=[] if same else None, state=state, reason=reason)
    read = read_since(table.cursor, table.relation, source, since=since, key=key, kinds=kinds, known=known)
    _copy(table, source, read.condition, key=key)
    return _Staged(full=read.full, deleted=read.deleted, state=read.state, reason=read.reason)


def _stage_lake(
    table: _Table, lake: LakeTable, source: Source, since: SourceState | None, *, kinds: Mapping[str, str]
) -> _Staged:
    state, key = lake.state(table.cursor), _key(source, kinds)
    reason = why_full(table.cursor, lake, since)
    if reason is not None or since is None or since.snapshot_id is None:
        _copy(table, source, "true", key=key)
        return _Staged(full=True, deleted=None, state=state, reason=reason or "first read")
    if since.snapshot_id == lake.last_change:
        _copy(table, source, "false", key=key)
        return _Staged(full=False, deleted=[], state=state, reason=f"unchanged since snapshot {since.snapshot_id}")
    count = stage_changed_keys(table.cursor, lake, column=source.key, key=key, since=since.snapshot_id)
    condition = with_changed_key(table.cursor, column=source.key, kind=kinds[source.key], key=key)
    _copy(table, source, condition, key=key)
    gone = f"SELECT key FROM changed WHERE key NOT IN (SELECT {identifier(source.key)} FROM staged) ORDER BY key"
    deleted = [row[0] for row in table.cursor.execute(gone).fetchall()]
    return _Staged(
        full=False,
        deleted=deleted,
        state=state,
        reason=f"{count} keys changed from snapshot {since.snapshot_id} to {lake.last_change}",
    )


def _stage_slot(table: _Table, look: SlotLook, source: Source, since: SourceState | None) -> _Staged:
    key = _key(source, table.require(_wanted(source)))
    reason, state = look.why_full(since), look.state(since)
    _copy(table, source, "false" if reason is None else "true", key=key)
    if reason is not None:
        return _Staged(full=True, deleted=None, state=state, reason=reason)
    count, name = len(look.changed.keys), look.standing.name
    deleted = stage_changed_rows(table.cursor, table.alias, look, source, key=key) if count else []
    return _Staged(full=False, deleted=deleted, state=state, reason=f"{count} keys changed, says slot {name!r}")


def _copy_first(table: _Table, source: Source, rows: int) -> None:
    kinds = table.require(_wanted(source))
    _copy(table, source, f"true LIMIT {rows:d}", key=_key(source, kinds))
    _require_exact(table, source)


def _followed(table: _Table, source: Source) -> str:
    if table.lake is not None:
        return f"its change feed (snapshot {table.lake.last_change}); only keys that changed are read"
    _state(table, source)
    if source.watermark is None and table.version is not None:
        return "its versions; all of a newer one is read and compared"
    if source.watermark is None:
        return "hashes of all its rows, all of which are read for that; with a 'watermark' only newer ones would be"
    overlap = ""
    if table.columns()[source.watermark].startswith(TIMES) and source.overlap_minutes:
        overlap = f" and {source.overlap_minutes:g} minutes before"
    return f"the column {source.watermark!r} and the keys; rows from its last value{overlap} on are read"


def _key(source: Source, kinds: Mapping[str, str]) -> str:
    return key_form(source.key, kinds[source.key], of=f"source {source.address!r}")


def _copy(table: _Table, source: Source, condition: str, *, key: str) -> None:
    # Copied, so that an unreadable source shows here and not in the middle of somebody's loop, and no transaction
    # stays open.
    others = "".join(f", {identifier(name)}" for name in _wanted(source)[1:])
    table.cursor.execute(
        f"CREATE TEMP TABLE staged AS SELECT {key} AS {identifier(source.key)}{others} FROM {table.relation} "
        f"WHERE {condition}"
    )


def _require_exact(table: _Table, source: Source) -> None:
    """Refuse keys in `staged` that are numbers which cannot be told apart: they are written with an exponent."""
    name = identifier(source.key)
    if table.columns()[source.key] in FLOATS:
        inexact = f"SELECT count(*) FROM staged WHERE contains({name}, 'e+') OR contains({name}, 'inf')"
        if table.cursor.execute(inexact).fetchall()[0][0]:
            raise inexact_keys(source.address, source.key)


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    with closing(cursor):
        yield from cursor.execute("SELECT * FROM staged").to_arrow_reader(BATCH_ROWS)


def _holds(files: Sequence[StoredFile], source: Source, known: pa.Table) -> bool:
    """Whether a row of these files has a key that is known: only all files together show then what it means."""
    batches = TableFiles(files, source.address).batches([source.key], keys=(source.key,))
    keys = {key for batch in batches for key in texts(batch.column(0))}
    found = pc.any(pc.is_in(known["document_id"], value_set=pa.array(sorted(filter(None, keys)), pa.string())))
    return bool(found.as_py())


def _wanted(source: Source) -> list[str]:
    return list(source.columns)


def _require(columns: Sequence[str], present: Mapping[str, str], ref: TableRef) -> None:
    missing = [name for name in columns if name not in present]
    if missing:
        named = ", ".join(f"{name!r}{_nearest(name, list(present))}" for name in missing)
        mend = (
            "Name other columns in application.yaml, or bring them back."
            if present
            else "Write it again; if it is right that it has no rows any more, run with --accept-drop."
        )
        raise ContractBroken(
            f"Source {ref.address!r} has no column {named}. It has: {', '.join(present) or 'nothing, it is empty'}. "
            f"{mend}"
        )


def _nearest(name: str, present: Sequence[str]) -> str:
    near = [found for found in present if name.casefold() in found.casefold()] or difflib.get_close_matches(
        name, present, n=1, cutoff=0.5
    )
    return f" (nearest: {near[0]!r})" if near else ""
