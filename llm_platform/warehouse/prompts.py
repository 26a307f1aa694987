"""`prompts`: every version of every prompt that was used."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from llm_platform.records import Prompt, canonical_json
from llm_platform.warehouse.session import Session, Transaction


class Prompts:
    """Prompts of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def put(self, prompt: Prompt, *, at: datetime | None = None) -> int:
        """Store a prompt under its version, unless it is there; returns the snapshot id."""

        def body(transaction: Transaction) -> None:
            key = [prompt.version, prompt.name]
            stored = transaction.relation("prompts")
            if transaction.run(f"SELECT 1 FROM {stored} WHERE version = ? AND name = ?", key):
                return
            content = canonical_json(prompt.model_dump(mode="json"))
            target = transaction.target("prompts")
            transaction.run(f"INSERT INTO {target} VALUES (?, ?, ?, coalesce(?, now()))", [*key, content, at])

        return self._session.write(self._application, body)[1]

    def get(self, version: str) -> Prompt | None:
        """The prompt with a version."""
        sql = f"SELECT content FROM {self._relation()} WHERE version = ? ORDER BY name LIMIT 1"
        found = self._session.value(sql, [version])
        return None if found is None else Prompt.model_validate_json(found)

    def table(self) -> pa.Table:
        """All versions, oldest first."""
        return self._session.table(f"SELECT * FROM {self._relation()} ORDER BY created_at, version, name")

    def _relation(self) -> str:
        return self._session.relation(self._application, "prompts")
