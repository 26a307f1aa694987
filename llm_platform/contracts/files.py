"""The contract as files that stand beside the table: a JSON Schema of one row, and the Open Data Contract Standard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_platform.records.contracts import Column, Contract

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JSON_SCHEMA = "schema.json"
ODCS = "odcs.yaml"
STANDARD = "v3.2.0"
_SHAPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "timestamp": {"type": "string", "format": "date-time"},
    # As text: a number of JSON is a float to most readers, and an amount is none.
    "money": {"type": "string", "pattern": r"^-?\d{1,14}(\.\d{1,4})?$"},
    "list": {"type": "array", "items": {"type": "string"}},
}
_LOGICAL_TYPES = {"money": "number", "list": "array"}
NEVER_NULL = frozenset({"document_id", "release_id", "status", "fingerprint", "published_at"})


def contract_files(contract: Contract) -> Mapping[str, str]:
    """Name → text of the files that stand beside a published table."""
    return {f"{contract.table}.{ODCS}": odcs_text(contract), f"{contract.table}.{JSON_SCHEMA}": schema_text(contract)}


def schema_text(contract: Contract) -> str:
    """The JSON Schema of one row as text."""
    return json.dumps(json_schema(contract), indent=2, ensure_ascii=False) + "\n"


def json_schema(contract: Contract) -> dict[str, Any]:
    """JSON Schema of one row of the table, with what else is promised under keys of our own.

    Columns that it does not name are allowed: the next minor version may have some.
    """
    answered = [one.name for one in contract.columns if one.answered]
    promised = {name: {"not": {"type": "null"}} for name in answered}
    valid = {"properties": {"status": {"const": "valid"}}, "required": ["status"]}
    return {
        "$schema": DIALECT,
        "$id": f"urn:llm-platform:{contract.application}:{contract.table}:{contract.version}",
        "title": f"{contract.application}.{contract.table}",
        "description": contract.description or contract.title,
        "type": "object",
        "properties": {one.name: _property(one) for one in contract.columns},
        "required": [one.name for one in contract.columns],
        **({"if": valid, "then": {"properties": promised}} if promised else {}),
        "x-version": contract.version,
        "x-key": contract.key,
        "x-owner": contract.owner,
        "x-freshness-hours": contract.freshness_hours,
        "x-completeness": contract.completeness,
        "x-content-id": contract.content_id,
    }


def _property(column: Column) -> dict[str, Any]:
    shape = dict(_SHAPES[column.type])
    if column.values:
        shape["enum"] = list(column.values)
    if column.max_length is not None:
        shape["maxLength"] = column.max_length
    if column.name not in NEVER_NULL or (column.mask == "redact" and column.type != "string"):
        shape["type"] = [shape["type"], "null"]
        if "enum" in shape:
            shape["enum"].append(None)
    if column.name == "confidence":
        shape |= {"minimum": 0, "maximum": 1}
    if column.said:
        shape["description"] = column.said
    if column.mask is not None:
        shape["x-mask"] = column.mask
    if column.deprecated:
        shape["deprecated"] = True
    return shape


def odcs_text(contract: Contract) -> str:
    """The contract as YAML of the Open Data Contract Standard (Bitol, Linux Foundation), version 3.2."""
    from open_data_contract_standard.model import OpenDataContractStandard

    return OpenDataContractStandard.model_validate(_odcs(contract)).to_yaml()


def _odcs(contract: Contract) -> dict[str, Any]:
    table = {
        "name": contract.table,
        "physicalName": f"{contract.application}.{contract.table}",
        "physicalType": "table",
        "logicalType": "object",
        "description": contract.description or contract.title,
        "dataGranularityDescription": f"One row for each document of {contract.source}.",
        "properties": [_odcs_property(one, contract) for one in contract.columns],
    }
    if contract.completeness is not None:
        rule = {
            "name": "completeness",
            "type": "sql",
            "dimension": "completeness",
            "description": "Share of documents that have an answer.",
            "query": f"SELECT avg((status = 'valid')::INT) FROM {contract.table}",
            "mustBeGreaterOrEqualTo": contract.completeness,
        }
        table["quality"] = [rule]
    found: dict[str, Any] = {
        "kind": "DataContract",
        "apiVersion": STANDARD,
        "id": f"urn:llm-platform:{contract.application}:{contract.table}",
        "name": contract.title or contract.application,
        "version": contract.version,
        "status": "active",
        "dataProduct": contract.application,
        "description": {"purpose": contract.description or contract.title},
        "schema": [table],
    }
    if contract.owner:
        found["team"] = {"name": contract.owner}
    promises = []
    if contract.freshness_hours is not None:
        promises.append(
            {
                "property": "latency",
                "value": contract.freshness_hours,
                "unit": "h",
                "element": f"{contract.table}.published_at",
                "description": "A change of the source is published within that time.",
            }
        )
    if contract.completeness is not None:
        promises.append({"property": "completeness", "value": contract.completeness, "element": contract.table})
    if promises:
        found["slaProperties"] = promises
    return found


def _odcs_property(column: Column, contract: Contract) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": column.name,
        "logicalType": _LOGICAL_TYPES.get(column.type, column.type),
        "physicalType": column.sql_type,
        "description": column.said or column.name,
        "required": column.name in NEVER_NULL,
    }
    if column.name == contract.key:
        found |= {"primaryKey": True, "primaryKeyPosition": 1, "unique": True}
    if column.type == "list":
        found["items"] = {"logicalType": "string"}
    if column.max_length is not None:
        found["logicalTypeOptions"] = {"maxLength": column.max_length}
    if column.deprecated:
        found["deprecated"] = True
    if column.values:
        found["enum"] = [{"value": value} for value in column.values]
    custom: list[dict[str, Any]] = []
    if column.answered:
        custom.append({"property": "neverNullBesideAValidAnswer", "value": True})
    if column.mask is not None:
        custom.append({"property": "mask", "value": column.mask})
    if custom:
        found["customProperties"] = custom
    return found
