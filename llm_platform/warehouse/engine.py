"""The DuckDB engine: extensions from installed wheels, quoting, and its errors in our words.

Nothing is downloaded: an extension is a file of an installed package and is loaded by its path.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import duckdb

from llm_platform.errors import PlatformError, StorageError, TransientError
from llm_platform.warehouse.passwords import resolved

RACES = (
    "database is locked",
    "database table is locked",
    "transaction conflict",
    "write-write conflict",
    "could not serialize access",
    "deadlock detected",
    "conflict on tuple",
    "another transaction has",
)
UNREACHABLE = (
    "unable to connect",
    "connection refused",
    "could not connect",
    "connection to server",
    "could not translate host name",
    "server closed the connection",
    "timed out",
    "timeout expired",
    "failed to connect to mysql",
)
REFUSED = (
    "access denied for user",
    "password authentication failed",
    "no password supplied",
    "authentication failed",
    "pg_hba.conf",
)
Meanings = Sequence[tuple[tuple[str, ...], str]]
MEANINGS: Meanings = (
    (("too many open files",), "this process may not open more files. Raise its limit ('ulimit -n'), then run again."),
    (
        ("no space left", "database or disk is full", "disk full", "could not write all bytes", "disk i/o error"),
        "the disk is full or failing. Free space, then run again; nothing was half written.",
    ),
    (
        (
            "file is not a database",
            "disk image is malformed",
            "not a valid parquet",
            "no magic bytes",
            "too small to be a parquet",
            "decompression failure",
            "string encoding found in parquet",
            "tprotocolexception",
        ),
        "a file is damaged or not ours. Restore it from a backup or start anew.",
    ),
    (("read-only mode",), "it is opened read-only here, and was asked to be written."),
    (
        ("unable to open database",),
        "its file is not there, or it may not be written here: permission denied. Make what it belongs to first, give "
        "this user write permission, or choose another place.",
    ),
    (
        ("readonly database", "read-only file system", "permission denied"),
        "it may not be written here: permission denied. Give this user write permission, or choose another place.",
    ),
    (
        ("no such file", "404 (not found)", "http 404"),
        "a file that the catalog lists is not there. Bring it back from a backup of the data folder, or restore "
        "catalog and data folder of one time together; reading what does not rest on it still works.",
    ),
    (
        ("http 400", "http 401", "http 403"),
        "the object store does not let this identity in, or is in another region. Correct key or role, region, clock.",
    ),
    (
        ("data_path", "data path"),
        "the catalog's DATA_PATH is another folder than the one given. Name the folder that the catalog was made with.",
    ),
    (("out of memory", "failed to allocate"), "there is too little memory. Free some, then run again."),
)
"""What the engine says → what it means. Only these words of ours are passed on: its own hold values and statements."""

CONNECT_SECONDS = 15
SILENT_MILLISECONDS = 60_000
POSTGRES_DEADLINES = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "tcp_user_timeout": SILENT_MILLISECONDS,
}
"""How long Postgres may take to let us in, and how long its machine may be gone (libpq's words). libpq itself waits for
ever, also for a server that takes the connection and says nothing, and the kernel two hours for one that is gone."""
ABOUT_VALUES = (
    (
        (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.TypeMismatchException, duckdb.DataError),
        "a value does not have the type of its column. Which one is not said here: values may be texts.",
    ),
    (
        (duckdb.ConstraintException, duckdb.IntegrityError),
        "a row breaks a rule of its table. Which one is not said here: values may be texts.",
    ),
)
"""Errors that quote a value: a text must not decide what is meant, so they are told by their class."""

NEEDS = {"iceberg": ("avro",)}
"""Extensions that another one would download if they were not loaded before it."""
BUSY = re.compile(r"\bhttp (429|5\d\d)\b")
"""What an object store answers where the same request may be answered later."""
OWN_FILE = re.compile(r"(?:\w+/\w+/)?ducklake-[0-9a-f-]{36}\.parquet")
INTEGER_BITS = 127
PLACES = re.compile(r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|\$(?P<name>[a-z_]+)|\?""")
"""Where a statement has its parameters; what is quoted has none."""


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def one_of(column: str, values: Sequence[str]) -> str:
    """SQL that a column has one of these values, written out: files that have none of them are passed over."""
    # A statement ends at a NUL, and no row of ours has one in a key.
    written = ", ".join(literal(value) for value in values if "\0" not in value)
    return f"{column} IN ({written})" if written else "false"


