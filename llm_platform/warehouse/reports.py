"""`reports`: measured metrics of a release, held against gates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

COLUMNS = listed("reports")


@dataclass(frozen=True)
class StoredReport:
    """One report; `report` is its content as JSON."""

    report_id: str
    release_id: str
    variant: str
    evaluation_id: str
    passed: bool
    report: str
    created_at: datetime


class Reports:
    """Reports of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(
        self,
        *,
        report_id: str,
        release_id: str,
        variant: str,
        evaluation_id: str,
        passed: bool,
        report: str,
        created_at: datetime,
    ) -> int:
        """Store a report, unless its id is there; returns the snapshot id."""

        def body(transaction: Transaction) -> None:
            if transaction.run(f"SELECT 1 FROM {transaction.relation('reports')} WHERE report_id = ?", [report_id]):
                return
            values = [report_id, release_id, variant, evaluation_id, passed, report, created_at]
            transaction.run(
                f"INSERT INTO {transaction.target('reports')} ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", values
            )

        return self._session.write(self._application, body)[1]

    def get(self, report_id: str) -> StoredReport | None:
        """A report by its id."""
        found = self._select("report_id = ?", [report_id])
        return found[0] if found else None

    def latest(self, release_id: str, evaluation_id: str | None = None) -> StoredReport | None:
        """The newest report on exactly this release, and on one evaluation if given."""
        if evaluation_id is None:
            found = self._select("release_id = ?", [release_id])
        else:
            found = self._select("release_id = ? AND evaluation_id = ?", [release_id, evaluation_id])
        return found[0] if found else None

    def for_variant(self, variant: str) -> list[StoredReport]:
        """All reports of a variant, newest first."""
        return self._select("variant = ?", [variant])

    def table(self) -> pa.Table:
        """All reports, oldest first."""
        return self._session.table(f"SELECT {COLUMNS} FROM {self._relation()} ORDER BY created_at, report_id")

    def _select(self, where: str, parameters: list[Any]) -> list[StoredReport]:
        rows = self._session.rows(
            f"SELECT {COLUMNS} FROM {self._relation()} WHERE {where} ORDER BY created_at DESC, report_id", parameters
        )
        return [StoredReport(*row) for row in rows]

    def _relation(self) -> str:
        return self._session.relation(self._application, "reports")
