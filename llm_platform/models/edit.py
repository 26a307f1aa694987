"""The lock file changed in place: values are replaced or added, everything else stays as people wrote it.

A YAML library that writes would drop comments and reorder keys. What is changed here is the text of single values, at
the places where the parser found them; the result is parsed again and must say exactly what was asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from llm_platform.errors import SpecificationError

INDENT = 2
_PLAIN = re.compile(r"[A-Za-z/][\w./+@-]*( [\w./+@()-]+)*")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def set_fields(text: str, entry: str, fields: Mapping[str, Any]) -> str:
    """The text of a lock file in which `entry` has these fields; a mapping as value sets the fields in it.

    Args:
        text: A lock file that can be read.
        entry: Name of an entry; added at the end when there is none.
        fields: Plain values: text, numbers, true and false, lists of these, mappings.

    Raises:
        SpecificationError: the text is laid out in a way that cannot be changed line by line, such as `{a: 1}`.
    """
    before = yaml.safe_load(text)
    wanted = {**before, "models": {**before["models"], entry: _merged(before["models"].get(entry, {}), fields)}}
    changed = text
    for path, value in _leaves(("models", entry), fields):
        if _get(before, path) != value:
            changed = _set(changed, path, value)
    if yaml.safe_load(changed) != wanted:
        raise SpecificationError(
            f"Entry {entry!r} of the lock file is laid out in a way that cannot be changed in place. "
            "Write its mappings one key a line, or change it by hand."
        )
    return changed


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        merged[key] = _merged(old.get(key) or {}, value) if isinstance(value, Mapping) else value
    return merged


def _leaves(path: tuple[str, ...], fields: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in fields.items():
        found += _leaves((*path, key), value) if isinstance(value, Mapping) else [((*path, key), value)]
    return found


def _get(data: Any, path: Sequence[str]) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _set(text: str, path: Sequence[str], value: Any) -> str:
    """`text` with one value at `path`, whose last existing parent decides where and how deep it is written."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    for depth, key in enumerate(path):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        child = next((child for name, child in pairs if name.value == key), None)
        if child is None:
            return _added(text, node, path[depth:], value)
        node = child
    return _replaced(text, node, value) if node is not None else text


def _replaced(text: str, node: yaml.Node, value: Any) -> str:
    start, end = node.start_mark.index, _end(node)
    if not isinstance(value, list):
        return text[:start] + _written(value) + text[end:]
    # A list begins on the line behind its key, whatever stood there before.
    line = text.rindex("\n", 0, text.rindex(":", 0, start)) + 1
    column = len(text[line:]) - len(text[line:].lstrip(" "))
    head = text[:start].rstrip()
    return head + _block(value, column + INDENT) + text[end:]


def _added(text: str, parent: yaml.Node | None, keys: Sequence[str], value: Any) -> str:
    if not isinstance(parent, yaml.MappingNode) or not parent.value or parent.flow_style:
        return text  # the check of the result says so
    column = parent.value[0][0].start_mark.column
    lines = ""
    for depth, key in enumerate(keys):
        lines += "\n" + " " * (column + INDENT * depth) + f"{_written(key)}:"
    deepest = column + INDENT * len(keys)
    lines += _block(value, deepest) if isinstance(value, list) else " " + _written(value)
    end = _end(parent)
    line_end = text.find("\n", end)
    at = len(text) if line_end < 0 else line_end  # behind a comment on the same line
    return text[:at] + lines + text[at:]


def _end(node: yaml.Node) -> int:
    """Where the last written character of a node is; a block's own mark lies behind the comments that follow it."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", False) or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(node, yaml.MappingNode) else last)


def _block(values: Sequence[Any], column: int) -> str:
    return "".join(f"\n{' ' * column}- {_written(value)}" for value in values)


def _written(value: Any) -> str:
    """A scalar as YAML, on one line; text in quotes where plain text could be read as something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return str(yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))).rstrip("\n")
