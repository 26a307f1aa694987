"""URLs of warehouses that others write, and how each kind is attached read-only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import duckdb

from llm_platform.errors import PlatformError, SpecificationError, StorageError, TransientError
from llm_platform.warehouse.engine import (
    cause,
    identifier,
    is_race,
    literal,
    load,
    platform_error,
    redacted,
    with_deadline,
)
from llm_platform.warehouse.object_store import S3Access, make_secret

OPTIONS = ("data_path", "metadata_schema")
SCHEMES = (
    "ducklake:sqlite:<file>, ducklake:postgres:<connection string>, postgres:<connection string>, "
    "mysql:<connection string>, duckdb:<file>, sqlite:<file>, delta:<folder>, iceberg:<folder>"
)
EXTENSIONS = {
    "duckdb": (),
    "sqlite": ("sqlite_scanner",),
    "postgres": ("postgres_scanner",),
    "mysql": ("mysql_scanner",),
    "delta": ("delta",),
    "iceberg": ("iceberg",),
}
DEFAULT_SCHEMA = {"duckdb": "main", "sqlite": "main", "postgres": "public", "ducklake": "main"}
FOLDERS = ("delta", "iceberg")
"""Kinds whose tables are folders below a folder, and which nothing is attached for."""
CLEARS = {"postgres": "CALL pg_clear_cache()", "mysql": "CALL mysql_clear_cache()"}
"""DuckDB remembers tables and columns of these; their owner may have changed them."""
MEANINGS_OF_READING = (
    (
        ("permission denied", "readonly database", "read-only file system"),
        "this user may not read it. Let it: in Postgres that is SELECT on the table and USAGE on its schema.",
    ),
    (
        ("unable to open database", "database does not exist", "is a directory"),
        "there is no such file, or this user may not read it.",
    ),
    (
        ("could not set lock", "file handle conflict"),
        "another program writes to its file, which nobody else can read meanwhile. Close that, or read a copy.",
    ),
    (("not a valid duckdb database file",), "it is not a DuckDB file."),
    (
        ("this array has",),
        "arrays of one column have different numbers of dimensions. Cast it to text in a view, or leave it out.",
    ),
)
"""What the engine says → what it means of what is only read; of the rest, what it means everywhere."""
LOOSE_COLUMN = re.compile(r'Mismatch Type Error: Invalid type in column "([^"]+)": column was declared as')
"""How the engine begins about a value of another type, as SQLite allows."""
MYSQL_DATABASE = re.compile(r"\b(?:database|db)=(\S+)")


@dataclass(frozen=True)
class SourceUrl:
    """A parsed URL.

    Attributes:
        kind: `ducklake`, `postgres`, `mysql`, `duckdb`, `sqlite`, `delta` or `iceberg`.
        catalog: For a DuckLake, what holds its catalog: `sqlite` or `postgres`.
        target: File or connection string.
    """

    kind: str
    catalog: str
    target: str
    data_path: str | None = None
    metadata_schema: str | None = None

    @property
    def default_schema(self) -> str:
        """Schema of a table that is named without one."""
        database = MYSQL_DATABASE.search(self.target) if self.kind == "mysql" else None
        return database[1] if database else DEFAULT_SCHEMA.get(self.kind, "")

    @property
    def object_store(self) -> str | None:
        """The prefix of an object store that it is in, or its data is."""
        place = self.target if self.kind in FOLDERS else self.data_path
        return place if place is not None and place.startswith("s3://") else None

    @property
    def ducklake_schema(self) -> str:
        """Schema of DuckLake's own tables in the catalog's database."""
        return self.metadata_schema or DEFAULT_SCHEMA[self.catalog]

    @property
    def extensions(self) -> tuple[str, ...]:
        """DuckDB extensions that it needs."""
        lake = ("ducklake",) if self.kind == "ducklake" else ()
        store = ("httpfs",) if self.object_store else ()
        return (*lake, *EXTENSIONS[self.catalog], *store)

    def attach_statement(self, alias: str, *, read_only: bool = True) -> str:
        """The ATTACH statement; read-only unless said otherwise."""
        options = ["READ_ONLY"] if read_only else []
        address = with_deadline(self.target) if self.catalog == "postgres" else self.target
        if self.kind == "ducklake":
            address = f"ducklake:{self.catalog}:{address}"
            options.append("DATA_INLINING_ROW_LIMIT 0")
            options += [f"DATA_PATH {literal(self.data_path)}"] if self.data_path else []
            options += [f"METADATA_SCHEMA {literal(self.metadata_schema)}"] if self.metadata_schema else []
            options += ["META_BUSY_TIMEOUT 10000"] if self.catalog == "sqlite" else []
        elif self.kind != "duckdb":
            options.append(f"TYPE {self.kind}")
        return f"ATTACH {literal(address)} AS {identifier(alias)}" + (f" ({', '.join(options)})" if options else "")


def parse_source_url(name: str, url: str) -> SourceUrl:
    """The parts of the URL of warehouse `name`.

    Raises:
        SpecificationError: the scheme is not one that can be read.
    """
    kind, _, rest = url.partition(":")
    catalog = kind
    if kind == "ducklake":
        catalog, _, rest = rest.partition(":")
    if (
        kind not in (*EXTENSIONS, "ducklake")
        or catalog not in EXTENSIONS
        or (kind == "ducklake" and catalog not in ("sqlite", "postgres"))
        or not rest
    ):
        raise SpecificationError(
            f"Cannot read warehouse {name!r} at {redacted(url)!r}: its scheme is {kind!r}. Use one of: {SCHEMES}."
        )
    target, options = _split_options(rest)
    return SourceUrl(kind=kind, catalog=catalog, target=target, **options)


def _split_options(rest: str) -> tuple[str, dict[str, str]]:
    target, mark, query = rest.rpartition("?")
    options = dict(parse_qsl(query)) if mark else {}
    # A Postgres URI has a query of its own, which stays with it.
    if options and all(name in OPTIONS for name in options):
        return target, options
    return rest, {}


class Attachments:
    """Warehouses attached on first use under `source_<name>`."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, urls: Mapping[str, str], *, s3: S3Access | None = None
    ) -> None:
        self._connection = connection
        self._s3 = s3 or S3Access()
        self._urls = dict(urls)
        self._attached: dict[str, SourceUrl] = {}

    def attach(self, name: str) -> tuple[str, SourceUrl]:
        """(alias, URL) of a warehouse, attached.

        Raises:
            SpecificationError: no warehouse has this name.
            TransientError: it cannot be read now.
        """
        alias = f"source_{name}"
        if name in self._attached:
            if (clear := CLEARS.get(self._attached[name].kind)) is not None:
                self._connection.execute(clear)
            return alias, self._attached[name]
        if name not in self._urls:
            known = ", ".join(sorted(self._urls)) or "none"
            raise SpecificationError(
                f"No warehouse is named {name!r}; there are: {known}. Add it to the settings of warehouses."
            )
        url = parse_source_url(name, self._urls[name])
        try:
            load(self._connection, *url.extensions)
            if url.object_store is not None:
                make_secret(self._connection, self._s3, name=alias, scope=url.object_store)
            if url.kind not in FOLDERS:
                self._connection.execute(url.attach_statement(alias))
        except duckdb.Error as error:
            raise source_error(error, f"warehouse {name!r} at {redacted(self._urls[name])!r}") from None
        self._attached[name] = url
        return alias, url


def source_error(error: duckdb.Error | UnicodeDecodeError, what: str) -> PlatformError:
    """An engine error while reading what others write: unreadable now, which is never the same as empty.

    Where what the engine says quotes bytes that are no text, DuckDB's client raises a UnicodeDecodeError instead.
    """
    if isinstance(error, duckdb.Error):
        translated = platform_error(error, f"read {what}")
        if not is_race(error) and not isinstance(translated, StorageError):
            return translated
        found = cause(error, first=MEANINGS_OF_READING)
    else:
        found = "a value is bytes that are no text, in a column of texts. Declare it as bytes, or leave it out."
    column = LOOSE_COLUMN.match(str(error))
    named = f" It is in column {column[1]!r}: cast it in a view." if column is not None else ""
    return TransientError(
        f"Cannot read {what}: {found}{named} Nothing was taken over; check that it is there and readable, then run "
        "again."
    )
