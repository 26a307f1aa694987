"""A YAML mapping held against a pydantic model, with every mistake at its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from llm_platform.application.yaml.mistakes import Mistake, listed, nearest, wording
from llm_platform.application.yaml.read import LocatedYaml, Location

Model = TypeVar("Model", bound=BaseModel)

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def validated(
    model: type[Model],
    yaml: LocatedYaml,
    mistakes: list[Mistake],
    *,
    data: dict[str, Any] | None = None,
    written_as: Mapping[str, str] | None = None,
) -> Model | None:
    """The model that a YAML mapping describes, or None after adding every mistake to `mistakes`.

    Args:
        data: Its values as the model has them, where that is not as the file has them.
        written_as: Field of the model → key of the file, for those that differ then.

    Fields marked `exclude=True` are filled in by code: in a file they are unknown keys.
    """
    keys = _keys(model)
    mistakes += [
        yaml.mistake((key,), wording(f"key {key!r}", listed(keys)))
        for key in yaml.data
        if key in model.model_fields and key not in keys
    ]
    try:
        # Strict, so that `max_tokens: "16"` is a mistake; by way of JSON, where a list may become a tuple.
        return model.model_validate_json(json.dumps(yaml.data if data is None else data), strict=True)
    except ValidationError as error:
        mistakes.extend(_mistakes(model, yaml, error, written_as or {}))
    return None


def _mistakes(
    model: type[BaseModel], yaml: LocatedYaml, error: ValidationError, written_as: Mapping[str, str]
) -> Iterator[Mistake]:
    details = _without_choices(model, error.errors(include_url=False))
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    for detail in details:
        location: Location = detail["loc"]
        at: Location = (written_as.get(str(location[0]), location[0]), *location[1:]) if location else location
        parent = _at(model, location[:-1])
        keys = _keys(parent) if _is_model(parent) else []
        if detail["type"] == "extra_forbidden":
            word = str(location[-1])
            text = wording(f"key {word!r}{_inside(at[:-1])}", listed(keys), nearest(word, keys))
        elif detail["type"] == "missing":
            siblings = [str(other[-1]) for other in unknown if other[:-1] == location[:-1]]
            if any(nearest(sibling, keys) == location[-1] for sibling in siblings):
                continue  # the unknown key's own line already asks for this one
            found = f"no {str(location[-1])!r}{_inside(at[:-1])}"
            text = wording(found, f"{_allowed(model, location)}, which is required")
        elif detail["type"] == "value_error":
            found = f"{yaml.found(at)}{_as(at)}"
            text = wording(found, str(detail.get("ctx", {}).get("error", detail["msg"])))
        else:
            choices = _choices(_field_type(model, location))
            written = yaml.written.get(at, yaml.written.get(at[:-1], ""))
            suggestion = nearest(written, choices)
            found = f"{yaml.found(at)}{_as(at)}"
            text = wording(found, _allowed(model, location) or detail["msg"], suggestion)
        yield yaml.mistake(at, text)


def _without_choices(model: type[BaseModel], details: Sequence[Any]) -> list[Any]:
    """Details without the steps that name one of several allowed types, which no file has.

    Each type complains for itself; what is said of a place further inside says more than that the whole is not text.
    """
    found = [({**detail, "loc": _in_file(model, detail["loc"])}, detail["loc"]) for detail in details]
    chosen = [detail["loc"] for detail, full in found if detail["loc"] != full]

    def is_told_better(detail: Any, full: Location) -> bool:
        at = detail["loc"]
        return at != full and any(len(other) > len(at) and other[: len(at)] == at for other in chosen)

    return [detail for detail, full in found if not is_told_better(detail, full)]


def _in_file(model: type[BaseModel], location: Location) -> Location:
    kept: Location = ()
    for step in location:
        # Where text or a list is allowed, pydantic puts the name of the type that it tried into the location.
        if not (isinstance(step, str) and _types(_at(model, kept))):
            kept = (*kept, step)
    return kept


def _types(annotation: Any) -> list[Any]:
    """Types of which any one is allowed; none where there is only one."""
    bare = _bare(annotation)
    return list(get_args(bare)) if get_origin(bare) in (Union, UnionType) else []


def _keys(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _dotted(location: Location) -> str:
    return ".".join(str(step) for step in location)


def _inside(location: Location) -> str:
    return f" in {_dotted(location)}" if location else ""


def _as(location: Location) -> str:
    return f" as {_dotted(location)}" if location else ""


def _bare(annotation: Any) -> Any:
    """The type without `None`."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _at(model: Any, location: Location) -> Any:
    """The type that a model wants at a location."""
    annotation: Any = model
    for step in location:
        annotation = _bare(annotation)
        if _is_model(annotation):
            field = annotation.model_fields.get(str(step))
            annotation = field.annotation if field is not None else Any
        elif get_origin(annotation) in (dict, Mapping):
            annotation = get_args(annotation)[1]
        elif get_origin(annotation) in (tuple, list):
            annotation = get_args(annotation)[0]
        elif isinstance(step, int) and (several := [kind for kind in _types(annotation) if get_origin(kind) is tuple]):
            annotation = get_args(several[0])[0]
        else:
            return Any
    return _bare(annotation)


def _field_type(model: type[BaseModel], location: Location) -> Any:
    return _at(model, location)


def _field(model: type[BaseModel], location: Location) -> FieldInfo | None:
    parent = _at(model, location[:-1])
    return parent.model_fields.get(str(location[-1])) if location and _is_model(parent) else None


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return ["true", "false"] if annotation is bool else []


def _allowed(model: type[BaseModel], location: Location) -> str:
    """What a model wants at a location, in words."""
    annotation = _at(model, location)
    words = _described(annotation)
    field = _field(model, location)
    if field is not None:
        bounds = [
            form.format(getattr(rule, name))
            for rule in field.metadata
            for name, form in _BOUNDS.items()
            if hasattr(rule, name)
        ]
        words += f" {' and '.join(bounds)}" if bounds else ""
        for rule in field.metadata:
            shortest = getattr(rule, "min_length", None)
            pattern = getattr(rule, "pattern", None)
            if shortest is not None:
                words += f" of at least {shortest} characters" if annotation is str else f", at least {shortest}"
            if pattern is not None:
                words += f" that matches {pattern}"
    return words


def _described(annotation: Any) -> str:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if get_origin(annotation) is Literal:
        return listed(get_args(annotation))
    if get_origin(annotation) in (tuple, list):
        return f"a list, each item {_described(_bare(get_args(annotation)[0]))}"
    if get_origin(annotation) in (dict, Mapping):
        return f"a mapping of names, each to {_described(_bare(get_args(annotation)[1]))}"
    if _is_model(annotation):
        required = [name for name, field in annotation.model_fields.items() if field.is_required()]
        return f"a mapping with {listed(required or annotation.model_fields)}"
    return ", or ".join(_described(kind) for kind in _types(annotation))
