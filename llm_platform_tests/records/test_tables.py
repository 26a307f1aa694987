"""Columns of tables are those of records; what they once were called and are made of, they stay."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from llm_platform.inference.outbox import CompletionFields
from llm_platform.nim.metrics import EndpointMetrics
from llm_platform.records import Completion, CompletionStatus
from llm_platform.records.base import Record
from llm_platform.records.completions import TokenUsage
from llm_platform.records.tables import TABLES, arrow_schema, columns_of_record


def test_a_field_of_a_record_is_a_column() -> None:
    """One place to add a field to: a column that was forgotten would drop what it was to hold, without a word."""

    class Row(Record):
        name: str
        kind: Literal["a", "b"] | None = None
        status: CompletionStatus
        count: int | None = None
        share: float
        sure: bool
        at: datetime
        usage: TokenUsage
        causes: dict[str, int]
        urls: tuple[str, ...] = ()

    assert columns_of_record(Row) == {
        "name": "VARCHAR",
        "kind": "VARCHAR",
        "status": "VARCHAR",
        "count": "BIGINT",
        "share": "DOUBLE",
        "sure": "BOOLEAN",
        "at": "TIMESTAMPTZ",
        **dict.fromkeys(TokenUsage.model_fields, "BIGINT"),
        "causes": "VARCHAR",
        "urls": "VARCHAR",
    }


def test_every_table_has_an_arrow_schema_with_its_columns() -> None:
    """Rows come in bulk as Arrow; a type that has none would be found at the first write."""
    for table, columns in TABLES.items():
        assert arrow_schema(table).names == list(columns)


def test_every_number_of_an_endpoint_has_a_column() -> None:
    """The stage that reads metrics and the table that keeps them are in two places."""
    assert set(EndpointMetrics.model_fields) <= set(TABLES["endpoint_metrics"])


def test_what_a_bulk_run_writes_without_a_record_has_the_fields_of_one() -> None:
    """The outbox writes lines by hand, since records cost too much there; a field it lacked would be NULL for ever."""
    assert CompletionFields.__annotations__.keys() == Completion.model_fields.keys()


def test_columns_of_the_ledger_are_those_of_stored_lakes() -> None:
    """A field that is renamed reads as NULL in every lake there is; whoever means to has to change this, too."""
    assert list(TABLES["completions"].items())[:6] == [
        ("release_id", "VARCHAR"),
        ("request_id", "VARCHAR"),
        ("fingerprint", "VARCHAR"),
        ("document_id", "VARCHAR"),
        ("status", "VARCHAR"),
        ("answer", "VARCHAR"),
    ]
    assert (TABLES["completions"]["attempts"], TABLES["completions"]["parts"]) == ("INTEGER", "INTEGER")
    assert {"prompt_tokens", "cut_tokens", "latency_seconds", "created_at"} <= set(TABLES["completions"])
