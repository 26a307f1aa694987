"""The lake of one namespace: where it is, attaching it, and the way to everything in it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa

from llm_platform.errors import StorageError
from llm_platform.warehouse.alerts import Alerts
from llm_platform.warehouse.backups import FOLDER as COPIES
from llm_platform.warehouse.calls import SCHEMA as PLATFORM
from llm_platform.warehouse.calls import Calls
from llm_platform.warehouse.coordination import ATTACH, Coordinator
from llm_platform.warehouse.coordination_postgres import PostgresCoordinator
from llm_platform.warehouse.coordination_sqlite import FileCoordinator
from llm_platform.warehouse.endpoint_metrics import EndpointMetricsTable
from llm_platform.warehouse.engine import (
    connect,
    identifier,
    literal,
    load,
    platform_error,
    redacted,
    with_deadline,
)
from llm_platform.warehouse.erasure import Erased, erase, leftovers
from llm_platform.warehouse.maintenance import CompactionReport, compact
from llm_platform.warehouse.object_store import S3Access, make_secret
from llm_platform.warehouse.requests import ForgetRequests
from llm_platform.warehouse.retention import OldRows
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, metadata_table
from llm_platform.warehouse.sources import SourceReader
from llm_platform.warehouse.spilling import SpillFolder
from llm_platform.warehouse.statistics import keep_texts_out
from llm_platform.warehouse.store import ApplicationStore
from llm_platform.warehouse.usage import TableUsage, usage
from llm_platform.warehouse.vanished import require_new

DEFAULT_METADATA_SCHEMA = {"sqlite": "main", "postgres": "public"}
MADE_BEFORE = "CREATE_IF_NOT_EXISTS false"
NOT_MADE = "creating a new DuckLake is explicitly disabled"
"""What DuckLake says where a database is there and holds no lake."""


class NoLake(StorageError):
    """There is no lake where one is to be read: nobody has written it yet."""


ROW_GROUP_ROWS = 4_096
"""Rows of a Parquet file that are read together at least.

A run reads its texts in the order of their keys, some thousands at a time. In groups of DuckDB's own 122,880 rows each
of those reads unpacked 250 MB of texts: memory that grew with the table, and a quarter of the CPU of a long run.
"""


@dataclass(frozen=True)
class LakeLocation:
    """Where a lake is.

    Attributes:
        catalog: `sqlite:<path>` or `postgres:<libpq connection string>`.
        data_path: Folder or `s3://` prefix of the Parquet files.
        metadata_schema: Postgres schema of the catalog's tables.
        encrypted: Whether the Parquet files are encrypted, with keys in the catalog; decided when the lake is made.
        folder: Where its runs leave journals and report cards; None for the folder of a SQLite catalog.
        signing_key: File of the key by which documents that were forgotten are known.
    """

    catalog: str
    data_path: str
    metadata_schema: str | None = None
    encrypted: bool = False
    s3: S3Access | None = None
    folder: str | None = None
    signing_key: str | None = None

    @property
    def kind(self) -> str:
        """`sqlite` or `postgres`.

        Raises:
            StorageError: it is neither.
        """
        kind = self.catalog.partition(":")[0]
        if kind not in DEFAULT_METADATA_SCHEMA or not self.target:
            raise StorageError(
                f"Cannot use the catalog {redacted(self.catalog)!r}: expected 'sqlite:<file>' or "
                "'postgres:<connection string>'."
            )
        return kind

    @property
    def target(self) -> str:
        """File or connection string."""
        return self.catalog.partition(":")[2]

    @property
    def is_remote(self) -> bool:
        """Whether the Parquet files are in an object store."""
        return "://" in self.data_path

    @property
    def own_folder(self) -> Path | None:
        """The folder of its catalog on this machine; None where that is a server's."""
        return Path(self.target).parent if self.kind == "sqlite" else None

    @property
    def schema(self) -> str:
        """Schema of the catalog's tables in its database."""
        return self.metadata_schema or DEFAULT_METADATA_SCHEMA[self.kind]

    @property
    def runs_folder(self) -> Path | None:
        """`folder`, or where it must be."""
        if self.folder is not None:
            return Path(self.folder)
        return Path(self.target).parent if self.kind == "sqlite" else None

    @property
    def address(self) -> str:
        """The place in a word, without secrets, for messages."""
        if self.kind == "sqlite":
            return repr(self.target)
        return f"{redacted(self.target)!r} (schema {self.schema!r})"

    def coordinator(self) -> Coordinator:
        """What keeps the writers of this lake apart."""
        if self.kind == "sqlite":
            return FileCoordinator(Path(self.target))
        return PostgresCoordinator(self.target, self.schema)


