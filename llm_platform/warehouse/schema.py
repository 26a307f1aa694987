"""Tables as SQL; what columns they have stands in `records.tables`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llm_platform.records.tables import PUBLISHED, TABLES

NEWEST_FIRST = '"sequence" DESC NULLS LAST, created_at DESC'
"""Order of rows by the number that their transaction gave them. A clock orders only those of before there were numbers:
one that is an hour ahead would otherwise have the last word for an hour."""

OLDEST_FIRST = '"sequence" NULLS FIRST, created_at'


def published_table(contract: int) -> str:
    """Name of the published table of one contract version."""
    return f"published_v{contract:d}"


def is_published(table: str) -> bool:
    """Whether this is the name of a published table; its columns are those of its contract."""
    return table.startswith("published_v") and table.removeprefix("published_v").isdigit()


def number_of(table: str) -> int:
    """Number of the contract of a published table."""
    return int(table.removeprefix("published_v"))


def columns_of(table: str) -> dict[str, str] | None:
    """Column → SQL type of a table of ours; None for a name that is not ours."""
    if is_published(table):
        return PUBLISHED
    return TABLES.get(table)


def listed(table: str, *, without: Collection[str] = ()) -> str:
    """The columns of a table as a SELECT or an INSERT names them."""
    return ", ".join(f'"{name}"' for name in TABLES[table] if name not in without)


def empty_relation(columns: Mapping[str, str]) -> str:
    """A SELECT with these columns and no rows, for a table that nobody has written yet."""
    selected = ", ".join(f'NULL::{sql_type} AS "{name}"' for name, sql_type in columns.items())
    return f"(SELECT {selected} WHERE false)"
