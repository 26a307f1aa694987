"""Requests to forget, kept outside the tables: what names a person must be able to go without a trace.

They are beside the leases: in a SQLite file of their own, or in a schema of Postgres. A request is there from before
the first row is removed until the last byte is, so that whoever finds one finishes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_platform.records.forgetting import ForgetRequest
from llm_platform.warehouse.coordination import Coordinator, Statements

if TYPE_CHECKING:
    from llm_platform.signing.keys import SigningKey

KEY = "forget"


class ForgetRequests:
    """Requests of one namespace that are not done."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def of(self, application: str, key: SigningKey) -> list[ForgetRequest]:
        """Those of one application, oldest first.

        Raises:
            SpecificationError: they were put with another key.
        """
        with self._coordinator.transaction(KEY) as statements:
            self._prepare(statements)
            rows = statements.run(
                f"SELECT content FROM {self._coordinator.requests} WHERE application = %s "
                "ORDER BY asked_at, request_id",
                [application],
            )
        # Of a version before this one they are JSON as it is.
        said = (row[0] if row[0].startswith("{") else key.shown(row[0]) for row in rows)
        return list(map(ForgetRequest.model_validate_json, said))

    def put(self, request: ForgetRequest, key: SigningKey) -> None:
        """Store a request, or what has become of it: hidden, since it has the texts that are to be forgotten.

        Whoever reads the catalog's database, its log or backups must not find there what was taken out elsewhere.
        """
        with self._coordinator.transaction(KEY) as statements:
            self._prepare(statements)
            statements.changed(f"DELETE FROM {self._coordinator.requests} WHERE request_id = %s", [request.request_id])
            content = key.hidden(request.model_dump_json())
            values = [request.request_id, request.application, request.asked_at.isoformat(), content]
            statements.changed(
                f"INSERT INTO {self._coordinator.requests} (request_id, application, asked_at, content) "
                "VALUES (%s, %s, %s, %s)",
                values,
            )

    def done(self, request_id: str) -> None:
        """Forget the request itself, down to the pages in which it stood."""
        with self._coordinator.transaction(KEY) as statements:
            self._prepare(statements)
            statements.changed(f"DELETE FROM {self._coordinator.requests} WHERE request_id = %s", [request_id])
        self._coordinator.erase()

    def _prepare(self, statements: Statements) -> None:
        statements.run(
            f"CREATE TABLE IF NOT EXISTS {self._coordinator.requests} (request_id TEXT PRIMARY KEY, "
            "application TEXT NOT NULL, asked_at TEXT NOT NULL, content TEXT NOT NULL)"
        )
