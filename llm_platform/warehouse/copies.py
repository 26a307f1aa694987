"""What readers use outside the lake, kept as the published tables are: Parquet files and tables in Postgres.

Every copy says which state of which table it is, and is written whole or not at all. So what a writer that was killed
between the commit of the lake and its copies has left, the next one finishes; and a copy that is up to date is left
alone.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb

from llm_platform.errors import PlatformError, StorageError
from llm_platform.files import share, write_text
from llm_platform.records.contracts import Column, Contract
from llm_platform.warehouse.coordination import COPIES
from llm_platform.warehouse.engine import identifier, literal, one_of
from llm_platform.warehouse.masking import hand_key, mask_key_id, masked_select
from llm_platform.warehouse.object_versions import purge_versions
from llm_platform.warehouse.parquet_parts import CopiedPart, Footer, Group, NotReadable, join, read_footer
from llm_platform.warehouse.session import Session

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

STATE = "llm_platform_state"
"""Key of a Parquet file's metadata that says what it is a copy of."""
VERSION = "llm_platform_contract"
GROUP_ROWS = 8_192
"""Fewest rows of a row group of a Parquet copy: a changed row has its group written anew."""
MOST_GROUP_ROWS = 122_880
"""DuckDB's own."""
ROWS_OF_SMALL_GROUPS = 1_000_000
MOST_TOUCHED = 0.5
"""Where more groups have changed, the whole table is written."""
ENDINGS = ("parquet", "schema.json", "odcs.yaml")

Files = Callable[[Contract], Mapping[str, str]]
"""The contract as files, by name. They are written after the rows, and the last one, `.schema.json`, names the
contract: a table may have more than its contract says, and never less."""


@dataclass(frozen=True)
class Original:
    """One published table at a snapshot.

    Attributes:
        contract: As those have it who read the copy.
        masked: The same with the columns that they do not get.
        relation: SQL to read it from.
        state: What a copy of it says that it is.
    """

    contract: Contract
    masked: Contract
    relation: str
    state: str
    application: str
    snapshot: int

    @property
    def rows(self) -> str:
        """SQL of its rows as they are shown."""
        return masked_select(self.masked, self.relation)

    @property
    def shows_keys(self) -> bool:
        """Whether its keys are shown as they are: a change is told by them."""
        return all(one.mask is None for one in self.masked.columns if one.name == self.contract.key)

    @property
    def key(self) -> str:
        """The column that its rows are in the order of."""
        return identifier(self.contract.key)

    @property
    def select(self) -> str:
        """Its rows in the order of their keys as they are shown, with the columns of the contract."""
        return f"SELECT * FROM ({self.rows}) ORDER BY {self.key}"

    def remasked(self, schema: Mapping[str, Any]) -> list[Column]:
        """Columns that an older copy shows in another way, by the schema that stands beside it."""
        before = {name: one.get("x-mask") for name, one in schema.get("properties", {}).items()}
        return [one for one in self.masked.columns if before.get(one.name, one.mask) != one.mask]

    def prepare(self, session: Session, cursor: duckdb.DuckDBPyConnection) -> None:
        """Let a cursor read the rows."""
        hand_key(session, cursor, self.masked, application=self.contract.application)


class CopyPlace(Protocol):
    """Where copies of an application's published tables are."""

    @property
    def address(self) -> str:
        """The place in words, without secrets."""

    @property
    def full(self) -> bool:
        """Whether it holds the tables without masks."""

    def bring(self, session: Session, originals: Sequence[Original], files: Files) -> list[str]:
        """Make the copies what the originals are, and take away those of tables that are no more.

        Returns:
            A line for each copy that was written or taken away.
        """

    def erase(self, session: Session) -> int:
        """Leave nothing of what was in the copies before; returns how many past versions the place does not let go of.

        Raises:
            StorageError: we may not.
            TransientError: it does not answer, or is busy.
        """


