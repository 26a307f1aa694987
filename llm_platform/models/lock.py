"""`models.lock.yaml`: read, checked, and turned into pins.

Every mistake of the file is reported at once, one a line, as `file:line: what was found; what is allowed`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llm_platform.errors import SpecificationError
from llm_platform.models.entries import LockEntry
from llm_platform.records import ModelPin, content_hash

__all__ = ["LockEntry", "load_lock", "lock_hash", "pin"]

Location = tuple[str | int, ...]
FILE_HELP = "The file maps model names to entries, below the key 'models'."


def load_lock(path: Path) -> dict[str, LockEntry]:
    """Entries of a lock file by name.

    Raises:
        SpecificationError: lists every mistake with file and line.
    """
    text = _read(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SpecificationError(_syntax_message(path, error)) from error
    mistakes: list[str] = []
    lines: dict[Location, int] = {}
    data = _construct(root, path=path, lines=lines, mistakes=mistakes)
    entries = _entries(data, path=path, lines=lines, mistakes=mistakes)
    if mistakes:
        raise SpecificationError("\n".join(mistakes))
    return entries


def pin(entry: LockEntry) -> ModelPin:
    """What of an entry decides an answer."""
    return ModelPin(
        entry=entry.name,
        served_name=entry.served_name,
        dialect=entry.dialect,
        image=entry.image.reference if entry.image else None,
        profile=entry.profile,
        weights_sha256=entry.weights.sha256 if entry.weights else None,
        context_length=entry.context_length,
    )


def lock_hash(entry: LockEntry) -> str:
    """Hash of everything an entry says, name included."""
    return content_hash(entry.model_dump(mode="json"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecificationError(f"{path}: the lock file cannot be read ({error.strerror}). {FILE_HELP}") from error
    except UnicodeDecodeError as error:
        raise SpecificationError(f"{path}: the lock file is not UTF-8 text (byte {error.start}).") from error


def _syntax_message(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    return f"{path}:{line}: not YAML: {getattr(error, 'problem', None) or error}"


def _construct(node: yaml.Node | None, *, path: Path, lines: dict[Location, int], mistakes: list[str]) -> Any:
    """Plain data of a node tree; fills `lines` with the line of every key, and reports keys given twice."""

    def build(current: yaml.Node, location: Location) -> Any:
        lines.setdefault(location, current.start_mark.line + 1)
        if isinstance(current, yaml.SequenceNode):
            return [build(child, (*location, index)) for index, child in enumerate(current.value)]
        if not isinstance(current, yaml.MappingNode):
            return _scalar(current)
        built: dict[Any, Any] = {}
        for key_node, value_node in current.value:
            key = str(_scalar(key_node)) if isinstance(key_node, yaml.ScalarNode) else "?"
            line = key_node.start_mark.line + 1
            if key in built:
                first = lines[(*location, key)]
                mistakes.append(f"{path}:{line}: key {key!r} is given twice, first in line {first}; keep one.")
            lines[(*location, key)] = line
            built[key] = build(value_node, (*location, key))
        return built

    return None if node is None else build(node, ())


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _entries(data: Any, *, path: Path, lines: Mapping[Location, int], mistakes: list[str]) -> dict[str, LockEntry]:
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict) or not data["models"]:
        mistakes.append(f"{path}:1: found no models. {FILE_HELP}")
        return {}
    for key in data.keys() - {"models"}:
        found = f"unknown key {key!r}" + _nearest(key, ["models"])
        mistakes.append(f"{path}:{lines[(key,)]}: {found}; allowed: models.")
    entries: dict[str, LockEntry] = {}
    for name, value in data["models"].items():
        if not isinstance(value, dict):
            mistakes.append(f"{path}:{lines[('models', name)]}: model {name!r} is not a mapping of fields.")
            continue
        try:
            entries[name] = LockEntry.model_validate({"name": name, **value})
        except ValidationError as error:
            mistakes.extend(
                _mistake(detail, name=name, path=path, lines=lines) for detail in error.errors(include_url=False)
            )
    return entries


def _mistake(detail: ErrorDetails, *, name: str, path: Path, lines: Mapping[Location, int]) -> str:
    location = tuple(detail["loc"])
    line = _line(("models", name, *location), lines)
    field = ".".join(str(part) for part in location)
    at = f"{path}:{line}: model {name!r}"
    kind = detail["type"]
    if kind == "extra_forbidden":
        allowed = sorted(_fields(location[:-1]) - {"name"})
        return f"{at}: unknown field {field!r}{_nearest(str(location[-1]), allowed)}; allowed: {', '.join(allowed)}."
    if kind == "missing":
        return f"{at}: field {field!r} is missing; add it."
    if kind == "value_error":
        return f"{at}: {field + ': ' if field else ''}{detail['msg'].removeprefix('Value error, ')}."
    found = f"{field!r} is {detail['input']!r}"
    if kind == "literal_error":
        allowed = _choices(detail)
        return f"{at}: {found}{_nearest(str(detail['input']), allowed)}; allowed: {', '.join(allowed)}."
    if kind == "string_pattern_mismatch":
        return f"{at}: {found}; allowed: {_pattern_in_words(detail)}."
    return f"{at}: {found}; {detail['msg'][0].lower()}{detail['msg'][1:]}."


def _line(location: Location, lines: Mapping[Location, int]) -> int:
    while location not in lines:
        location = location[:-1]
    return lines[location]


def _fields(location: Location) -> set[str]:
    """Names of the fields of the model that stands at `location` below an entry."""
    model: type[BaseModel] = LockEntry
    for part in location:
        field = model.model_fields[str(part)]
        candidates = [field.annotation, *get_args(field.annotation)]
        model = next(item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel))
    return set(model.model_fields)


def _choices(detail: ErrorDetails) -> list[str]:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]


def _pattern_in_words(detail: ErrorDetails) -> str:
    prefixed = str(detail.get("ctx", {}).get("pattern", "")).startswith("^sha256:")
    return ("'sha256:' and " if prefixed else "") + "64 hex digits, lower case"


def _nearest(word: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
