"""What all records have in common: they are immutable, and equal content has equal ids everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

ID_LENGTH = 16
# Kept: `json.dumps` makes one for every call, at two thirds of its cost.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return _CANONICAL.encode(value)


def content_hash(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:ID_LENGTH]


Kind = TypeVar("Kind", bound="Record")


class Record(BaseModel):
    """Base of all records: immutable, and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def json_lines(rows: Sequence[Record]) -> list[bytes]:
    """Each record as one line of JSON, without its end."""
    return [row.model_dump_json().encode() for row in rows]


def from_json_lines(kind: type[Kind], lines: Sequence[bytes]) -> list[Kind]:
    """The records of such lines."""
    return [kind.model_validate_json(line) for line in lines]