class Warehouse:
    """An attached lake; a context manager that closes it."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        session: Session,
        sources: SourceReader,
        spill: SpillFolder,
        location: LakeLocation,
    ) -> None:
        self._connection = connection
        self.location = location
        self._spill = spill
        self._session = session
        self.sources = sources

    @classmethod
    def attach(
        cls,
        location: LakeLocation,
        *,
        upstream: LakeLocation | None = None,
        sources: Mapping[str, str] | None = None,
        threads: int = 1,
        read_only: bool = False,
    ) -> Warehouse:
        """Open a lake; make it when it does not exist and `read_only` is false.

        Args:
            location: Our own lake.
            upstream: Another namespace, attached read-only: its stored answers count as ours.
            sources: Name → URL of the warehouses that source tables are in; attached on first use, read-only.
            threads: Threads that DuckDB works in, that of its caller among them; see `connect`.
            read_only: Open without creating or writing anything.

        Raises:
            StorageError: a folder is missing or read-only, the disk is full, or the catalog is damaged or absent.
            TransientError: the catalog's database does not answer.
        """
        if not read_only:
            _make_folders(location)
        spill = SpillFolder(location.own_folder)
        connection = connect(threads, spill=spill.path)
        if not location.is_remote:
            # It tells local files apart by inode, size and second: a copy written anew was read as the one before.
            connection.execute("SET GLOBAL enable_external_file_cache = false")
        coordinator = location.coordinator()
        try:
            if read_only:
                if location.kind == "sqlite" and not coordinator.has_catalog():
                    _require_new(connection, location)
                _attach(connection, _readable(location, spill, LAKE), alias=LAKE, read_only=True)
            else:
                # Two processes that make the same lake at once would both create its tables.
                with coordinator.write_lock(ATTACH):
                    if not coordinator.has_catalog():
                        _require_new(connection, location)
                    _attach(connection, location, alias=LAKE, read_only=False)
                    _prepare(connection, location)
            schemas = {LAKE: location.schema}
            if upstream is not None:
                _attach(connection, _readable(upstream, spill, UPSTREAM), alias=UPSTREAM, read_only=True)
                schemas[UPSTREAM] = upstream.schema
        except BaseException:
            connection.close()
            coordinator.close()
            spill.remove()
            raise
        session = Session(
            connection,
            address=location.address,
            coordinator=coordinator,
            metadata_schemas=schemas,
            s3=location.s3 or S3Access(),
            signing_key=location.signing_key,
        )
        return cls(connection, session, SourceReader(connection, sources or {}, s3=location.s3), spill, location)

    def close(self) -> None:
        """Detach; a second call does nothing."""
        self._session.coordinator.close()
        self._connection.close()
        self._spill.remove()

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def mark(self) -> object:
        """Another one after every commit, whoever makes it, here or upstream; cheaper than a snapshot's id."""
        upstream = self._session.snapshot(catalog=UPSTREAM) if self._session.has_upstream else None
        return self._session.coordinator.mark(), upstream

    @property
    def has_upstream(self) -> bool:
        """Whether it stands on another namespace, as a branch does."""
        return self._session.has_upstream

    def snapshot(self) -> int:
        """Id of the newest snapshot of the lake."""
        return self._session.snapshot()

    def application(self, name: str) -> ApplicationStore:
        """The tables of one application; they are made when first written."""
        return ApplicationStore(self._session, name)

    @property
    def endpoint_metrics(self) -> EndpointMetricsTable:
        """What every endpoint said about itself, over time."""
        return EndpointMetricsTable(self._session)

    @property
    def alerts(self) -> Alerts:
        """What people are to be told, and whether they were."""
        return Alerts(self._session)

    @property
    def calls(self) -> Calls:
        """Requests of people's and teams' own code, of all applications."""
        return Calls(self._session)

    @property
    def forget_requests(self) -> ForgetRequests:
        """Requests to forget that are not done."""
        return ForgetRequests(self._session.coordinator)

    @property
    def platform_retention(self) -> OldRows:
        """Old rows of the tables that belong to no application."""
        return OldRows(self._session, PLATFORM)

    def applications(self) -> list[str]:
        """Applications of which somebody has written a table."""
        schemas = self._session.metadata("ducklake_schema")
        rows = self._session.rows(f"SELECT DISTINCT schema_name FROM {schemas} WHERE end_snapshot IS NULL ORDER BY 1")
        return [name for (name,) in rows if self._session.tables(name)]

    def usage(self) -> list[TableUsage]:
        """How much room each table takes."""
        return usage(self._session)

    def erase(self) -> Erased:
        """Leave nothing of removed rows in the bytes of this lake; no past snapshot can be read afterwards."""
        where = self.location
        s3 = (where.s3 or S3Access()) if where.is_remote else None
        # The files that copies of the catalog name will be gone.
        if where.runs_folder is not None:
            shutil.rmtree(where.runs_folder / COPIES, ignore_errors=True)
        return erase(
            self._session, kind=where.kind, target=where.target, schema=where.schema, data_path=where.data_path, s3=s3
        )

    def leftovers(self) -> list[str]:
        """Parquet files below its data that its catalog does not name."""
        with self._session.cursor("list the files of") as cursor:
            return leftovers(self._session, cursor, self.location.data_path)

    def compact(self, *, keep_days: float = 30.0) -> CompactionReport:
        """Merge small files, forget snapshots older than `keep_days` that no decision rests on, and delete files that
        nothing refers to.

        Raises:
            StorageError: the catalog cannot be copied first; nothing was changed.
        """
        where = self.location
        copies = None if where.runs_folder is None else where.runs_folder / COPIES
        return compact(self._session, keep_days=keep_days, copies=copies, kind=where.kind, target=where.target)

    def frame(self, application: str, table: str, *, at_snapshot: int | None = None) -> pa.Table:
        """A whole table, now or as it was at a snapshot.

        Raises:
            StorageError: the snapshot does not exist or has expired.
        """
        return self._session.table(
            f"SELECT * FROM {self._session.relation(application, table, at_snapshot=at_snapshot)}"
        )


