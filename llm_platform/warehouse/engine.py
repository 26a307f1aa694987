"""The DuckDB engine: extensions from installed wheels, quoting, and its errors in our words.

Nothing is downloaded: an extension is a file of an installed package and is loaded by its path.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from functools import cache
from pathlib import Path

import duckdb

from llm_platform.errors import PlatformError, StorageError, TransientError

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
FULL = ("no space left", "database or disk is full", "disk full", "could not write all bytes")
READ_ONLY = ("readonly database", "read-only file system", "permission denied", "cannot open file")
DAMAGED = ("file is not a database", "malformed", "not a valid parquet", "no magic bytes")
UNREACHABLE = (
    "unable to connect",
    "connection refused",
    "could not connect",
    "server closed the connection",
    "timed out",
)


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def redacted(text: str) -> str:
    """`text` without the passwords that connection strings hold."""
    without_pairs = re.sub(r"(?i)(password|secret)\s*=\s*('[^']*'|\S+)", r"\1=***", text)
    return re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", without_pairs)


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


def connect(threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that never downloads and hands out times in UTC."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
        # Large temporary tables spill here, not into the working directory.
        "temp_directory": os.path.join(tempfile.gettempdir(), f"llm_platform_{os.getpid()}"),
    }
    if threads is not None:
        settings["threads"] = str(threads)
    connection = duckdb.connect(config=settings)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def load(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Load extensions by path; loading twice does nothing."""
    for name in names:
        connection.execute(f"LOAD {literal(extension_path(name))}")


def is_race(error: duckdb.Error) -> bool:
    """Whether the transaction lost against another one and may be run again."""
    text = str(error).lower()
    return isinstance(error, duckdb.Error) and any(mark in text for mark in RACES)


def platform_error(error: duckdb.Error, doing: str) -> PlatformError:
    """`error` as one of our errors; `doing` says what was attempted, on what ("attach the lake at …")."""
    text = redacted(str(error)).splitlines()[0]
    lowered = str(error).lower()
    if any(mark in lowered for mark in FULL):
        return StorageError(
            f"Cannot {doing}: the disk is full ({text}). Free space, then run again; nothing was half written."
        )
    if is_race(error):
        return TransientError(f"Cannot {doing}: other processes kept writing ({text}). Run again.")
    if any(mark in lowered for mark in DAMAGED):
        return StorageError(
            f"Cannot {doing}: a file is damaged or not ours ({text}). Restore it from a backup or start anew."
        )
    if any(mark in lowered for mark in UNREACHABLE):
        return TransientError(
            f"Cannot {doing}: the database does not answer ({text}). Check that it is up, then run again."
        )
    if any(mark in lowered for mark in READ_ONLY):
        return StorageError(
            f"Cannot {doing}: no permission ({text}). Give the user write permission, or choose another place."
        )
    return StorageError(f"Cannot {doing}: {text}")


def rollback(cursor: duckdb.DuckDBPyConnection) -> None:
    """Undo what is open; a commit that failed has already ended its transaction."""
    try:
        cursor.rollback()
    except duckdb.TransactionException:
        return
