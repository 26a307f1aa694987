"""What `source.text` says: one column, several columns, or a template of them.

A template has no logic: `{{ column }}` stands for the column's value, so that names may hold blanks and dots, and what
a document itself writes in braces stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HOLE = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
JOINED_BY = b"\n\n"
"""Between two columns of a list: a paragraph, where long documents are cut first."""


def is_template(text: str | Sequence[str]) -> bool:
    """Whether `source.text` is a template, and not the name of a column or a list of such."""
    return isinstance(text, str) and HOLE.search(text) is not None


def text_columns(text: str | Sequence[str]) -> tuple[str, ...]:
    """Columns that `source.text` names, each once, in order."""
    if not isinstance(text, str):
        return tuple(dict.fromkeys(text))
    return tuple(dict.fromkeys(HOLE.findall(text))) if is_template(text) else (text,)


def composed(text: str | Sequence[str], values: Mapping[str, bytes | None]) -> bytes | None:
    """The text of one row, as bytes; None when every column is null, empty when no column says anything.

    Of a list, columns that say nothing are left out; in a template they are nothing.
    """
    if not isinstance(text, str):
        told = [value for value in (values[name] for name in text) if value is not None and value.strip()]
        return JOINED_BY.join(told) if told else _nothing(values)
    if not is_template(text):
        return values[text]
    if not any(value is not None and value.strip() for value in values.values()):
        return _nothing(values)
    pieces = HOLE.split(text)
    return b"".join((values[piece] or b"") if index % 2 else piece.encode() for index, piece in enumerate(pieces))


def _nothing(values: Mapping[str, bytes | None]) -> bytes | None:
    return None if all(value is None for value in values.values()) else b""
