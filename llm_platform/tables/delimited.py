"""CSV, strictly: what is quoted is closed, and every row has the fields of the header."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from llm_platform.errors import ContractBroken
from llm_platform.tables.forms import one_form

DELIMITERS = (",", ";", "\t", "|")
SEPARATOR_LINE = "sep="
"""A first line by which spreadsheets say what the delimiter is."""


def delimited_header(lines: Iterable[str], name: str, *, default: str) -> list[str]:
    """Names of the columns, in NFC; one that is empty has no name."""
    return _header(lines, name, default)[0]


def delimited_rows(
    lines: Iterable[str], name: str, *, default: str, ragged: Callable[[int], None] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of every row.

    The delimiter is the one that gives the header the most fields. Empty lines are passed over, and so are empty fields
    behind the last column.

    Args:
        lines: Of the file.
        name: What messages call it.
        default: The delimiter where none gives more fields than another.
        ragged: Called with the line of a row that has more or fewer fields, which is passed over then.

    Raises:
        ContractBroken: a quote is not closed, or a row has more or fewer fields than the header.
    """
    header, reader, before = _header(lines, name, default)
    start = before + reader.line_num + 1
    while (cells := _next(reader, name, before, start)) is not None:
        if not cells or (len(cells) == 1 < len(header) and not cells[0].strip()):
            pass
        elif len(cells) < len(header) or any(cells[len(header) :]):
            if ragged is None:
                raise ContractBroken(
                    f"Line {start} of {name!r} has {len(cells)} fields and the header {len(header)}. "
                    "Quote fields that hold the delimiter or a line end, and write all fields of every row."
                )
            ragged(start)
        else:
            yield start, dict(zip(header, cells, strict=False))
        start = before + reader.line_num + 1


def _header(lines: Iterable[str], name: str, default: str) -> tuple[list[str], Any, int]:
    """(names, the reader behind the header, lines before what it reads)."""
    # A text of ten megabytes is one field.
    csv.field_size_limit(sys.maxsize)
    rest = iter(lines)
    before = 0
    first, delimiter = "", None
    for first in rest:
        if first.lower().startswith(SEPARATOR_LINE) and len(first.rstrip("\r\n")) == len(SEPARATOR_LINE) + 1:
            delimiter = first[len(SEPARATOR_LINE)]
        elif first.strip():
            break
        before += 1
    else:
        return [], csv.reader([]), before
    chosen = delimiter or _delimiter(first, default)
    reader = csv.reader(chain([first], rest), delimiter=chosen, strict=True)
    names = _next(reader, name, before, before + 1) or []
    for column in names:
        if not column.isascii() and any("\ud800" <= character <= "\udfff" for character in column):
            raise ContractBroken(f"The header of {name!r} is not UTF-8. Save the file as UTF-8.")
    while names and not names[-1]:
        names.pop()
    return [one_form(column) for column in names], reader, before


def _delimiter(header: str, default: str) -> str:
    fields = {one: len(next(csv.reader([header], delimiter=one), [])) for one in (default, *DELIMITERS)}
    return max(fields, key=lambda one: fields[one])


def _next(reader: Any, name: str, before: int, start: int) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        end = before + reader.line_num
        where = f"Line {start}" if end <= start else f"The row in lines {start} to {end}"
        raise ContractBroken(
            f"{where} of {name!r} cannot be read ({error}): a field begins with a quote that is not closed, or is "
            "closed too early. Close it, and write a quote inside a quoted field twice. Nothing was taken over."
        ) from error