def _make_folders(location: LakeLocation) -> None:
    folders = [Path(location.target).parent] if location.kind == "sqlite" else []
    if not location.is_remote:
        folders.append(Path(location.data_path))
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"Cannot make the folder {str(folder)!r} for the lake: {error.strerror}. "
                "Make its parent writable, or choose another place."
            ) from error


def _require_new(connection: duckdb.DuckDBPyConnection, location: LakeLocation) -> None:
    try:
        if location.is_remote:
            load(connection, "httpfs")
            _make_secret(connection, location, alias=LAKE)
        require_new(connection, address=location.address, data_path=location.data_path, folder=location.runs_folder)
    except duckdb.Error as error:
        raise platform_error(error, f"look for data of the lake at {location.address}") from None


def _attach(connection: duckdb.DuckDBPyConnection, location: LakeLocation, *, alias: str, read_only: bool) -> None:
    doing = f"attach the lake at {location.address}"
    if location.kind == "sqlite" and read_only and not os.path.exists(location.target):
        raise NoLake(f"There is no lake at {location.address} yet. Run 'llm-platform demo', or materialize something.")
    try:
        load(connection, "ducklake", f"{location.kind}_scanner")
        if location.is_remote or location.encrypted:
            # Without it, DuckDB's own cryptography can only read.
            load(connection, "httpfs")
        if location.is_remote:
            _make_secret(connection, location, alias=alias)
        try:
            connection.execute(attach_statement(location, alias=alias, read_only=read_only, options=(MADE_BEFORE,)))
        except duckdb.Error as error:
            if NOT_MADE in str(error) and alias == LAKE:
                # Whoever put a database without a lake in the place of its catalog has removed the catalog.
                _require_new(connection, location)
                options: tuple[str, ...] = (MADE_BEFORE,) if read_only else ()
            elif _has_moved(location, error):
                options = (MADE_BEFORE, "OVERRIDE_DATA_PATH true")
            else:
                raise
            connection.execute(attach_statement(location, alias=alias, read_only=read_only, options=options))
        _keep_encrypted(connection, location, alias=alias, read_only=read_only)
    except duckdb.Error as error:
        if "is not encrypted but we requested" in str(error):
            raise StorageError(
                f"LLM_PLATFORM_ENCRYPTED is set, and the lake at {location.address} was made without. Encrypt it: "
                "llm-platform state encrypt; or unset it."
            ) from None
        if read_only and "does not exist" in str(error).lower() and "ducklake" in str(error).lower():
            raise NoLake(f"There is no lake at {location.address} yet; nobody has written it.") from None
        raise platform_error(error, doing) from None


