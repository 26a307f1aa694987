"""Tables of one application and their columns, as SQL types; and the same as Arrow schemas where rows come in bulk."""

from __future__ import annotations

import pyarrow as pa

DOCUMENTS_SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("fingerprint", pa.string()),
        ("text", pa.string()),
        ("attributes", pa.string()),
        ("bucket", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Rows that `documents.apply` takes; `attributes` is a JSON object, `updated_at` is set by the store."""

COMPLETIONS_SCHEMA = pa.schema(
    [
        ("release_id", pa.string()),
        ("request_id", pa.string()),
        ("fingerprint", pa.string()),
        ("document_id", pa.string()),
        ("status", pa.string()),
        ("answer", pa.string()),
        ("confidence", pa.float64()),
        ("label_logprobs", pa.string()),
        ("raw", pa.string()),
        ("reason", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("latency_seconds", pa.float64()),
        ("attempts", pa.int32()),
        ("endpoint", pa.string()),
        ("run_id", pa.string()),
        ("documents_snapshot", pa.int64()),
        ("reused", pa.bool_()),
        ("created_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Rows that `completions.append_table` takes; the fields of `records.Completion`, `label_logprobs` as JSON."""

REFERENCES_SCHEMA = pa.schema([("document_id", pa.string()), ("answer", pa.string()), ("split", pa.string())])
"""Rows that `references.replace` takes."""

SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}


def sql_columns(schema: pa.Schema) -> dict[str, str]:
    """Column → SQL type of an Arrow schema."""
    return {field.name: SQL_TYPES[field.type] for field in schema}


PUBLISHED = {
    "document_id": "VARCHAR",
    "answer": "VARCHAR",
    "confidence": "DOUBLE",
    "release_id": "VARCHAR",
    "status": "VARCHAR",
    "reason": "VARCHAR",
    "fingerprint": "VARCHAR",
    "source_snapshot": "BIGINT",
    "documents_snapshot": "BIGINT",
    "published_at": "TIMESTAMPTZ",
}
"""Columns of `published_v1`: the contract with readers. A change that breaks a reader needs another contract number."""

TABLES: dict[str, dict[str, str]] = {
    "documents": {**sql_columns(DOCUMENTS_SCHEMA), "updated_at": "TIMESTAMPTZ"},
    "documents_consumed": {"state": "VARCHAR", "consumed_at": "TIMESTAMPTZ"},
    "references": sql_columns(REFERENCES_SCHEMA),
    "prompts": {"version": "VARCHAR", "name": "VARCHAR", "content": "VARCHAR", "created_at": "TIMESTAMPTZ"},
    "releases": {
        "release_id": "VARCHAR",
        "request_id": "VARCHAR",
        "prompt_version": "VARCHAR",
        "model_entry": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "models": {
        "entry": "VARCHAR",
        "observed": "VARCHAR",
        "identity_hash": "VARCHAR",
        "lock_hash": "VARCHAR",
        "matches": "BOOLEAN",
        "mismatches": "VARCHAR",
        "observed_at": "TIMESTAMPTZ",
    },
    "completions": {**sql_columns(COMPLETIONS_SCHEMA), "bucket": "INTEGER"},
    "scores": {
        "release_id": "VARCHAR",
        "fingerprint": "VARCHAR",
        "document_id": "VARCHAR",
        "scorer": "VARCHAR",
        "score": "DOUBLE",
        "reason": "VARCHAR",
        "references_version": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "reports": {
        "report_id": "VARCHAR",
        "release_id": "VARCHAR",
        "variant": "VARCHAR",
        "evaluation_id": "VARCHAR",
        "passed": "BOOLEAN",
        "report": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "rollout": {
        "sequence": "BIGINT",
        "event_id": "VARCHAR",
        "application": "VARCHAR",
        "action": "VARCHAR",
        "variant": "VARCHAR",
        "release_id": "VARCHAR",
        "report_id": "VARCHAR",
        "evaluation_id": "VARCHAR",
        "by": "VARCHAR",
        "at": "TIMESTAMPTZ",
        "evidence": "VARCHAR",
        "note": "VARCHAR",
    },
    "inference_runs": {
        "run_id": "VARCHAR",
        "release_id": "VARCHAR",
        "started_at": "TIMESTAMPTZ",
        "seconds": "DOUBLE",
        "sent": "BIGINT",
        "stored": "BIGINT",
        "reused": "BIGINT",
        "failed": "BIGINT",
        "retries": "BIGINT",
        "prompt_tokens": "BIGINT",
        "completion_tokens": "BIGINT",
        "cached_tokens": "BIGINT",
        "wasted_tokens": "BIGINT",
        "concurrency": "BIGINT",
        "endpoints": "VARCHAR",
        "latency_p50_seconds": "DOUBLE",
        "latency_p95_seconds": "DOUBLE",
        "latency_p99_seconds": "DOUBLE",
        "causes": "VARCHAR",
        "git_commit": "VARCHAR",
    },
}


def published_table(contract: int) -> str:
    """Name of the published table of one contract version."""
    return f"published_v{contract:d}"


def columns_of(table: str) -> dict[str, str] | None:
    """Column → SQL type of a table of ours; None for a name that is not ours."""
    if table.startswith("published_v") and table.removeprefix("published_v").isdigit():
        return PUBLISHED
    return TABLES.get(table)


def empty_relation(columns: dict[str, str]) -> str:
    """A SELECT with these columns and no rows, for a table that nobody has written yet."""
    selected = ", ".join(f'NULL::{sql_type} AS "{name}"' for name, sql_type in columns.items())
    return f"(SELECT {selected} WHERE false)"
