"""Several files that are one table: a folder of them, or those that a pattern names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from llm_platform.errors import ContractBroken, SpecificationError, TransientError
from llm_platform.tables.files import TableFile, table_format
from llm_platform.tables.places import FilePlace, StoredFile

MOST_HEADERS = 32
"""Files that are looked at where only columns are asked for; each one is held against them when it is read."""
LAKES = {"delta": "a Delta", "iceberg": "an Iceberg"}


def is_part(path: str) -> bool:
    """Whether a path below a folder is that of a file of rows: what begins with `.` or `_` is not."""
    return table_format(path) is not None and not any(part[:1] in (".", "_") for part in PurePosixPath(path).parts)


def table_files(place: FilePlace) -> list[StoredFile]:
    """Files of a place that are rows of one table.

    Raises:
        SpecificationError: they belong to a table of another kind, or the one file is of no known format.
        TransientError: there are none, or one of several has no content yet.
    """
    if not place.many:
        TableFile(place.all_files[0])
        return list(place.all_files)
    if place.log is not None:
        kind = "delta" if "_delta_log" in place.log else "iceberg"
        raise SpecificationError(
            f"{place.name!r} is {LAKES[kind]} table: some of its files may have been deleted. Name it as a warehouse, "
            f"{kind}:<folder>."
        )
    files = place.files(is_part)
    if empty := [file.name for file in files if not file.size]:
        raise TransientError(
            f"Cannot read {place.name!r}: {len(empty)} of its {len(files)} files have no content (first: "
            f"{empty[0]!r}). Nothing was taken over; finish writing them, or take them away, then run again."
        )
    return files


class TableFiles:
    """Files of one table. Raises as `TableFile` does; messages name the file.

    Args:
        files: At least one.
        name: What messages call all of them.
    """

    def __init__(self, files: Sequence[StoredFile], name: str) -> None:
        self._files, self._name = files, name

    def columns(self, wanted: Sequence[str] = ()) -> dict[str, str]:
        """Column → type; where files differ in it, each type that there is. Of many files those written last, and as
        many more as it takes to find those that are wanted."""
        newest = sorted(self._files, key=lambda file: -file.changed_ns)
        found: dict[str, list[str]] = {}
        for number, file in enumerate(newest):
            if number >= MOST_HEADERS and found.keys() >= set(wanted):
                break
            for name, kind in TableFile(file).columns(wanted).items():
                found.setdefault(name, [])
                found[name] += [kind] if kind not in found[name] else []
        return {name: " or ".join(kinds) for name, kinds in found.items()}

    def require(self, columns: Sequence[str], of: str) -> None:
        """Refuse a file in which one of these columns is there twice."""
        for file in sorted(self._files, key=lambda file: -file.changed_ns)[:MOST_HEADERS]:
            TableFile(file).require(columns, of if len(self._files) == 1 else repr(file.name))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row; see `TableFile.rows`."""
        return (row for file in self._files for _, row in TableFile(file).rows())

    def count(self) -> int:
        """How many rows there are."""
        return sum(TableFile(file).count() for file in self._files)

    def batches(
        self,
        columns: Sequence[str],
        *,
        as_bytes: Sequence[str] = (),
        keys: Sequence[str] = (),
        optional: Sequence[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """Rows of one file after the other; see `TableFile.batches`.

        Args:
            optional: Columns that a file of JSON may be without, as long as another one has them.
        """
        for file in self._files:
            table = TableFile(file)
            if len(self._files) > 1:
                _require(table, columns, optional)
            yield from table.batches(columns, as_bytes=as_bytes, keys=keys)

    def table(self, columns: Sequence[str], *, keys: Sequence[str] = ()) -> pa.Table:
        """Columns of small files; values of JSON and Parquet keep the types they have, where a column has one.

        Raises:
            ContractBroken: a column has types in them that do not go together.
        """
        tables = [TableFile(file).table(columns, keys=keys) for file in self._files]
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise ContractBroken(
                f"The files of {self._name!r} cannot be one table: a column is of another type in one of them "
                f"({', '.join(sorted({str(table.schema.types) for table in tables}))}). Write it alike in all."
            ) from error


def _require(table: TableFile, columns: Iterable[str], optional: Sequence[str]) -> None:
    there = table.columns([name for name in columns if name not in optional])
    left = [name for name in columns if name not in there and not (table.format == "json" and name in optional)]
    if left:
        raise ContractBroken(
            f"{table.name!r} has no column {', '.join(map(repr, left))}, which the other files of its table have. It "
            f"has: {', '.join(there) or 'nothing, it is empty'}. Write all files with the same columns, or name those "
            "that are meant by a pattern such as '*.csv'. Nothing was taken over."
        )
