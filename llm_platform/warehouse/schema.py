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
        ("cut_tokens", pa.int64()),
        ("parts", pa.int32()),
        ("said", pa.string()),
    ]
)
"""Rows that `completions.append_table` takes; the fields of `records.Completion`, `label_logprobs` as JSON."""

MADE_OF_SCHEMA = pa.schema(
    [
        ("release_id", pa.string()),
        ("fingerprint", pa.string()),
        ("position", pa.int64()),
        ("of_release_id", pa.string()),
        ("of_fingerprint", pa.string()),
    ]
)
"""Of a document that was asked about in parts: the keys of the answers that its own rests on, in order."""

REFERENCES_SCHEMA = pa.schema(
    [("document_id", pa.string()), ("answer", pa.string()), ("split", pa.string()), ("provenance", pa.string())]
)
"""Rows that `references.replace` takes; `provenance` is `table`, or the basis of a verdict."""

ANNOTATIONS_SCHEMA = pa.schema(
    [
        ("annotation_id", pa.string()),
        ("group_id", pa.string()),
        ("kind", pa.string()),
        ("subject_kind", pa.string()),
        ("subject_id", pa.string()),
        ("document_id", pa.string()),
        ("fingerprint", pa.string()),
        ("release_id", pa.string()),
        ("verdict", pa.string()),
        ("judged", pa.string()),
        ("answer", pa.string()),
        ("body", pa.string()),
        ("queue", pa.string()),
        ("blind", pa.bool_()),
        ("role", pa.string()),
        ("by", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("undoes", pa.string()),
    ]
)
"""Rows that `annotations.append` stores; the fields of `records.Annotation`."""

EXAMPLE_POOLS_SCHEMA = pa.schema(
    [
        ("pool", pa.string()),
        ("document_id", pa.string()),
        ("fingerprint", pa.string()),
        ("text", pa.string()),
        ("attributes", pa.string()),
        ("answer", pa.string()),
        ("preferred", pa.bool_()),
    ]
)
"""Rows that `pools.put` stores; the fields of `records.PoolExample`, `attributes` as JSON."""

TRIALS_SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("release_id", pa.string()),
        ("prompt_name", pa.string()),
        ("prompt_version", pa.string()),
        ("against", pa.string()),
        ("split", pa.string()),
        ("documents", pa.int64()),
        ("sent", pa.int64()),
        ("score", pa.float64()),
        ("difference", pa.float64()),
        ("p_value", pa.float64()),
        ("by", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)
"""Rows that `trials.append` stores; the fields of `records.Trial`."""

ENDPOINT_METRICS_SCHEMA = pa.schema(
    [
        ("entry", pa.string()),
        ("base_url", pa.string()),
        ("scraped_at", pa.timestamp("us", tz="UTC")),
        ("healthy", pa.bool_()),
        ("reason", pa.string()),
        ("latency_seconds", pa.float64()),
        *((name, pa.float64()) for name in ("running", "waiting", "max_running", "kv_cache_usage", "preemptions")),
        *((name, pa.float64()) for name in ("prompt_tokens", "generation_tokens", "requests", "failed")),
        *((name, pa.float64()) for name in ("prefix_cache_queries", "prefix_cache_hits", "prefix_cache_hit_rate")),
        *((name, pa.string()) for name in ("time_to_first_token", "inter_token", "end_to_end", "queue_time")),
        *((name, pa.string()) for name in ("finished", "adapters_running", "adapters_waiting")),
        ("max_adapters", pa.int64()),
    ]
)
"""Rows that `endpoint_metrics.append` stores: the fields of `nim.metrics.EndpointMetrics`, those of text as JSON."""

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
    "annotations": sql_columns(ANNOTATIONS_SCHEMA),
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
    "completions": sql_columns(COMPLETIONS_SCHEMA),
    "made_of": sql_columns(MADE_OF_SCHEMA),
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
    "example_pools": {**sql_columns(EXAMPLE_POOLS_SCHEMA), "frozen_at": "TIMESTAMPTZ"},
    "trials": sql_columns(TRIALS_SCHEMA),
    "judge_agreements": {
        "judge": "VARCHAR",
        "release_id": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "calls": {
        "call_id": "VARCHAR",
        "started_at": "TIMESTAMPTZ",
        "latency_seconds": "DOUBLE",
        "caller": "VARCHAR",
        "user": "VARCHAR",
        "run_id": "VARCHAR",
        "entry": "VARCHAR",
        "model": "VARCHAR",
        "endpoint": "VARCHAR",
        "path": "VARCHAR",
        "request": "VARCHAR",
        "status": "INTEGER",
        "answer": "VARCHAR",
        "response": "VARCHAR",
        "streamed": "BOOLEAN",
        "complete": "BOOLEAN",
        "error": "VARCHAR",
        "finish_reason": "VARCHAR",
        "prompt_tokens": "BIGINT",
        "completion_tokens": "BIGINT",
        "cached_tokens": "BIGINT",
        "attempt": "INTEGER",
        "git_commit": "VARCHAR",
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
        "presumed_tokens": "BIGINT",
        "waited_seconds": "DOUBLE",
        "concurrency": "BIGINT",
        "endpoints": "VARCHAR",
        "latency_p50_seconds": "DOUBLE",
        "latency_p95_seconds": "DOUBLE",
        "latency_p99_seconds": "DOUBLE",
        "limits": "VARCHAR",
        "idle_share": "DOUBLE",
        "causes": "VARCHAR",
        "git_commit": "VARCHAR",
    },
    "training_sets": {
        "content_hash": "VARCHAR",
        "name": "VARCHAR",
        "rules_hash": "VARCHAR",
        "data": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "training_examples": {
        "content_hash": "VARCHAR",
        "position": "BIGINT",
        "document_id": "VARCHAR",
        "part": "VARCHAR",
        "example": "VARCHAR",
    },
    "adapters": {
        "adapter_id": "VARCHAR",
        "name": "VARCHAR",
        "inputs_hash": "VARCHAR",
        "manifest": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "adapter_reports": {
        "subject": "VARCHAR",
        "kind": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
}


TABLES |= {
    "drift_reports": {
        "drift_id": "VARCHAR",
        "release_id": "VARCHAR",
        "drifted": "VARCHAR",
        "report": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "drift_flags": {
        "drift_id": "VARCHAR",
        "document_id": "VARCHAR",
        "fingerprint": "VARCHAR",
        "novelty": "DOUBLE",
    },
    "labelling": {
        "release_id": "VARCHAR",
        "fingerprint": "VARCHAR",
        "document_id": "VARCHAR",
        "probability": "DOUBLE",
        "selected": "BOOLEAN",
        "reason": "VARCHAR",
        "considered_at": "TIMESTAMPTZ",
    },
    "alerts": {
        "alert_id": "VARCHAR",
        "kind": "VARCHAR",
        "application": "VARCHAR",
        "variant": "VARCHAR",
        "state": "VARCHAR",
        "message": "VARCHAR",
        "link": "VARCHAR",
        "run_id": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
    },
    "alert_deliveries": {
        "alert_id": "VARCHAR",
        "channel": "VARCHAR",
        "delivered": "BOOLEAN",
        "error": "VARCHAR",
        "attempted_at": "TIMESTAMPTZ",
    },
    "endpoint_metrics": sql_columns(ENDPOINT_METRICS_SCHEMA),
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
