"""Parquet files made of the row groups of others: what did not change is copied as bytes, and only the footer is new.

A footer says where in its file each row group lies, so a moved one needs other numbers there and nothing else. The form
is Thrift's compact one; it is read and written here without knowing more of it than the fields that are moved. Page
indexes and Bloom filters, which lie outside of row groups, are left out: readers do without them.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"PAR1"
COPIED_BYTES = 2**20
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
Field = tuple[int, int, Any]
"""Number, kind and value; a struct is a list of them, and a list its kind and its items."""


class NotReadable(ValueError):
    """A file that is no Parquet file, or one of a form that is not read here."""


@dataclass(frozen=True)
class Group:
    """One row group.

    Attributes:
        fields: Its part of the footer.
        start, end: Where its bytes are in its file.
        smallest, largest: Of the column that was asked for, as bytes; None where the file does not say.
    """

    fields: list[Field]
    rows: int
    start: int
    end: int
    smallest: bytes | None
    largest: bytes | None


@dataclass(frozen=True)
class Footer:
    """What stands at the end of a Parquet file."""

    fields: list[Field]
    groups: list[Group]

    @property
    def schema(self) -> Any:
        """Its columns and their types."""
        return _value(self.fields, 2)

    @property
    def marks(self) -> dict[str, str]:
        """What was written beside the rows."""
        pairs: Any = _value(self.fields, 5) or (STRUCT, [])
        return {_value(one, 1).decode(): (_value(one, 2) or b"").decode() for one in pairs[1]}

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return int(_value(self.fields, 3))


@dataclass(frozen=True)
class CopiedPart:
    """Some row groups of a file, in their order."""

    file: Path
    groups: Sequence[Group]


def read_footer(file: Path, column: str) -> Footer:
    """The footer of a file; groups say the range of `column`.

    Raises:
        NotReadable: it is no Parquet file, or an encrypted one.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(size - 8, 0))
        tail = opened.read()
        length = int.from_bytes(tail[:4], "little")
        if len(tail) != 8 or tail[4:] != MAGIC or length > size - 12:
            raise NotReadable(f"{str(file)!r} does not end as a Parquet file does.")
        opened.seek(size - 8 - length)
        footer = opened.read(length)
    try:
        fields = _CompactReader(footer).struct()
        groups = [_group(one, column) for one in _value(fields, 4)[1]]
    except (IndexError, TypeError, ValueError, KeyError) as error:
        raise NotReadable(f"{str(file)!r} has a footer that is not read here.") from error
    return Footer(fields, groups)


def join(parts: Sequence[CopiedPart], target: Path, *, like: Footer, marks: Mapping[str, str]) -> int:
    """Write a file of all these row groups; returns how many rows it has.

    Args:
        like: The footer of a file of the same columns.
        marks: What is written beside the rows.
    """
    groups: list[list[Field]] = []
    with target.open("wb") as made:
        made.write(MAGIC)
        for part in parts:
            with part.file.open("rb") as source:
                for run in _runs(part.groups):
                    moved = made.tell() - run[0].start
                    _copy(source, made, run[0].start, run[-1].end)
                    for one in run:
                        groups.append(_moved(one.fields, moved, ordinal=len(groups)))
        rows = sum(group.rows for part in parts for group in part.groups)
        pairs = [[(1, BINARY, name.encode()), (2, BINARY, text.encode())] for name, text in marks.items()]
        changed = {3: (I64, rows), 4: (LIST, (STRUCT, groups)), 5: (LIST, (STRUCT, pairs))}
        kept = {number: (kind, value) for number, kind, value in like.fields}
        footer = _CompactWriter()
        footer.struct([(number, *one) for number, one in sorted({**kept, **changed}.items())])
        made.write(footer.written + len(footer.written).to_bytes(4, "little") + MAGIC)
    return rows


