"""Data versions: hashes of what a table says, whatever the order of its rows and whenever they were written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_platform.records import content_hash


def version_select(columns: Sequence[str], relation: str, where: str = "true") -> str:
    """A query for the inputs of `version_of`: the number of rows, and two digests of them that ignore their order.

    A row is hashed with the lengths of its values, so that no two rows look the same. One digest is an exclusive or,
    the other a
    sum: rows that cancel in one do not cancel in the other.
    """
    parts = ", ".join(f"coalesce(length({column}::VARCHAR) || ':' || {column}::VARCHAR, '-')" for column in columns)
    return (
        "SELECT count(*), coalesce(bit_xor(row_hash), 0)::VARCHAR, coalesce(sum(row_hash % 1000000007), 0)::VARCHAR "
        f"FROM (SELECT md5_number(concat_ws(',', {parts})) AS row_hash FROM {relation} WHERE {where})"
    )


def version_of(row: tuple[Any, ...]) -> str:
    """The version as a short text."""
    return content_hash([str(value) for value in row])