def json_pointer(name: str) -> str:
    """Where a JSON object has a field of any name."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def redacted(text: str) -> str:
    """`text` without the passwords that connection strings hold."""
    without_pairs = re.sub(r"(?i)(password|passwd|pwd|secret)\s*=\s*('[^']*'|\S+)", r"\1=***", text)
    return re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", without_pairs)


def with_deadline(dsn: str) -> str:
    """A libpq connection string, of words or a URI, with deadlines, unless it states its own, and its password."""
    dsn = resolved(dsn)
    added = [f"{name}={value}" for name, value in POSTGRES_DEADLINES.items() if name not in dsn]
    if not added:
        return dsn
    if "://" in dsn:
        return f"{dsn}{'&' if '?' in dsn else '?'}{'&'.join(added)}"
    return " ".join([dsn, *added])


@cache
def extension_path(name: str) -> str:
    """The file of DuckDB extension `name` in its installed package.

    Raises:
        StorageError: the package is not installed.
    """
    package = f"duckdb_extension_{name}"
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = sorted(path for folder in folders for path in Path(folder).rglob(f"{name}.duckdb_extension"))
    if not files:
        raise StorageError(
            f"DuckDB extension {name!r} is not installed. Install the package "
            f"{package.replace('_', '-')}=={duckdb.__version__}."
        )
    return str(files[-1])


Parameters = Sequence[Any] | Mapping[str, Any]


def execute(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters = ()) -> duckdb.DuckDBPyConnection:
    """Run one statement, with parameters by position or by name.

    Before DuckDB's client binds a value of Python it loads pandas, 54 MiB and 0.3 s of CPU in every process. PREPARE
    and EXECUTE plan a statement twice, 2 to 8 ms on a lake. So simple values are written into it as literals.
    """
    named = parameters if isinstance(parameters, Mapping) else dict(enumerate(parameters))
    literals = {name: _written(value) for name, value in named.items()}
    if not literals or None in literals.values():
        return cursor.execute(sql, parameters)
    positions = count()

    def value(found: re.Match[str]) -> str:
        if found["quoted"]:
            return found[0]
        return literals[found["name"] or next(positions)] or ""

    return cursor.execute(PLACES.sub(value, sql))


def _written(value: Any) -> str | None:
    """A value as an SQL literal of the type that the client would bind it as; None where there is none."""
    if isinstance(value, str) and "\0" not in value:
        return literal(value)
    if isinstance(value, float):
        return f"{literal(repr(value))}::DOUBLE"
    if isinstance(value, datetime):
        return f"{literal(value.isoformat())}::{'TIMESTAMP' if value.tzinfo is None else 'TIMESTAMPTZ'}"
    # DuckDB reads a number that is longer than its integers as a DOUBLE; its client refuses it.
    if value is None or (isinstance(value, int) and value.bit_length() <= INTEGER_BITS):
        return f"({json.dumps(value)})"
    if isinstance(value, list) and all(isinstance(one, str) and "\0" not in one for one in value):
        return f"[{', '.join(map(literal, value))}]::VARCHAR[]"
    return None


def connect(threads: int | None = 1, *, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that never downloads, prints nothing, and hands out times in UTC.

    It works in the thread of its caller: the others of `threads` (None: one a core) would spin while they wait, which
    doubles the CPU of a small query. Large temporary tables go to the folder `spill`, which nobody else may reach;
    without one they stay in memory.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        # `load` has verified signatures by then; DuckDB would hash 36 MB at every load, 0.35 s of CPU per connection.
        "allow_unsigned_extensions": "true",
        "temp_directory": "" if spill is None else str(spill),
    }
    if threads is not None:
        settings["threads"] = str(threads)
    connection = duckdb.connect(config=settings)
    # Under `python -c` and in notebooks it draws a bar on standard output once a query takes two seconds.
    connection.execute("SET GLOBAL TimeZone = 'UTC'; SET enable_progress_bar = false")
    return connection


def load(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Load extensions by path, their signatures verified once a process; loading twice does nothing."""
    for name in names:
        for needed in (*NEEDS.get(name, ()), name):
            connection.execute(f"LOAD {literal(verified_extension(needed))}")


