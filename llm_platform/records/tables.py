"""The columns of every table, once; Arrow schemas and lists of columns are made of them.

Where a row is a record, its columns are the record's fields: a field that is added is a column of the next write.
"""

from __future__ import annotations

import types
from collections.abc import Collection
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal, Union, get_args, get_origin

import pyarrow as pa

from llm_platform.records.base import Record
from llm_platform.records.completions import Call, Completion, InferenceRun, TokenUsage
from llm_platform.records.contracts import STANDARD_COLUMNS, text_contract
from llm_platform.records.documents import OnlineDocument
from llm_platform.records.evaluation import RolloutEvent, Score, Trial
from llm_platform.records.forgetting import Bar
from llm_platform.records.releases import PoolExample
from llm_platform.records.review import Annotation
from llm_platform.records.rollout import RolloutStep

_SQL_TYPES = {str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", datetime: "TIMESTAMPTZ"}
_ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
}


def columns_of_record(record: type[Record]) -> dict[str, str]:
    """Column → SQL type of a record's fields: token counts each by itself, all that is no single value as JSON."""
    found: dict[str, str] = {}
    for name, field in record.model_fields.items():
        if field.annotation is TokenUsage:
            found |= columns_of_record(TokenUsage)
        else:
            found[name] = _sql_type(field.annotation)
    return found


def _sql_type(annotation: object) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not types.NoneType)
        return _sql_type(annotation)
    if get_origin(annotation) is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return "VARCHAR"
    return _SQL_TYPES.get(annotation, "VARCHAR") if isinstance(annotation, type) else "VARCHAR"


PUBLISHED = {one.name: one.sql_type for one in text_contract(1).columns}
"""Columns of `published_v1` where an answer is one text; the fields of an extraction have a column each instead."""

TO_EVERY_READER = {one.name: one.sql_type for one in STANDARD_COLUMNS}
"""Columns of every published table."""

