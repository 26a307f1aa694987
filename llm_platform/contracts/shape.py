"""The contract that an application's files describe, and what fills it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.application.publish import ContractBeside
from llm_platform.application.publish_rules import column_names
from llm_platform.records import Release, Task
from llm_platform.records.contracts import ANSWER, KEY, STANDARD_COLUMNS, Column, ColumnType, Contract

MAY_NOT_FIT = frozenset({"date", "money", "integer"})
"""Types whose column may be NULL beside a valid answer: the form of an answer allows 31 February, `about 12 EUR` and
numbers of a hundred digits, and no column does."""


def contract_of(application: Application) -> Contract:
    """The contract that the files describe; of the version that they state, or the first one of its number."""
    publish = application.publish
    columns = tuple(_worded(one, application) for one in (*_key(application), *_answers(application), *_others()))
    return Contract(
        application=application.name,
        number=publish.contract,
        version=publish.version or f"{publish.contract}.0.0",
        title=application.title,
        description=publish.description or application.description,
        owner=publish.owner or next(iter(application.owners), ""),
        source=_without_secrets(application.source.address),
        source_key=application.source.key,
        columns=columns,
        freshness_hours=publish.freshness_hours,
        completeness=publish.completeness,
    )


def _key(application: Application) -> tuple[Column, ...]:
    key = next(one for one in STANDARD_COLUMNS if one.name == KEY)
    place = _without_secrets(application.source.address)
    said = f"Key of the document: {application.source.key} of {place}. One row for each document."
    return (key.model_copy(update={"description": said}),)


def _without_secrets(address: str) -> str:
    """An address as readers may see it: a URL may name a user, and have a token in its query."""
    if "://" not in address:
        return address
    scheme, _, rest = address.partition("://")
    place = rest.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _others() -> tuple[Column, ...]:
    return tuple(one for one in STANDARD_COLUMNS if one.name != KEY)


def _answers(application: Application) -> tuple[Column, ...]:
    if application.task != "extract":
        said = "One of the labels; NULL where there is no valid answer."
        if application.task == "generate":
            said = "The text of the answer; NULL where there is no valid one."
        return (Column(name=ANSWER, type="string", description=said, answered=True, values=application.labels),)
    fields = application.fields
    renamed = {one.field: name for name, one in application.publish.columns.items() if one.field is not None}
    named = column_names({name: one.type for name, one in fields.items()}, renamed)
    return tuple(_column(name, field, fields[field], part) for name, (field, part) in named.items())


def _column(name: str, field: str, output: OutputField, part: str | None) -> Column:
    if part is not None:
        said = f"Currency of {field!r} as a code of ISO 4217; NULL where the text names none."
        return Column(name=name, type="string", description=said, field=field, part="currency")
    kind: ColumnType = "string" if output.type == "enum" else output.type
    return Column(
        name=name,
        type=kind,
        description=output.description,
        answered=output.required and kind not in MAY_NOT_FIT,
        values=output.values,
        max_length=output.max_length,
        field=field,
    )


def _worded(column: Column, application: Application) -> Column:
    mask = application.publish.masks.get(column.name)
    column = column if mask is None else column.model_copy(update={"mask": mask})
    said = application.publish.columns.get(column.name)
    if said is None:
        return column
    return column.model_copy(
        update={"description": said.description or column.description, "deprecated": said.deprecated}
    )


def masked_like(earlier: Contract, described: Contract) -> Contract:
    """An earlier contract, masked where the present one masks what fills it: readers of either may be the same people.

    A mask that it has already stays.
    """
    masks = {(one.field, one.part, one.name if one.field is None else ""): one.mask for one in described.columns}
    hidden = any(one.mask is not None for one in described.answers if one.field is not None)

    def masked(column: Column) -> Column:
        mask = masks.get((column.field, column.part, column.name if column.field is None else ""))
        if mask is None and hidden and column.name == ANSWER and column.field is None:
            mask = "drop"  # the whole answer as JSON
        return column if column.mask is not None or mask is None else column.model_copy(update={"mask": mask})

    columns = tuple(masked(one) for one in earlier.columns)
    keyed = described.mask_key if any(one.mask == "hash" for one in columns) else None
    return earlier.model_copy(update={"columns": columns, "mask_key": earlier.mask_key or keyed})


def filled_from(earlier: Contract, spec: ContractBeside | None) -> Contract:
    """An earlier contract, with the fields and labels of the present answer that fill it."""
    if spec is None:
        return earlier
    columns = tuple(
        one.model_copy(update={"field": spec.fields[one.name]}) if one.name in spec.fields else one
        for one in earlier.columns
    )
    return earlier.model_copy(update={"columns": columns, "labels": dict(spec.labels)})


def answer_columns(release: Release) -> dict[str, Column]:
    """Field → the column that a release's answers could fill; `answer` for a task without fields.

    Read from what the release was asked for, which may be older than the application's files.
    """
    if release.output_schema is None:
        labels = tuple(release.prompt.answers) if release.task == "classify" else ()
        return {ANSWER: Column(name=ANSWER, type="string", answered=True, values=labels)}
    schema: Mapping[str, Any] = release.output_schema
    required = set(schema.get("required", ()))
    return {
        name: _of_property(name, shape, required=name in required)
        for name, shape in schema.get("properties", {}).items()
    }


def _of_property(name: str, shape: Mapping[str, Any], *, required: bool) -> Column:
    kinds = shape.get("type")
    bare, nullable = (kinds, False) if isinstance(kinds, str) else (next(iter(kinds or ["string"])), True)
    kind: ColumnType = {"array": "list", "integer": "integer", "number": "number", "boolean": "boolean"}.get(
        str(bare), "date" if "pattern" in shape else "string"
    )  # type: ignore[assignment]
    return Column(
        name=name,
        type=kind,
        answered=required and not nullable and kind not in MAY_NOT_FIT,
        values=tuple(str(one) for one in shape.get("enum", ()) if one is not None),
        max_length=shape.get("maxLength"),
        field=name,
    )


def why_not_filled(contract: Contract, release: Release) -> list[str]:
    """Why answers of a release cannot fill a contract, a sentence each; empty where they can."""
    given = answer_columns(release)
    reasons = []
    for column in contract.answers:
        why = next(_why_not(column, contract.labels, given, release.task), None)
        if why is not None:
            reasons.append(f"column {column.name!r} {why}")
    return reasons


def _why_not(column: Column, labels: Mapping[str, str], given: Mapping[str, Column], task: Task) -> Iterator[str]:
    if column.field is None:
        # Without values it takes any text, or the JSON of whatever fields there are.
        if column.values and task != "classify":
            yield f"has labels, and task {task!r} answers without"
        elif column.values:
            yield from _other_values(column, [labels.get(label, label) for label in given[ANSWER].values])
        return
    has = given.get(column.field)
    if has is None:
        yield f"is filled from a field {column.field!r}, which is not answered"
        return
    wanted = "string" if column.type == "money" or column.part else column.type
    if has.type != wanted:
        yield f"is a {column.type}, and field {column.field!r} a {has.type}"
    if column.values and not has.values:
        yield f"has the values {_list(column.values)}, and field {column.field!r} any"
    if column.answered and not has.answered:
        yield f"is never NULL beside an answer, and field {column.field!r} may be"
    if column.max_length is not None and (has.max_length is None or has.max_length > column.max_length):
        yield f"has at most {column.max_length} characters, and field {column.field!r} more"
    yield from _other_values(column, has.values)


def _other_values(column: Column, values: Sequence[str]) -> Iterator[str]:
    other = [value for value in values if column.values and value not in column.values]
    if other:
        yield f"has the values {_list(column.values)}, and not {_list(other)}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