@cache
def verified_extension(name: str) -> str:
    """The file of DuckDB extension `name`, once a DuckDB that insists on its signature has loaded it.

    Raises:
        duckdb.Error: the file is not what DuckDB's makers signed.
    """
    path = extension_path(name)
    with closing(duckdb.connect(config={"allow_unsigned_extensions": "false"})) as strict:
        for needed in NEEDS.get(name, ()):
            strict.execute(f"LOAD {literal(extension_path(needed))}")
        strict.execute(f"LOAD {literal(path)}")
    return path


def is_race(error: duckdb.Error) -> bool:
    """Whether the transaction lost against another one and may be run again."""
    said = _without_statements(error)
    return any(mark in said for mark in RACES)


def cause(error: duckdb.Error, *, first: Meanings = ()) -> str:
    """What the engine means, in words of ours; `first` are meanings that come before the usual ones."""
    said = _without_statements(error)
    for kinds, meaning in ABOUT_VALUES:
        if isinstance(error, kinds):
            return meaning
    for marks, meaning in (*first, *MEANINGS):
        if any(mark in said for mark in marks):
            return meaning + _named_file(error)
    return f"the engine refused it ({type(error).__name__})."


def platform_error(error: duckdb.Error, doing: str) -> PlatformError:
    """`error` as one of our errors, to be raised from None: what the engine says may quote texts.

    `doing` says what was attempted, on what ("attach the lake at …").
    """
    if isinstance(error, duckdb.InterruptException):
        raise KeyboardInterrupt from None
    said = _without_statements(error)
    if is_race(error):
        return TransientError(f"Cannot {doing}: other processes kept writing. Run again.")
    if any(mark in said for mark in REFUSED):
        return StorageError(f"Cannot {doing}: the database does not accept this user or its password. Correct them.")
    if busy := BUSY.search(said):
        return TransientError(
            f"Cannot {doing}: the object store answers {busy[1]}. Check that it is up, then run again."
        )
    if any(mark in said for mark in UNREACHABLE) and "404 (not found)" not in said:
        silent = "object store" if "for http" in said else "database"
        return TransientError(f"Cannot {doing}: the {silent} does not answer. Check that it is up, then run again.")
    if gone := re.search(r"no snapshot found at version (\d+)", said):
        return StorageError(
            f"Cannot {doing}: Snapshot {gone[1]} never was, or has expired in a compaction. Choose another one."
        )
    return StorageError(f"Cannot {doing}: {cause(error)}")


def _without_statements(error: duckdb.Error) -> str:
    """What the engine says, in small letters, without statements and values: a text must not decide what is meant."""
    if any(isinstance(error, kinds) for kinds, _ in ABOUT_VALUES):
        return ""
    said = str(error).partition("\nLINE ")[0]
    said = re.sub(r'query ".*": ', "query: ", said, flags=re.DOTALL)
    return re.sub(r'query ".*', "query", said, flags=re.DOTALL).lower()


def _named_file(error: duckdb.Error) -> str:
    """The file of the lake that an error is about, with its table; others are named by what was attempted."""
    about_files = (duckdb.IOException, duckdb.HTTPException, duckdb.InvalidInputException)
    found = OWN_FILE.search(str(error)) if isinstance(error, about_files) else None
    return f" The file is {found[0]}." if found else ""


def rollback(cursor: duckdb.DuckDBPyConnection) -> None:
    """Undo what is open; a commit that failed has already ended its transaction."""
    try:
        cursor.rollback()
    except duckdb.TransactionException:
        return