class Copies:
    """Copies of the published tables of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def bring(self, contracts: Sequence[Contract], places: Sequence[CopyPlace], *, files: Files) -> list[str]:
        """Bring every place up to what is published now; returns a line for each copy that was written.

        Raises:
            PlatformError: one could not be written; the others were.
        """
        done: list[str] = []
        failed: list[PlatformError] = []
        # One at a time: a slow writer must not lay an older state over a newer one.
        with self._session.coordinator.write_lock(f"{COPIES}:{self._application}"):
            originals = {full: self._originals(contracts, full=full) for full in {place.full for place in places}}
            for place in places:
                try:
                    done += place.bring(self._session, originals[place.full], files)
                except PlatformError as error:
                    failed.append(error)
        if failed:
            raise type(failed[0])(
                f"{self._application} is published in the lake, and not everywhere else; the next publication tries "
                "again.\n" + "\n".join(map(str, failed))
            )
        return done

    def erase(self, place: CopyPlace) -> int:
        """See `CopyPlace.erase`."""
        return place.erase(self._session)

    def mask_key_id(self, *, make: bool = False) -> str | None:
        """Which key hashes for readers are made with; see `masking.mask_key_id`."""
        return mask_key_id(self._session, make=make)

    def _originals(self, contracts: Sequence[Contract], *, full: bool) -> list[Original]:
        snapshot = self._session.snapshot()
        found = []
        for one in contracts:
            written = self._session.last_written(self._application, one.table, at_snapshot=snapshot)
            relation = self._session.relation(self._application, one.table, at_snapshot=snapshot)
            masked = one.in_full() if full else one
            shown = masked.for_readers()
            state = f"{written}/{shown.content_id}"
            found.append(Original(shown, masked, relation, state, self._application, snapshot))
        return found


@dataclass(frozen=True)
class FolderPlace:
    """A folder of this machine.

    Attributes:
        shared: Others are to read it, as far as the person who started this process lets them.
        full: See `CopyPlace`.
    """

    folder: Path
    shared: bool = False
    full: bool = False

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.folder)

    def bring(self, session: Session, originals: Sequence[Original], files: Files) -> list[str]:
        """See `CopyPlace`."""
        try:
            return [*self._written(session, originals, files), *self._removed(originals)]
        except OSError as error:
            raise StorageError(
                f"Cannot export to {self.address!r}: {error.strerror}. Make the folder writable."
            ) from error

    def erase(self, session: Session) -> int:
        """See `CopyPlace`. A file that was replaced is gone."""
        del session
        return 0

    def _written(self, session: Session, originals: Sequence[Original], files: Files) -> list[str]:
        self._make_folder()
        for left in self.folder.glob(".published_v*.partial"):
            left.unlink(missing_ok=True)
        done = []
        for one in originals:
            final = self.folder / f"{one.contract.table}.parquet"
            described = final.with_suffix(".schema.json")
            told = described.is_file() and one.contract.content_id in described.read_text(encoding="utf-8")
            if told and final.is_file() and state_of(session, str(final)) == one.state:
                continue
            partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
            if not patch_parquet(session, one, final, partial):
                write_parquet(session, one, str(partial), shown=str(final))
            if self.shared:
                share(partial)
            os.replace(partial, final)
            for name, text in files(one.contract).items():
                write_text(self.folder / name, text, shared=self.shared)
            done.append(f"{one.contract.table} to {final}")
        return done

    def _make_folder(self) -> None:
        made = [one for one in (self.folder, *self.folder.parents) if not one.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        for one in made if self.shared else ():
            share(one)

    def _removed(self, originals: Sequence[Original]) -> list[str]:
        kept = {one.contract.table for one in originals}
        found = [path for ending in ENDINGS for path in self.folder.glob(f"published_v*.{ending}")]
        gone = [path for path in found if path.name.partition(".")[0] not in kept]
        for path in gone:
            path.unlink(missing_ok=True)
        return [f"{path} was taken away" for path in gone if path.suffix == ".parquet"]


@dataclass(frozen=True)
class S3Place:
    """A prefix of an object store: an object is replaced whole.

    Attributes:
        full: See `CopyPlace`.
    """

    prefix: str
    full: bool = False

    @property
    def address(self) -> str:
        """The prefix."""
        return self.prefix

    def bring(self, session: Session, originals: Sequence[Original], files: Files) -> list[str]:
        """See `CopyPlace`."""
        from pyarrow import fs

        store = session.s3.file_system()
        folder = self.prefix.removeprefix("s3://").rstrip("/")
        try:
            there = store.get_file_info(fs.FileSelector(folder, allow_not_found=True))
            names = {info.base_name for info in there if info.type == fs.FileType.File}
            done, hidden = [], False
            for one in originals:
                address = f"s3://{folder}/{one.contract.table}.parquet"
                described, told = f"{one.contract.table}.schema.json", False
                if described in names and f"{one.contract.table}.parquet" in names:
                    with store.open_input_stream(f"{folder}/{described}") as stream:
                        schema = stream.read().decode()
                    told = one.contract.content_id in schema
                    hidden = hidden or any(column.mask is not None for column in one.remasked(json.loads(schema)))
                if told and state_of(session, address) == one.state:
                    continue
                upload_parquet(session, one, store, f"{folder}/{one.contract.table}.parquet", shown=address)
                for name, text in files(one.contract).items():
                    with store.open_output_stream(f"{folder}/{name}") as stream:
                        stream.write(text.encode())
                done.append(f"{one.contract.table} to {address}")
            kept = {one.contract.table for one in originals}
            for name in sorted(names):
                if name.startswith("published_v") and name.endswith(ENDINGS) and name.partition(".")[0] not in kept:
                    store.delete_file(f"{folder}/{name}")
                    if name.endswith(".parquet"):
                        done.append(f"s3://{folder}/{name} was taken away")
            # What is masked now stands in the versions from before, in a bucket that keeps them.
            if hidden and (refused := self.erase(session)):
                done.append(
                    f"{refused} versions from before there was a mask are locked by the store at {self.address}"
                )
        except OSError:
            # What the store says holds keys and signatures.
            raise StorageError(
                f"Cannot keep the copy at {self.address!r}: the object store refuses it or does not answer. Check the "
                "bucket, and LLM_PLATFORM_S3_KEY_ID and the like."
            ) from None
        return done

    def erase(self, session: Session) -> int:
        """See `CopyPlace`."""
        return purge_versions(session.s3, self.prefix)[1]


def group_rows(rows: int) -> int:
    """Rows of a row group in the copy of a table of so many.

    Beside the groups that hold a changed row, every group's part of the footer is written anew: with groups that grow
    as the root of the table, both costs do.
    """
    return min(MOST_GROUP_ROWS, max(GROUP_ROWS, round(GROUP_ROWS * math.sqrt(rows / ROWS_OF_SMALL_GROUPS))))


def write_parquet(session: Session, original: Original, target: str, *, shown: str) -> int:
    """Write one published table to a Parquet file that says what it is a copy of; returns the number of rows."""
    marks = ", ".join(f"{name}: {literal(text)}" for name, text in _marks(original).items())
    with session.cursor(f"export to {shown!r} from") as cursor:
        original.prepare(session, cursor)
        form = _form(_count(cursor, original))
        copy = f"COPY ({original.select}) TO {literal(target)} ({form}, KV_METADATA {{{marks}}})"
        # Sorted, so it would hold the table.
        found = session.sparingly(lambda: cursor.execute(copy).fetchall())
    return int(found[0][0])


def upload_parquet(session: Session, original: Original, store: FileSystem, path: str, *, shown: str) -> None:
    """Write one published table in the place of an object.

    It is written on this machine first: of what DuckDB cannot write whole into a store, it takes away the object that
    was there before.

    Raises:
        StorageError: it cannot be written on this machine.
        OSError: the store does not take it.
    """
    from pyarrow import fs

    try:
        scratch = tempfile.TemporaryDirectory(dir=session.spill_folder)
    except OSError as error:
        raise StorageError(
            f"Cannot write the copy at {shown!r} on this machine first: {error.strerror} ({session.spill_folder}). "
            "Make room there, or the folder writable."
        ) from error
    with scratch as folder:
        file = Path(folder) / "copy.parquet"
        write_parquet(session, original, str(file), shown=shown)
        fs.copy_files(str(file), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=store)


def patch_parquet(session: Session, original: Original, old: Path, new: Path) -> bool:
    """Make a copy of an older one: only row groups that hold a key that was written since are made anew.

    Returns:
        False where it is better, or only possible, to write the whole table; nothing was written then.
    """
    try:
        footer = read_footer(old, original.contract.key) if old.is_file() and original.shows_keys else None
    except NotReadable:
        footer = None
    if footer is None or not footer.groups or (since := _written_at(footer, original)) is None:
        return False
    with session.cursor(f"export to {str(old)!r} from") as cursor:
        original.prepare(session, cursor)
        keys = _keys_since(session, original, since)
        ranges = None if keys is None else _ranges(footer.groups, keys)
        if not keys or ranges is None:
            return False
        written = one_of(original.key, keys)
        cursor.execute(f"CREATE TEMP TABLE fresh AS SELECT * FROM ({original.rows}) WHERE {written}")
        parts, made, form = [], [], _form(footer.rows)
        try:
            for number, (first, end, is_new) in enumerate(ranges):
                if not is_new:
                    parts.append(CopiedPart(old, footer.groups[first:end]))
                    continue
                made.append(new.with_name(f"{new.name.removesuffix('.partial')}.{number}.partial"))
                where = _between(footer.groups, first, end, original.key)
                cursor.execute(
                    f"COPY (SELECT * FROM (SELECT * FROM read_parquet({literal(str(old))}) "
                    f"WHERE {where} AND NOT ({written}) UNION ALL SELECT * FROM fresh WHERE {where}) "
                    f"ORDER BY {original.key}) TO {literal(str(made[-1]))} ({form})"
                )
                part = read_footer(made[-1], original.contract.key)
                if part.schema != footer.schema:
                    return False
                parts.append(CopiedPart(made[-1], part.groups))
            rows = join(parts, new, like=footer, marks=_marks(original))
        except NotReadable:
            return False
        finally:
            for one in made:
                one.unlink(missing_ok=True)
        # What else was done to the older copy than was told has changed its number of rows, or is of no matter here.
        return rows == _count(cursor, original)


def _form(rows: int) -> str:
    return f"FORMAT parquet, ROW_GROUP_SIZE {group_rows(rows)}, WRITE_BLOOM_FILTER false"


def _count(cursor: duckdb.DuckDBPyConnection, original: Original) -> int:
    return int(cursor.execute(f"SELECT count(*) FROM {original.relation}").fetchall()[0][0])


def _marks(original: Original) -> dict[str, str]:
    return {STATE: original.state, VERSION: original.contract.version}


def _written_at(footer: Footer, original: Original) -> int | None:
    """The snapshot that a copy is of; None where it is one of another table, or of another contract."""
    table, _, rest = footer.marks.get(STATE, "").partition("@")
    at, _, contract = rest.partition("/")
    same = (table, contract) == (original.state.partition("@")[0], original.contract.content_id)
    return int(at) if same and at.isdigit() else None


def _keys_since(session: Session, original: Original, since: int) -> list[str] | None:
    """Keys of rows that were written or left since; None where they are many, or cannot be told."""
    application, table = original.application, original.contract.table
    keys = session.changed_keys(application, table, after=since, until=original.snapshot, column=original.contract.key)
    usable = keys is not None and all(isinstance(key, str) and "\0" not in key for key in keys)
    return list(keys) if usable and keys is not None else None


def _ranges(groups: Sequence[Group], keys: Sequence[str]) -> list[tuple[int, int, bool]] | None:
    """Groups from one and before another that are kept, or made anew; None where all may as well be written."""
    largest = [one.largest for one in groups]
    smallest = [one.smallest for one in groups]
    if None in largest or None in smallest:
        return None
    sizes = [size for size in largest if size is not None]
    if any(before >= after for before, after in zip(sizes, smallest[1:], strict=False) if after is not None):
        return None
    touched = {min(bisect_left(sizes, key.encode()), len(groups) - 1) for key in keys}
    usual = group_rows(sum(one.rows for one in groups))
    small = sum(one.rows < usual // 4 for one in groups)
    if len(touched) > len(groups) * MOST_TOUCHED or small > 1 + len(groups) * MOST_TOUCHED:
        return None
    found: list[tuple[int, int, bool]] = []
    for number in range(len(groups)):
        is_new = number in touched
        if found and found[-1][2] == is_new:
            found[-1] = (found[-1][0], number + 1, is_new)
        else:
            found.append((number, number + 1, is_new))
    return found


def _between(groups: Sequence[Group], first: int, end: int, key: str) -> str:
    """SQL that a key belongs to these groups: behind the last one before them, and up to their own last one."""
    bounds = []
    if first:
        bounds.append(f"{key} > {literal((groups[first - 1].largest or b'').decode())}")
    if end < len(groups):
        bounds.append(f"{key} <= {literal((groups[end - 1].largest or b'').decode())}")
    return " AND ".join(bounds) or "true"


def state_of(session: Session, path: str) -> str | None:
    """What a Parquet file says that it is a copy of; None where it says nothing, or is none."""
    try:
        with session.cursor(f"read {path!r} beside") as cursor:
            _reach(session, cursor, path)
            rows = cursor.execute(f"SELECT key, value FROM parquet_kv_metadata({literal(path)})").fetchall()
    except StorageError:
        return None
    return next((bytes(value).decode() for key, value in rows if bytes(key).decode() == STATE), None)


def _reach(session: Session, cursor: duckdb.DuckDBPyConnection, target: str) -> None:
    if target.startswith("s3://"):
        session.reach_store(cursor, target)
