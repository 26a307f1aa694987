"""The shape of an `extract` answer: its typed fields, and the JSON schema that models are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from llm_platform.application.specification import Specification

FieldType = Literal["string", "integer", "number", "boolean", "date", "money", "list", "enum"]
_JSON_TYPES = {"date": "string", "money": "string", "list": "array", "enum": "string"}


class OutputField(Specification):
    """One typed field of an `extract` answer; of type `enum`, one of `values`."""

    type: FieldType
    description: str = ""
    required: bool = True
    max_length: int | None = Field(default=None, ge=1)
    values: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """What evidence rests on; without what is not stated, so that evidence from before a key existed stays."""
        return self.model_dump(mode="json", exclude=set() if self.values else {"values"})


def output_schema(fields: Mapping[str, OutputField]) -> dict[str, Any]:
    """JSON schema of an object with these fields and no other."""
    properties = {name: _property(field) for name, field in fields.items()}
    required = [name for name, field in fields.items() if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _property(field: OutputField) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": _JSON_TYPES.get(field.type, field.type)}
    if field.type == "date":
        shape["pattern"] = r"^\d{4}-\d{2}-\d{2}$"
    if field.type == "list":
        shape["items"] = {"type": "string"}
    if field.type == "enum":
        shape["enum"] = [*field.values, *([] if field.required else [None])]
    if field.max_length is not None:
        shape["maxLength"] = field.max_length
    if field.description:
        shape["description"] = field.description
    if not field.required:
        shape["type"] = [shape["type"], "null"]
    return shape
