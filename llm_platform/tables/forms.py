"""The one form of keys, labels and other short texts: what looks the same is the same."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from llm_platform.errors import ContractBroken
from llm_platform.records import canonical_json

LONGEST_KEY = 2048
"""Bytes of a key in UTF-8. A URL fits; what is longer is a text in the wrong column."""
SURROGATES = re.compile("[\ud800-\udfff]")
EXACT_INTEGERS = 1e15
"""Floats below this that are whole numbers are written as such; from 2^53 on they name no number exactly."""


def one_form(text: str) -> str:
    """`text` in NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def alike(text: str) -> str:
    """Equal for texts that differ in case, form or white space only."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_of(value: Any) -> str | None:
    """A value as the text that names it, by its type: 1 and 1.0 are `1`, true is `true`; None where there is none."""
    written = next((write for kind, write in _WRITTEN if isinstance(value, kind)), str)
    return written(value)


def plain(value: Any) -> Any:
    """A value as JSON can hold it; what has no type there is text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return text_of(value)


def impossible(key: str) -> str | None:
    """Why a text cannot be a key; None where it can."""
    if "\0" in key:
        return "holds a NUL character"
    if not storable(key):
        return "is not valid text (bytes that are no UTF-8, or half of a surrogate pair)"
    if len(key) > LONGEST_KEY or len(key.encode()) > LONGEST_KEY:
        return f"is longer than {LONGEST_KEY} bytes"
    return None


def inexact_keys(source: str, column: str) -> ContractBroken:
    """What is said of keys that are numbers of a type that cannot tell them apart."""
    return ContractBroken(
        f"Keys of source {source!r} (column {column!r}) are numbers from 10^15 on, of a type that cannot tell them "
        "apart. Give the column another one, in Postgres numeric(38) or bigint, or cast it to text in a view."
    )


def storable(text: str) -> bool:
    """Whether a text holds neither NUL nor half of a surrogate pair."""
    return "\0" not in text and (text.isascii() or SURROGATES.search(text) is None)


def stored(text: str) -> str:
    """`text` without NUL, and with U+FFFD for half of a surrogate pair."""
    return text if storable(text) else SURROGATES.sub("\ufffd", text.replace("\0", ""))


def _float(value: float) -> str | None:
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < EXACT_INTEGERS else repr(value)


def _decimal(value: Decimal) -> str | None:
    if value.is_nan():
        return None
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _time(value: datetime) -> str:
    """As DuckDB writes it: no zeros behind the second, an hour of offset in two digits."""
    text = value.replace(tzinfo=None).isoformat(" ", "microseconds").rstrip("0").rstrip(".")
    offset = value.strftime("%z")
    return text + (offset.removesuffix("00") if len(offset) == 5 else offset)


def _json(value: Any) -> str:
    return canonical_json(plain(value))


_WRITTEN: tuple[tuple[type[Any], Callable[[Any], str | None]], ...] = (
    (str, lambda value: value),
    (type(None), lambda value: value),
    (bool, lambda value: "true" if value else "false"),
    (float, _float),
    (Decimal, _decimal),
    (datetime, _time),
    (bytes, lambda value: value.decode(errors="surrogateescape")),
    (Mapping, _json),
    (list, _json),
    (tuple, _json),
)
"""Of the kinds that fit, the first writes a value; whatever else there is, Python's `str`."""
