"""`reports`: measured metrics of a release, held against gates. Append-only: what was measured last is what counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from llm_platform.warehouse.schema import NEWEST_FIRST, OLDEST_FIRST, listed
from llm_platform.warehouse.session import Session, Transaction

COLUMNS = listed("reports", without=["sequence"])


@dataclass(frozen=True)
class StoredReport:
    """One report.

    Attributes:
        measured_on: Version of the documents, answers and grades that it was measured on; None for a report of before
            there was one, which is evidence of nothing present.
        report: Its content as JSON.
    """

    report_id: str
    release_id: str
    variant: str
    evaluation_id: str
    measured_on: str | None
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
        measured_on: str | None,
        passed: bool,
        report: str,
        created_at: datetime,
    ) -> int:
        """Store a report, unless the release's newest one is the same; returns the snapshot id.

        One that says what an earlier one said is stored again where another came in between: the newest counts.
        """

        def body(transaction: Transaction) -> None:
            newest = transaction.run(
                f"SELECT report_id FROM {transaction.relation('reports')} WHERE release_id = ? "
                f"ORDER BY {NEWEST_FIRST} LIMIT 1",
                [release_id],
            )
            if newest == [(report_id,)]:
                return
            sequence = transaction.next_sequence("reports")
            values = [report_id, release_id, variant, evaluation_id, measured_on, passed, report, created_at, sequence]
            marks = ", ".join("?" * len(values))
            transaction.run(
                f'INSERT INTO {transaction.target("reports")} ({COLUMNS}, "sequence") VALUES ({marks})', values
            )

        return self._session.write(self._application, body)[1]

    def get(self, report_id: str) -> StoredReport | None:
        """A report by its id."""
        found = self._select("report_id = ?", [report_id])
        return found[0] if found else None

    def latest(self, release_id: str) -> StoredReport | None:
        """What was measured last of exactly this release, on whatever documents and answers there were then."""
        found = self._select("release_id = ?", [release_id])
        return found[0] if found else None

    def present(self, release_id: str, *, evaluation_id: str, measured_on: str) -> StoredReport | None:
        """What was measured last of this release on exactly these documents, answers, grades and gates."""
        found = self._select(
            "release_id = ? AND evaluation_id = ? AND measured_on = ?", [release_id, evaluation_id, measured_on]
        )
        return found[0] if found else None

    def for_variant(self, variant: str) -> list[StoredReport]:
        """All reports of a variant, newest first."""
        return self._select("variant = ?", [variant])

    def table(self) -> pa.Table:
        """All reports, oldest first."""
        return self._session.table(f"SELECT {COLUMNS} FROM {self._relation()} ORDER BY {OLDEST_FIRST}, report_id")

    def _select(self, where: str, parameters: list[Any]) -> list[StoredReport]:
        rows = self._session.rows(
            f"SELECT {COLUMNS} FROM {self._relation()} WHERE {where} ORDER BY {NEWEST_FIRST}, report_id", parameters
        )
        return [StoredReport(*row) for row in rows]

    def _relation(self) -> str:
        return self._session.relation(self._application, "reports")
