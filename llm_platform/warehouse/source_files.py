"""Source tables that are files: CSV, TSV, JSON lines, Parquet.

Text is delivered as the bytes that are in the file: a text that is not UTF-8 is a row to be judged, not a file that
cannot
be read.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llm_platform.errors import ContractBroken, PlatformError, SpecificationError, TransientError
from llm_platform.records import SourceState, canonical_json

BATCH_ROWS = 4096
HASHED_BYTES = 64 * 1024 * 1024
"""Files up to this size are compared by content; larger ones by size and modification time."""

FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def file_path(url: str) -> Path:
    """The path that a TableRef's URL means.

    Raises:
        SpecificationError: it is not a local file of a known format.
    """
    plain = url.removeprefix("file://")
    if "://" in plain:
        raise SpecificationError(
            f"Cannot read {url!r}: files are read from this machine. Copy it here, or attach the store as a warehouse."
        )
    path = Path(plain)
    if path.suffix.lower() not in FORMATS:
        raise SpecificationError(f"Cannot read {url!r}: the name must end in one of {', '.join(FORMATS)}.")
    return path


def file_state(path: Path) -> SourceState:
    """State of a file: equal content, equal token."""
    try:
        stat = path.stat()
        if stat.st_size <= HASHED_BYTES:
            token = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            token = f"{stat.st_size}-{stat.st_mtime_ns}"
    except OSError as error:
        raise _unreadable(path, error) from error
    return SourceState(kind="file", token=token, table_id=str(path))


def file_columns(path: Path) -> dict[str, str]:
    """Column → type; of JSON lines, the columns of the first thousand."""
    try:
        if FORMATS[path.suffix.lower()] == "parquet":
            return {field.name: str(field.type) for field in pq.read_schema(path)}
        if FORMATS[path.suffix.lower()] == "csv":
            return dict.fromkeys(_header(path), "VARCHAR")
        found: dict[str, str] = {}
        for row in islice(_json_rows(path), 1000):
            found.update(dict.fromkeys(row, "JSON"))
        return found
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def file_batches(path: Path, columns: Sequence[str], *, as_bytes: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows in batches: columns `as_bytes` as binary, the others as text (native types in Parquet)."""
    try:
        if FORMATS[path.suffix.lower()] == "parquet":
            yield from _parquet_batches(path, columns, as_bytes)
            return
        rows = _csv_rows(path) if FORMATS[path.suffix.lower()] == "csv" else _json_rows(path)
        kinds = {name: pa.binary() if name in as_bytes else pa.string() for name in columns}
        while batch := list(islice(rows, BATCH_ROWS)):
            arrays = [pa.array([_value(row.get(name), kind) for row in batch], kind) for name, kind in kinds.items()]
            yield pa.RecordBatch.from_arrays(arrays, names=list(kinds))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def file_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of a small file; values of JSON lines and Parquet keep their types."""
    if FORMATS[path.suffix.lower()] != "jsonl":
        batches = list(file_batches(path, columns, as_bytes=()))
        return (
            pa.Table.from_batches(batches)
            if batches
            else pa.table({name: pa.array([], pa.string()) for name in columns})
        )
    try:
        return pa.table({name: pa.array([row.get(name) for row in _json_rows(path)]) for name in columns})
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _parquet_batches(path: Path, columns: Sequence[str], as_bytes: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
            arrays = [_binary(batch.column(name)) if name in as_bytes else batch.column(name) for name in columns]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _binary(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.binary()) if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) else array


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return [_readable(name) for name in next(csv.reader(file, delimiter=_delimiter(path)), [])]


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=_delimiter(path))
        names = [_readable(name) for name in next(reader, [])]
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(names):
                raise ContractBroken(
                    f"Line {reader.line_num} of {str(path)!r} has {len(cells)} fields and the header {len(names)}. "
                    "Quote fields that hold the delimiter."
                )
            yield dict(zip(names, cells, strict=False))


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8", "surrogateescape"))
            except json.JSONDecodeError as error:
                raise ContractBroken(
                    f"Line {number} of {str(path)!r} is not JSON: {error.msg}. Write one object per line."
                ) from error
            if not isinstance(row, dict):
                raise ContractBroken(f"Line {number} of {str(path)!r} is not a JSON object but {type(row).__name__}.")
            yield row


def _value(value: Any, kind: pa.DataType) -> str | bytes | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else canonical_json(value)
    return _as_bytes(text) if pa.types.is_binary(kind) else _readable(text)


def _as_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A lone surrogate that JSON spelled out has no bytes in UTF-8; these bytes are not UTF-8 either, as they
        # should be.
        return text.encode("utf-8", "surrogatepass")


def _readable(text: str) -> str:
    """Text that is UTF-8 whatever was in the file; different bytes stay different."""
    return _as_bytes(text).decode("utf-8", "backslashreplace")


def _unreadable(path: Path, error: OSError | pa.ArrowException) -> PlatformError:
    reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
    return TransientError(
        f"Cannot read the file {str(path)!r}: {reason}. Nothing was taken over; check that it is there and readable, "
        "then run again."
    )
