"""YAML read with the line of every value.

The values are those of the YAML 1.2 core schema: `yes`, `no`, `on` and `2026-01-01` are text, so a label may be called
`no`. Keys are always text. Duplicate keys, tags and runaway aliases are mistakes.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_platform.application.yaml.mistakes import Mistake, shown, wording

Location = tuple[str | int, ...]

MAX_VALUES = 20_000
_TAG = "tag:yaml.org,2002:"
_HINTS = {
    "mapping values are not allowed here": "text that contains ': ' only in quotes",
    "could not find expected ':'": "'key: value', with a space after the colon",
    "cannot start any token": "text that starts with a special character only in quotes",
    "expected a single document in the stream": "one document, without a second '---'",
}


_CONVERT: dict[str, Callable[[str], Any]] = {
    # In one form: a label, a column or a field is what its table and its model call it, however it was typed.
    "str": lambda text: unicodedata.normalize("NFC", text),
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, 0 if text.startswith(("0x", "0o")) else 10),
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)


def _resolve(tag: str, pattern: str, first: str) -> None:
    _CoreLoader.add_implicit_resolver(_TAG + tag, re.compile(pattern), list(first))


_resolve("null", r"^(~|null|Null|NULL|)$", "~nN\0")
_CoreLoader.add_implicit_resolver(_TAG + "null", re.compile(r"^$"), [""])
_resolve("bool", r"^(true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("int", r"^([-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15})$", "-+0123456789")
_resolve("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", "-+.0123456789")
_resolve("float", r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", "-+.")


@dataclass(frozen=True)
class LocatedYaml:
    """A YAML mapping and where its values stand.

    Attributes:
        data: Plain values: dict with text keys, list, str, int, float, bool, None.
        lines: Line of every key and list item, by location.
        written: Every scalar as it stands in the file.
    """

    path: Path
    data: dict[str, Any]
    lines: Mapping[Location, int]
    written: Mapping[Location, str]
    first_line: int = 1

    def line(self, location: Location) -> int:
        """The line of a value, or of the nearest thing around it that is written in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, self.first_line)

    def mistake(self, location: Location, text: str) -> Mistake:
        """A mistake at the line of a value."""
        return Mistake(str(self.path), self.line(location), text)

    def found(self, location: Location) -> str:
        """What stands at a location, for a message."""
        value: Any = self.data
        for depth, step in enumerate(location):
            if isinstance(value, str):  # short for a mapping: the whole word is what stands there
                location = location[:depth]
                break
            value = value[step]
        if value is None:
            return "nothing"
        if isinstance(value, dict):
            return f"a mapping ({', '.join(map(repr, value)) or 'empty'})"
        return f"a list of {len(value)}" if isinstance(value, list) else shown(self.written[location])


def read_yaml(path: Path, text: str, mistakes: list[Mistake], *, first_line: int = 1) -> LocatedYaml | None:
    """Read one YAML mapping, or None after adding to `mistakes` why it cannot be read.

    Args:
        first_line: Line of the file at which `text` begins, for YAML inside another file.
    """
    offset = first_line - 1
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mistakes.extend(_syntax_mistakes(path, text, error, offset))
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + first_line
        mistakes.append(Mistake(str(path), line, wording(f"character U+{int(error.character):04X}", "printable text")))
        return None
    except RecursionError:
        mistakes.append(_too_deep(path, first_line))
        return None
    if not isinstance(node, yaml.MappingNode):
        found = "an empty file" if node is None else "something that is not a mapping"
        mistakes.append(Mistake(str(path), first_line, wording(found, "'key: value' lines")))
        return None
    reader = _Reader(path, mistakes, offset)
    try:
        data = reader.mapping(node, ())
    except RecursionError:
        mistakes.append(_too_deep(path, first_line))
        return None
    return LocatedYaml(path, data, reader.lines, reader.written, first_line) if reader.values <= MAX_VALUES else None


def _too_deep(path: Path, line: int) -> Mistake:
    return Mistake(
        str(path), line, wording("values nested too deeply", "a few levels, and no alias inside its own anchor")
    )


def _syntax_mistakes(path: Path, text: str, error: yaml.MarkedYAMLError, offset: int) -> list[Mistake]:
    rows = text.split("\n")
    at = error.problem_mark.line if error.problem_mark is not None else 0
    problem = error.problem or "something unreadable"
    if "\\t" in problem or (at < len(rows) and "\t" in rows[at][: len(rows[at]) - len(rows[at].lstrip())]):
        tabs = [n for n, row in enumerate(rows, start=1) if "\t" in row[: len(row) - len(row.lstrip())]]
        text_of_tab = wording("a tab in the indentation", "spaces")
        return [Mistake(str(path), line + offset, text_of_tab) for line in tabs or [at + 1]]
    allowed = next((hint for part, hint in _HINTS.items() if part in f"{problem} {error.context}"), "valid YAML")
    context = f" {error.context}" if error.context else ""
    line = min(at + 1, max(len(text.rstrip("\n").split("\n")), 1)) + offset
    return [Mistake(str(path), line, wording(f"YAML that cannot be read ({problem}{context})", allowed))]


class _Reader:
    """Turns nodes into plain values and remembers where each stood."""

    def __init__(self, path: Path, mistakes: list[Mistake], offset: int) -> None:
        self.path = path
        self.mistakes = mistakes
        self.offset = offset
        self.values = 0
        self.lines: dict[Location, int] = {}
        self.written: dict[Location, str] = {}

    def mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = self._line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(line, wording("a key that is a list or a mapping", "text as a key"))
                continue
            key = unicodedata.normalize("NFC", str(key_node.value))
            if key in result:
                first = self.lines[(*location, key)]
                self._add(line, wording(f"key {key!r} a second time (first at line {first})", "each key once"))
                continue
            self.lines[(*location, key)] = line
            result[key] = self.value(value_node, (*location, key))
        return result

    def value(self, node: yaml.Node, location: Location) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            # Aliases of aliases grow without bound; the first excess is reported, the rest is not read.
            if self.values == MAX_VALUES + 1:
                self._add(self._line(node), wording(f"more than {MAX_VALUES} values", "fewer values and aliases"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*location, index)] = self._line(item)
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, location)

    def scalar(self, node: yaml.Node, location: Location) -> Any:
        text = str(node.value)
        self.written[location] = text
        tag = node.tag.removeprefix(_TAG)
        try:
            text.encode()
        except UnicodeEncodeError:
            self._add(self._line(node), wording("half of a surrogate pair", "text in UTF-8"))
            return text.encode(errors="replace").decode()
        value: Any = text
        try:
            if tag in _CONVERT:
                value = _CONVERT[tag](text)
            else:
                self._add(self._line(node), wording(f"tag {node.tag!r}", "plain values without tags"))
        except ValueError:  # only an explicit tag, as in `!!int abc`, gets here
            self._add(self._line(node), wording(f"{shown(text)} tagged {tag!r}", "plain values without tags"))
        if isinstance(value, float) and not math.isfinite(value):
            self._add(self._line(node), wording(shown(text), "a finite number"))
            return 0.0
        return value

    def _line(self, node: yaml.Node) -> int:
        return int(node.start_mark.line) + 1 + self.offset

    def _add(self, line: int, text: str) -> None:
        self.mistakes.append(Mistake(str(self.path), line, text))
