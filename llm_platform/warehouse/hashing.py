"""Data versions: hashes of what a table says, whatever the order of its rows and whenever they were written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_platform.records import content_hash


def version_select(columns: Sequence[str], relation: str, where: str = "true") -> str:
    """A query for the inputs of `version_of`: the number of rows, and the exclusive or of their MD5 sums.

    A value is hashed with its length, so that no two rows look the same. Equal rows would cancel out in pairs; tables
    with a key have none, and in others the number of rows shows it.
    """
    return (
        "SELECT count(*), coalesce(bit_xor(row_hash), 0)::VARCHAR "
        f"FROM (SELECT {row_hash(columns)} AS row_hash FROM {relation} WHERE {where})"
    )


def row_hash(columns: Sequence[str]) -> str:
    """SQL of the hash of one row."""
    parts = ", ".join(f"coalesce(length({column}::VARCHAR) || ':' || {column}::VARCHAR, '-')" for column in columns)
    return f"md5_number(concat_ws(',', {parts}))"


def version_of(row: tuple[Any, ...]) -> str:
    """The version as a short text."""
    return content_hash([str(value) for value in row])
