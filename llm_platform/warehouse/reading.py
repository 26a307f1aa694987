"""The statements with which other tools read a lake."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import duckdb

from llm_platform.errors import StorageError
from llm_platform.warehouse.engine import extension_path, literal
from llm_platform.warehouse.lake import LakeLocation, attach_statement
from llm_platform.warehouse.passwords import without_password_file
from llm_platform.warehouse.session import LAKE

_PAIR = re.compile(r"(?i)\s*\b(password|sslpassword)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)")
_IN_ADDRESS = re.compile(r"(://[^:/@\s]+):[^@\s]+@")


def reading_statements(location: LakeLocation) -> str:
    """SQL with which a DuckDB of this version reads a lake: extensions by path, the lake read-only as `lake`.

    Passwords and keys are left out, and what is left out is said in comments.

    Raises:
        StorageError: there is no lake yet.
    """
    is_file = location.kind == "sqlite"
    if is_file and not Path(location.target).exists():
        raise StorageError(f"There is no lake at {location.target!r} yet. The first run makes it.")
    catalog, _ = without_password_file(location.catalog)
    plain = replace(location, catalog=_IN_ADDRESS.sub(r"\1@", _PAIR.sub("", catalog)))
    names = [
        "ducklake",
        "sqlite_scanner" if is_file else "postgres_scanner",
        *(["httpfs"] if location.is_remote else []),
    ]
    lines = [f"-- For DuckDB {duckdb.__version__}. On another machine: INSTALL {'; INSTALL '.join(names)};"]
    if not is_file:
        lines.append("-- The password of the catalog is taken from PGPASSWORD or ~/.pgpass.")
    if location.is_remote:
        lines.append("-- Before ATTACH: CREATE SECRET (TYPE s3, KEY_ID '…', SECRET '…', ENDPOINT '…');")
        lines.append(
            "-- or, with the identity that a cloud gives: LOAD aws; CREATE SECRET (TYPE s3, PROVIDER credential_chain);"
        )
    lines += [f"LOAD {literal(extension_path(name))};" for name in names]
    return "\n".join([*lines, f"{attach_statement(plain, alias=LAKE, read_only=True)};"]) + "\n"
