"""JSON Lines, and a list of objects in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from llm_platform.errors import ContractBroken
from llm_platform.tables.forms import one_form


def json_rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of one object a line; where the file is one list, its objects and their numbers. NaN is null.

    Raises:
        ContractBroken: a line is not a JSON object, or names a column twice.
    """
    numbered = enumerate(lines, start=1)
    first = True
    for number, line in numbered:
        if not line.strip():
            continue
        if first and line.lstrip().startswith("["):
            rest = "".join(chain([line], (text for _, text in numbered)))
            yield from _listed(rest, number, name)
            return
        first = False
        yield number, _object(json_value(line, f"Line {number} of {name!r}"), f"Line {number} of {name!r}")


def _listed(text: str, number: int, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    listed = json_value(text, f"The list that begins in line {number} of {name!r}")
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        _object(listed, f"Line {number} of {name!r}")
    yield from enumerate(listed, start=1)


def json_value(text: str, where: str) -> Any:
    """What a text of JSON says; names are in NFC, and NaN is null.

    Args:
        text: Of one line, or of one cell.
        where: What messages call it.

    Raises:
        NameTwice: an object in it has a name twice.
        ContractBroken: it is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_constant)
    except _TwiceError as error:
        raise NameTwice(where, error.name) from error
    except (ValueError, RecursionError) as error:
        # Not all of these are JSONDecodeErrors: a number can have too many digits, a value be Infinity.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a value that cannot be read"
        raise ContractBroken(
            f"{where} is not JSON: {reason}. Write one object per line, or a list of objects."
        ) from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ContractBroken(f"{where} is not a JSON object but {type(value).__name__}. Write one object per line.")
    return value


class NameTwice(ContractBroken):
    """A name stands twice in an object; which value is meant cannot be told."""

    def __init__(self, where: str, name: str) -> None:
        super().__init__(f"{where} has {name!r} twice. Give each name once.")
        self.name = name


class _TwiceError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {one_form(name): value for name, value in pairs}
    if len(found) < len(pairs):
        names = [one_form(name) for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _constant(text: str) -> None:
    if text != "NaN":
        raise ValueError(text)
