"""`inference_runs`: what each bulk run sent, stored and paid."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pyarrow as pa

from llm_platform.records import InferenceRun, TokenUsage, canonical_json
from llm_platform.records.tables import TABLES
from llm_platform.warehouse.engine import identifier
from llm_platform.warehouse.session import Session, Transaction


class Runs:
    """Bulk runs of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, run: InferenceRun) -> int:
        """Store what a run did, unless it is there; returns the snapshot id."""
        values = _values(run)
        columns = ", ".join(identifier(name) for name in values)
        marks = ", ".join("?" * len(values))

        def body(transaction: Transaction) -> None:
            key = [run.run_id, run.release_id, run.started_at]
            where = "run_id = ? AND release_id = ? AND started_at = ?"
            if not transaction.run(f"SELECT 1 FROM {transaction.relation('inference_runs')} WHERE {where}", key):
                target = transaction.target("inference_runs")
                transaction.run(f"INSERT INTO {target} ({columns}) VALUES ({marks})", list(values.values()))

        return self._session.write(self._application, body)[1]

    def of_release(self, release_id: str) -> list[InferenceRun]:
        """Runs that asked for answers of a release, oldest first."""
        relation = self._session.relation(self._application, "inference_runs")
        rows = self._session.table(
            f"SELECT * FROM {relation} WHERE release_id = ? ORDER BY started_at, run_id", [release_id]
        )
        return [_run(row) for row in rows.to_pylist()]

    def of_run(self, run_id: str) -> list[InferenceRun]:
        """What one run of the platform has sent so far, whatever for, oldest first."""
        relation = self._session.relation(self._application, "inference_runs")
        rows = self._session.table(
            f"SELECT * FROM {relation} WHERE run_id = ? ORDER BY started_at, release_id", [run_id]
        )
        return [_run(row) for row in rows.to_pylist()]

    def newest(self) -> InferenceRun | None:
        """The run that began last."""
        relation = self._session.relation(self._application, "inference_runs")
        rows = self._session.table(f"SELECT * FROM {relation} ORDER BY started_at DESC, run_id LIMIT 1").to_pylist()
        return _run(rows[0]) if rows else None

    def used_since(self, start: datetime) -> list[dict[str, Any]]:
        """What runs that began at `start` or later took, by release: seconds, and three kinds of tokens."""
        relation = self._session.relation(self._application, "inference_runs")
        rows: list[dict[str, Any]] = self._session.table(
            "SELECT release_id, sum(seconds) AS seconds, sum(prompt_tokens)::BIGINT AS prompt_tokens, "
            "sum(completion_tokens)::BIGINT AS completion_tokens, "
            f"coalesce(sum(presumed_tokens), 0)::BIGINT AS presumed_tokens FROM {relation} WHERE started_at >= ? "
            "GROUP BY release_id ORDER BY release_id",
            [start],
        ).to_pylist()
        return rows

    def table(self) -> pa.Table:
        """All runs, oldest first."""
        relation = self._session.relation(self._application, "inference_runs")
        return self._session.table(f"SELECT * FROM {relation} ORDER BY started_at, run_id")


def _values(run: InferenceRun) -> dict[str, Any]:
    flat = {**run.model_dump(exclude={"usage"}), **run.usage.model_dump()}
    flat["endpoints"] = canonical_json(list(run.endpoints))
    flat["causes"], flat["limits"] = canonical_json(run.causes), canonical_json(run.limits)
    return {name: flat[name] for name in TABLES["inference_runs"]}


def _run(row: dict[str, Any]) -> InferenceRun:
    # Runs of older versions say nothing of some tokens, and of their limits.
    usage = TokenUsage(**{name: row.pop(name) or 0 for name in TokenUsage.model_fields})
    parsed = {name: json.loads(row.pop(name) or "{}") for name in ("endpoints", "causes", "limits")}
    return InferenceRun.model_validate({**row, **parsed, "usage": usage})
