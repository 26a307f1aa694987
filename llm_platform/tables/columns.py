"""Arrow columns as texts in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.records import canonical_json
from llm_platform.tables.forms import one_form, plain, text_of


def texts(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """Values as the texts that name them, in NFC; None for null and NaN. Bytes that are no UTF-8 become surrogates.

    Types are those that the column declares: a column of integers with a null in it holds integers.
    """
    if isinstance(column, pa.ChunkedArray):
        return [text for chunk in column.chunks for text in texts(chunk)]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return list(pc.cast(column, pa.string()).to_pylist())
    if _is_binary(kind):
        values = [
            None if data is None else data.decode(errors="surrogateescape")
            for data in pc.cast(column, pa.large_binary()).to_pylist()
        ]
    elif pa.types.is_float16(kind) or pa.types.is_float32(kind):
        # As a float of Python 0.1 would have seventeen digits.
        shortest = pc.cast(column, pa.string()).to_pylist()
        found = [text_of(value) for value in column.to_pylist()]
        values = [
            text if text is None or "." not in text else short for text, short in zip(found, shortest, strict=True)
        ]
    elif pa.types.is_timestamp(kind) and kind.unit == "ns":
        values = [text_of(value) for value in pc.cast(column, pa.timestamp("us", kind.tz), safe=False).to_pylist()]
    else:
        values = [text_of(value) for value in python_values(column)]
    return [None if text is None else one_form(text) for text in values]


def objects(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Values as JSON can hold them; null and NaN are None."""
    return [plain(value) for value in python_values(column)]


def python_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows of `python_values`."""
    columns = map(python_values, batch.columns)
    return (dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True))


def python_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Values of Python. Times that it has none for, of before the year 1 or after 9999 or `infinity`, are texts."""
    try:
        return list(column.to_pylist())
    except OverflowError:
        return [_python_value(value) for value in column]


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except OverflowError:
        if pa.types.is_list(value.type) or pa.types.is_map(value.type):
            return [_python_value(item) for item in value.values]
        if pa.types.is_struct(value.type):
            return {name: _python_value(item) for name, item in value.items()}
        return written(pa.array([value], value.type))[0].as_py()


def written(column: pa.Array) -> pa.Array:
    """Values as Arrow writes them; of times that have no end, as databases do."""
    text = pc.cast(column, pa.string())
    numbers = next((number for is_time, number in _COUNTS if is_time(column.type)), None)
    if numbers is None:
        return text
    counts, largest = column.view(numbers), 2 ** (numbers.bit_width - 1) - 1
    without_end = pc.if_else(pc.equal(counts, -largest), "-infinity", text)
    return pc.if_else(pc.equal(counts, largest), "infinity", without_end)


_COUNTS = ((pa.types.is_date32, pa.int32()), (pa.types.is_timestamp, pa.int64()))
"""Times → what they are counts of; the largest and its opposite stand for infinity, as DuckDB delivers it."""


def column_of(values: Sequence[Any]) -> pa.Array:
    """Values of JSON as a column: of the type that all have, else of texts; objects and lists as their JSON."""
    kinds = {type(value) for value in values if value is not None}
    for kinds_of, arrow in _TYPES:
        if kinds and kinds <= kinds_of and not _inexact(values, kinds):
            try:
                return pa.array(values, arrow)
            except (pa.ArrowInvalid, OverflowError):
                break
    return pa.array([None if value is None else _json_text(value) for value in values], pa.string())


_TYPES: tuple[tuple[set[type], pa.DataType], ...] = (
    ({bool}, pa.bool_()),
    ({int}, pa.int64()),
    ({int, float}, pa.float64()),
)


def _inexact(values: Sequence[Any], kinds: set[type]) -> bool:
    return len(kinds) > 1 and any(type(value) is int and abs(value) > 2**53 for value in values)


def _json_text(value: Any) -> str:
    text = canonical_json(value) if isinstance(value, dict | list) else text_of(value)
    return (text or "").encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


def _is_binary(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