TABLES: dict[str, dict[str, str]] = {
    "documents": {
        "document_id": "VARCHAR",
        "fingerprint": "VARCHAR",
        "text": "VARCHAR",
        "attributes": "VARCHAR",
        "bucket": "INTEGER",
        "status": "VARCHAR",
        "reason": "VARCHAR",
        "updated_at": "TIMESTAMPTZ",
        "origin": "VARCHAR",
        "withheld": "VARCHAR",
    },
    "online_documents": columns_of_record(OnlineDocument),
    "documents_consumed": {"state": "VARCHAR", "consumed_at": "TIMESTAMPTZ"},
    "references": {"document_id": "VARCHAR", "answer": "VARCHAR", "split": "VARCHAR", "provenance": "VARCHAR"},
    "annotations": columns_of_record(Annotation),
    "prompts": {"version": "VARCHAR", "name": "VARCHAR", "content": "VARCHAR", "created_at": "TIMESTAMPTZ"},
    "releases": {
        "release_id": "VARCHAR",
        "request_id": "VARCHAR",
        "prompt_version": "VARCHAR",
        "model_entry": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
    },
    "models": {
        "entry": "VARCHAR",
        "observed": "VARCHAR",
        "identity_hash": "VARCHAR",
        "lock_hash": "VARCHAR",
        "matches": "BOOLEAN",
        "mismatches": "VARCHAR",
        "observed_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
    },
    "completions": columns_of_record(Completion) | {"attempts": "INTEGER", "parts": "INTEGER"},
    "retried_completions": columns_of_record(Completion)
    | {"attempts": "INTEGER", "parts": "INTEGER", "retried_at": "TIMESTAMPTZ"},
    "made_of": {
        "release_id": "VARCHAR",
        "fingerprint": "VARCHAR",
        "position": "BIGINT",
        "of_release_id": "VARCHAR",
        "of_fingerprint": "VARCHAR",
        "begins": "BIGINT",
    },
    "scores": {**columns_of_record(Score), "created_at": "TIMESTAMPTZ"},
    "reports": {
        "report_id": "VARCHAR",
        "release_id": "VARCHAR",
        "variant": "VARCHAR",
        "evaluation_id": "VARCHAR",
        "measured_on": "VARCHAR",
        "passed": "BOOLEAN",
        "report": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
    },
    "tallies": {
        "name": "VARCHAR",
        "snapshot": "BIGINT",
        "upstream_snapshot": "BIGINT",
        "content": "VARCHAR",
        "counted_at": "TIMESTAMPTZ",
    },
    "rollout": {"sequence": "BIGINT", **columns_of_record(RolloutEvent)},
    "rollout_steps": {"sequence": "BIGINT", **columns_of_record(RolloutStep)},
    "contracts": {
        "contract": "BIGINT",
        "version": "VARCHAR",
        "content_id": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
    },
    "example_pools": {"pool": "VARCHAR", **columns_of_record(PoolExample), "frozen_at": "TIMESTAMPTZ"},
    "trials": columns_of_record(Trial),
    "judge_agreements": {
        "judge": "VARCHAR",
        "release_id": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
    },
    "calls": columns_of_record(Call) | {"status": "INTEGER", "attempt": "INTEGER"},
    "inference_runs": columns_of_record(InferenceRun),
    "training_sets": {
        "content_hash": "VARCHAR",
        "name": "VARCHAR",
        "rules_hash": "VARCHAR",
        "data": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
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
        "sequence": "BIGINT",
    },
    "adapter_reports": {
        "subject": "VARCHAR",
        "kind": "VARCHAR",
        "content": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
    },
    "drift_reports": {
        "drift_id": "VARCHAR",
        "release_id": "VARCHAR",
        "drifted": "VARCHAR",
        "report": "VARCHAR",
        "created_at": "TIMESTAMPTZ",
        "sequence": "BIGINT",
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
        "sequence": "BIGINT",
    },
    "alert_deliveries": {
        "alert_id": "VARCHAR",
        "channel": "VARCHAR",
        "delivered": "BOOLEAN",
        "error": "VARCHAR",
        "attempted_at": "TIMESTAMPTZ",
    },
    "reads": {
        "at": "TIMESTAMPTZ",
        "by": "VARCHAR",
        "way": "VARCHAR",
        "rows": "BIGINT",
        "subject": "VARCHAR",
    },
    "notices": {"at": "TIMESTAMPTZ", "by": "VARCHAR", "way": "VARCHAR", "sequence": "BIGINT"},
    "departed": {"document_id": "VARCHAR", "left_at": "TIMESTAMPTZ"},
    "forgotten": {"subject": "VARCHAR", "key_id": "VARCHAR", "request_id": "VARCHAR", "at": "TIMESTAMPTZ"},
    "bars": columns_of_record(Bar),
    "certificates": {
        "request_id": "VARCHAR",
        "by": "VARCHAR",
        "at": "TIMESTAMPTZ",
        "documents": "BIGINT",
        "envelope": "VARCHAR",
    },
    "endpoint_metrics": {
        "entry": "VARCHAR",
        "base_url": "VARCHAR",
        "scraped_at": "TIMESTAMPTZ",
        "healthy": "BOOLEAN",
        "reason": "VARCHAR",
        "latency_seconds": "DOUBLE",
        **dict.fromkeys(("running", "waiting", "max_running", "kv_cache_usage", "preemptions"), "DOUBLE"),
        **dict.fromkeys(("prompt_tokens", "generation_tokens", "requests", "failed"), "DOUBLE"),
        **dict.fromkeys(("prefix_cache_queries", "prefix_cache_hits", "prefix_cache_hit_rate"), "DOUBLE"),
        **dict.fromkeys(("time_to_first_token", "inter_token", "end_to_end", "queue_time"), "VARCHAR"),
        **dict.fromkeys(("finished", "adapters_running", "adapters_waiting"), "VARCHAR"),
        "max_adapters": "BIGINT",
    },
}


def arrow_schema(table: str, *, without: Collection[str] = ()) -> pa.Schema:
    """The Arrow schema of a table, but for the columns that the store sets itself."""
    return pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in TABLES[table].items() if name not in without])


DOCUMENTS_SCHEMA = arrow_schema("documents", without=["updated_at", "origin"])
"""Rows that `documents.apply` takes; `attributes` is a JSON object."""

REFERENCES_SCHEMA = arrow_schema("references")
"""Rows that `references.replace` takes; `provenance` is `table`, or the basis of a verdict."""

COMPLETIONS_SCHEMA = arrow_schema("completions")
"""Rows that `completions.append_table` takes; `label_logprobs` is JSON."""

MADE_OF_SCHEMA = arrow_schema("made_of")
"""Of a document that was asked about in parts: the keys of the answers that its own rests on, in order."""

ENDPOINT_METRICS_SCHEMA = arrow_schema("endpoint_metrics")
"""Rows that `endpoint_metrics.append` stores: the fields of `nim.metrics.EndpointMetrics`, those of text as JSON."""

LABELLING_SCHEMA = arrow_schema("labelling")
"""Rows that `drift.consider` takes: every live text once, drawn or not, with the probability of being drawn."""

FLAGS_SCHEMA = arrow_schema("drift_flags", without=["drift_id"])
"""Documents that a look at drift has flagged."""
