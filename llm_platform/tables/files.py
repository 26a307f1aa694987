"""Files of tables: what they are called, how they are opened, and what is in them.

A text is delivered as the bytes that are in the file: one that is not UTF-8 is a row to be judged, not a file that
cannot be read. Everything else is read strictly, since a row that is guessed is a row that is wrong.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.records import canonical_json
from llm_platform.tables.columns import column_of, python_rows
from llm_platform.tables.delimited import delimited_header, delimited_rows
from llm_platform.tables.forms import one_form, storable, text_of
from llm_platform.tables.json_rows import json_rows
from llm_platform.tables.places import StoredFile, unreadable

BATCH_ROWS = 4096
LOOKED_AT = 1000
"""Rows of JSON Lines whose names are the columns, unless a name is looked for that only later rows have."""

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
PACKED = {".gz": "gzip", ".zst": "zstd"}
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
ZSTD = b"\x28\xb5\x2f\xfd"
STARTS = {
    b"PK\x03\x04": "is a spreadsheet or a zip file. Save its sheet, or what it packs, as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet. Save its sheet as CSV in UTF-8",
    b"PAR1": "is a Parquet file. Let its name end in .parquet",
    b"\x1f\x8b": "is packed with gzip. Let its name end in .gz",
    ZSTD: "is packed with zstd. Let its name end in .zst",
}
"""First bytes of what is no text, whatever its name says."""

Row = tuple[int, dict[str, Any]]


def is_table_file(name: str) -> bool:
    """Whether a name is that of a file that can be read, or of a spreadsheet that has to be saved as one."""
    return table_format(name) is not None or PurePosixPath(name).suffix.lower() in SPREADSHEETS


def table_format(name: str) -> str | None:
    """`csv`, `json` or `parquet`, by the name of a file; None for other files."""
    return FORMATS.get(_suffix(PurePosixPath(name)))


class TableFile:
    """One file of rows. Methods raise what is in their way:

    SpecificationError: the name is of no known format.
    TransientError: the file cannot be opened now.
    ContractBroken: it is not what its name says, or a row is broken; the message says where.
    """

    def __init__(self, file: StoredFile | Path) -> None:
        self.name = str(file) if isinstance(file, Path) else file.name
        self._open: Callable[[], IO[bytes]] = (lambda: file.open("rb")) if isinstance(file, Path) else file.open
        path = PurePosixPath(self.name)
        suffix = _suffix(path)
        if suffix not in FORMATS:
            raise SpecificationError(f"Cannot read {self.name!r}: {_instead(path)}")
        self._packing = PACKED.get(path.suffix.lower())
        self.format = FORMATS[suffix]
        self._default_delimiter = "\t" if suffix == ".tsv" else ","

    def columns(self, wanted: Sequence[str] = ()) -> dict[str, str]:
        """Column → type; of JSON the names of the first thousand rows, and of as many more as it takes to find those.

        A name that two columns have is not among them.
        """
        with self._errors():
            if self.format == "parquet":
                with self._open() as data:
                    schema = pq.read_schema(data)
                return {field.name: str(field.type) for field in schema if schema.names.count(field.name) == 1}
            if self.format == "csv":
                with self._text() as file:
                    names = delimited_header(file, self.name, default=self._default_delimiter)
                return dict.fromkeys((name for name in names if name and names.count(name) == 1), "VARCHAR")
            found: dict[str, str] = {}
            for number, (_, row) in enumerate(self._rows()):
                if number >= LOOKED_AT and found.keys() >= set(wanted):
                    break
                found.update(dict.fromkeys(row, "JSON"))
            return found

    def doubled(self) -> list[str]:
        """Names that more than one column has."""
        with self._errors():
            if self.format == "json":
                return []
            if self.format == "parquet":
                with self._open() as data:
                    names = list(pq.read_schema(data).names)
            else:
                with self._text() as file:
                    names = delimited_header(file, self.name, default=self._default_delimiter)
        return sorted({name for name in names if name and names.count(name) > 1})

    def require(self, columns: Sequence[str], of: str) -> None:
        """Refuse a file in which one of these columns is there twice.

        Raises:
            ContractBroken: it is such a file.
        """
        for name in self.doubled():
            if name in columns:
                raise ContractBroken(
                    f"{of} has more than one column {name!r}, so it cannot be told which one is meant. Rename the "
                    "others."
                )

    def rows(self) -> Iterator[Row]:
        """(line number, row) of every row: texts of CSV, values of JSON, Python's values of Parquet.

        Raises:
            ContractBroken: a column is there twice, or the file cannot be read.
        """
        if doubled := self.doubled():
            raise ContractBroken(
                f"{self.name!r} has more than one column {doubled[0]!r}. Rename them, so that each name is there once."
            )
        with self._errors():
            yield from self._rows()

    def count(self) -> int:
        """How many rows there are."""
        if self.format == "parquet":
            with self._errors(), self._open() as data:
                return int(pq.read_metadata(data).num_rows)
        with self._errors():
            return sum(1 for _ in self._rows())

    def batches(
        self, columns: Sequence[str], *, as_bytes: Sequence[str] = (), keys: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Rows in batches: columns `as_bytes` as binary, the others as texts of CSV and JSON, or of Parquet's types.

        Raises:
            ContractBroken: a value of the columns `keys` is no text.
        """
        self.require(columns, repr(self.name))
        with self._errors():
            if self.format == "parquet":
                yield from self._parquet_batches(columns, as_bytes)
                return
            rows = self._with_keys(keys)
            kinds = {name: pa.binary() if name in as_bytes else pa.string() for name in columns}
            while batch := list(islice(rows, BATCH_ROWS)):
                arrays = [
                    pa.array([_value(row.get(name), kind) for row in batch], kind) for name, kind in kinds.items()
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=list(kinds))

    def table(self, columns: Sequence[str], *, keys: Sequence[str] = ()) -> pa.Table:
        """Columns of a small file; values of JSON and Parquet keep the types they have, where a column has one."""
        if self.format != "json":
            batches = list(self.batches(columns, keys=keys))
            empty = pa.table({name: pa.array([], pa.string()) for name in columns})
            return pa.Table.from_batches(batches) if batches else empty
        with self._errors():
            rows = list(self._with_keys(keys))
            return pa.table({name: column_of([_readable_value(row.get(name)) for row in rows]) for name in columns})

    def _with_keys(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        for number, row in self._rows():
            for name in keys:
                if isinstance(row.get(name), dict | list):
                    raise ContractBroken(
                        f"The key in line {number} of {self.name!r} (column {name!r}) is a list or an object, which "
                        "names nothing. Give the row a text or a number. Nothing was taken over."
                    )
                key = row[name] = text_of(row.get(name))
                if key is not None and not storable(key.replace("\0", "")):
                    raise ContractBroken(
                        f"The key in line {number} of {self.name!r} (column {name!r}) is not valid text. Save the "
                        "file as UTF-8, or give the row another key. Nothing was taken over."
                    )
            yield row

    def _rows(self) -> Iterator[Row]:
        if self.format == "parquet":
            with self._open() as data, pq.ParquetFile(data) as parquet:
                numbered = (row for batch in parquet.iter_batches(BATCH_ROWS) for row in python_rows(batch))
                yield from enumerate(numbered, start=1)
            return
        with self._text() as file:
            if self.format == "json":
                yield from json_rows(file, self.name)
            else:
                yield from delimited_rows(file, self.name, default=self._default_delimiter)

    def _parquet_batches(self, columns: Sequence[str], as_bytes: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._open() as data, pq.ParquetFile(data) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                arrays = [_binary(batch.column(name)) if name in as_bytes else batch.column(name) for name in columns]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    @contextmanager
    def _text(self) -> Iterator[io.TextIOBase]:
        """The file as text: packed or not, in UTF-8 or in UTF-16 with its mark; other bytes become surrogates."""
        with self._open() as stored, self._unpacked(stored) as data:
            start = data.peek(4)[:4]
            for first, what in STARTS.items():
                if start.startswith(first):
                    raise ContractBroken(f"{self.name!r} {what}. Nothing was taken over.")
            if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
                raise ContractBroken(f"{self.name!r} is in UTF-32. Save it as UTF-8.")
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                encoding, errors = "utf-16", "strict"
            elif start[1:2] == b"\0" or (start[:1] == b"\0" and start[1:2] != b"\0"):
                raise ContractBroken(f"{self.name!r} looks like UTF-16 without its mark. Save it as UTF-8.")
            else:
                encoding, errors = "utf-8-sig", "surrogateescape"
            with io.TextIOWrapper(data, encoding=encoding, errors=errors, newline="") as file:
                yield file

    def _unpacked(self, stored: IO[bytes]) -> io.BufferedReader:
        if self._packing == "gzip":
            return io.BufferedReader(gzip.GzipFile(fileobj=stored, mode="rb"))
        if self._packing == "zstd":
            if stored.read(len(ZSTD)) != ZSTD:
                raise ContractBroken(_not_packed(self.name, "zstd", ".zst"))
            stored.seek(0)
            return io.BufferedReader(pa.CompressedInputStream(stored, "zstd"))
        return stored if isinstance(stored, io.BufferedReader) else io.BufferedReader(stored)  # type: ignore[arg-type]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except gzip.BadGzipFile as error:
            raise ContractBroken(_not_packed(self.name, "gzip", ".gz")) from error
        except (OSError, pa.ArrowException) as error:
            if self._packing == "zstd" and ("compressed stream" in str(error) or "ZSTD" in str(error)):
                raise ContractBroken(_cut(self.name)) from None
            raise unreadable(self.name, error) from None
        except (EOFError, zlib.error) as error:
            raise ContractBroken(_cut(self.name)) from error
        except UnicodeError as error:
            raise ContractBroken(f"{self.name!r} is no valid UTF-16 ({error}). Save it as UTF-8.") from error


def _not_packed(name: str, packing: str, ending: str) -> str:
    plain = PurePosixPath(name).stem
    return (
        f"{name!r} is not packed with {packing}, though its name ends in {ending}. Pack it, or give it the name of "
        f"what it is, as {plain!r}. Nothing was taken over."
    )


def _cut(name: str) -> str:
    return f"{name!r} is damaged, or ends in the middle of what it packs. Copy it again; nothing was taken over."


def _suffix(path: PurePosixPath) -> str:
    plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
    suffix = plain.suffix.lower()
    return "" if suffix == ".parquet" and plain is not path else suffix


def _instead(path: PurePosixPath) -> str:
    known = f"The name must end in one of {', '.join(FORMATS)}; text files may be packed as {' or '.join(PACKED)}."
    if path.suffix.lower() in SPREADSHEETS:
        return f"a spreadsheet is not read. Save its sheet as CSV in UTF-8. {known}"
    return known[0].lower() + known[1:]


def _binary(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.binary()) if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) else array


def _value(value: Any, kind: pa.DataType) -> str | bytes | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else canonical_json(value)
    return as_bytes(text) if pa.types.is_binary(kind) else readable(text)


def _readable_value(value: Any) -> Any:
    return one_form(readable(value)) if isinstance(value, str) else value


def as_bytes(text: str) -> bytes:
    """The bytes that a text was read from."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A lone surrogate that JSON spelled out has no bytes in UTF-8; these bytes are not UTF-8 either, as they
        # should be.
        return text.encode("utf-8", "surrogatepass")


def readable(text: str) -> str:
    """Text that is UTF-8 whatever was in the file; different bytes stay different."""
    return as_bytes(text).decode("utf-8", "backslashreplace")