def _runs(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that lie one behind the other, together."""
    runs: list[list[Group]] = []
    for one in groups:
        if runs and runs[-1][-1].end == one.start:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    """Bytes from one file to the end of another, in the kernel where it can."""
    target.flush()
    left, place = end - start, start
    try:
        while left:
            done = os.copy_file_range(source.fileno(), target.fileno(), left, offset_src=place)
            if not done:
                break
            left, place = left - done, place + done
    except OSError:
        pass  # another file system, or one that cannot
    target.seek(0, os.SEEK_END)
    source.seek(place)
    while left:
        piece = source.read(min(left, COPIED_BYTES))
        if not piece:
            raise NotReadable("a row group ends behind the end of its file")
        target.write(piece)
        left -= len(piece)


def _group(fields: list[Field], column: str) -> Group:
    start, end, smallest, largest = None, 0, None, None
    for chunk in _value(fields, 1)[1]:
        about = _value(chunk, 3)
        if _value(chunk, 1) or about is None:
            raise NotReadable("a column lies in another file")
        begins = min(one for one in (_value(about, 9), _value(about, 11)) if one)
        start = begins if start is None else min(start, begins)
        end = max(end, begins + _value(about, 7))
        if [name.decode() for name in _value(about, 3)[1]] == [column] and (said := _value(about, 12)):
            exact = _value(said, 7) is not False and _value(said, 8) is not False
            smallest, largest = (_value(said, 6), _value(said, 5)) if exact else (None, None)
    if start is None:
        raise NotReadable("a row group without columns")
    return Group(fields, int(_value(fields, 3)), start, end, smallest, largest)


def _moved(fields: list[Field], by: int, *, ordinal: int) -> list[Field]:
    """A row group's part of the footer, its bytes so much further on."""

    def chunk(given: list[Field]) -> list[Field]:
        kept = [(number, kind, value) for number, kind, value in given if number not in (4, 5, 6, 7)]
        return [
            (number, kind, about(value) if number == 3 else value + by if number == 2 and value else value)
            for number, kind, value in kept
        ]

    def about(given: list[Field]) -> list[Field]:
        kept = [(number, kind, value) for number, kind, value in given if number not in (10, 14, 15)]
        return [(number, kind, value + by if number in (9, 11) and value else value) for number, kind, value in kept]

    found: list[Field] = []
    for number, kind, value in fields:
        if number == 1:
            found.append((number, kind, (value[0], [chunk(one) for one in value[1]])))
        elif number == 5:
            found.append((number, kind, value + by if value else value))
        elif number == 7:
            if ordinal < 2**15:
                found.append((number, kind, ordinal))
        else:
            found.append((number, kind, value))
    return found


def _value(fields: list[Field], number: int) -> Any:
    return next((value for one, _, value in fields if one == number), None)


class _CompactReader:
    """Thrift's compact form."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> list[Field]:
        found: list[Field] = []
        last = 0
        while head := self._byte():
            kind = head & 0x0F
            last = last + (head >> 4) if head >> 4 else self._signed()
            value = kind == TRUE if kind in (TRUE, FALSE) else self._any(kind)
            found.append((last, kind, value))
        return found

    def _any(self, kind: int) -> Any:
        found: Any
        match kind:
            case 1 | 2:
                found = self._byte() == TRUE
            case 3:
                found = self._byte()
            case 4 | 5 | 6:
                found = self._signed()
            case 7:
                found = self._take(8)
            case 8:
                found = self._take(self._varint())
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 != 15 else self._varint()
                found = head & 0x0F, [self._any(head & 0x0F) for _ in range(count)]
            case 12:
                found = self.struct()
            case _:
                raise NotReadable(f"a field of kind {kind}")
        return found

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._data):
            raise NotReadable("it ends too early")
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7

    def _signed(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)


class _CompactWriter:
    """The same, the other way."""

    def __init__(self) -> None:
        self.written = bytearray()

    def struct(self, fields: Sequence[Field]) -> None:
        last = 0
        for number, given, value in fields:
            kind = (TRUE if value else FALSE) if given in (TRUE, FALSE) else given
            if 0 < number - last < 16:
                self.written.append((number - last) << 4 | kind)
            else:
                self.written.append(kind)
                self._signed(number)
            last = number
            if kind not in (TRUE, FALSE):
                self._any(kind, value)
        self.written.append(0)

    def _any(self, kind: int, value: Any) -> None:
        match kind:
            case 1 | 2:
                self.written.append(TRUE if value else FALSE)
            case 3:
                self.written.append(value)
            case 4 | 5 | 6:
                self._signed(value)
            case 7:
                self.written += value
            case 8:
                self._varint(len(value))
                self.written += value
            case 9 | 10:
                inner, items = value
                if len(items) < 15:
                    self.written.append(len(items) << 4 | inner)
                else:
                    self.written.append(0xF0 | inner)
                    self._varint(len(items))
                for one in items:
                    self._any(inner, one)
            case 12:
                self.struct(value)
            case _:
                raise NotReadable(f"a field of kind {kind}")

    def _varint(self, value: int) -> None:
        while value >= 0x80:
            self.written.append(value & 0x7F | 0x80)
            value >>= 7
        self.written.append(value)

    def _signed(self, value: int) -> None:
        self._varint((value << 1) ^ (value >> 63))