def _keep_encrypted(
    connection: duckdb.DuckDBPyConnection, location: LakeLocation, *, alias: str, read_only: bool
) -> None:
    """Let a lake that was made encrypted be written also where nobody says that it is."""
    if read_only or location.is_remote or location.encrypted:
        return
    options = metadata_table("ducklake_metadata", catalog=alias, schema=location.schema)
    if connection.execute(f"SELECT value FROM {options} WHERE key = 'encrypted'").fetchone() == ("true",):
        load(connection, "httpfs")


def _prepare(connection: duckdb.DuckDBPyConnection, location: LakeLocation) -> None:
    """Give a lake that is new, or was made by an older version, what every writer of ours counts on."""
    # Not `ducklake_options`: it loads the whole catalog first, for a tenth of a second.
    options = metadata_table("ducklake_metadata", catalog=LAKE, schema=location.schema)
    try:
        found = connection.execute(f"SELECT value FROM {options} WHERE key = 'parquet_row_group_size'").fetchone()
        if found != (str(ROW_GROUP_ROWS),):
            connection.execute(f"CALL {LAKE}.set_option('parquet_row_group_size', {ROW_GROUP_ROWS})")
        keep_texts_out(connection, kind=location.kind, target=location.target, schema=location.schema)
    except duckdb.Error as error:
        raise platform_error(error, f"prepare the lake at {location.address}") from None


def _make_secret(connection: duckdb.DuckDBPyConnection, location: LakeLocation, *, alias: str) -> None:
    make_secret(connection, location.s3 or S3Access(), name="data_of_" + alias, scope=location.data_path)


def _has_moved(location: LakeLocation, error: duckdb.Error) -> bool:
    """Whether the folder of the data was moved: it is where we say, and no longer where the catalog says."""
    recorded = re.search(r'existing data path in the catalog "([^"]+)"', str(error))
    if recorded is None or location.is_remote or "://" in recorded[1]:
        return False
    return os.path.isdir(location.data_path) and not os.path.exists(recorded[1])


def _readable(location: LakeLocation, spill: SpillFolder, name: str) -> LakeLocation:
    """The lake, with a copy of its catalog where that is in a folder that this user may not write.

    SQLite reads no database with a write-ahead log there, unless somebody who may write has it open. The copy is of
    this moment: what is committed later is seen by whoever attaches the lake again. One that holds keys of encrypted
    files is copied nowhere.
    """
    catalog = Path(location.target)
    if location.kind != "sqlite" or spill.path is None or os.access(catalog.parent, os.W_OK):
        return location
    if location.encrypted or not catalog.is_file() or catalog.with_name(f"{catalog.name}-shm").exists():
        return location
    copy = spill.path / f"{name}.sqlite"
    try:
        shutil.copyfile(catalog, copy)
    except OSError:
        return location  # attaching it says what is wrong
    return replace(location, catalog=f"sqlite:{copy}")


def attach_statement(location: LakeLocation, *, alias: str, read_only: bool, options: Sequence[str] = ()) -> str:
    """The ATTACH statement of a lake.

    Inlining is off: with it, commits of up to ten rows go into the catalog's database, which made small commits slower.
    """
    given = [*options, f"DATA_PATH {literal(location.data_path)}", "DATA_INLINING_ROW_LIMIT 0"]
    if location.kind == "sqlite":
        given.append("META_BUSY_TIMEOUT 10000")
        if not read_only:
            given.append("META_JOURNAL_MODE 'WAL'")
    else:
        given.append(f"METADATA_SCHEMA {literal(location.schema)}")
    if location.encrypted:
        given.append("ENCRYPTED")
    if read_only:
        given.append("READ_ONLY")
    target = location.target if location.kind == "sqlite" else with_deadline(location.target)
    return f"ATTACH {literal(f'ducklake:{location.kind}:{target}')} AS {identifier(alias)} ({', '.join(given)})"
