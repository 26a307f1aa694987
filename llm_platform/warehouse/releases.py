"""`releases`: every release whose answers were asked for."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from llm_platform.records import Release, canonical_json
from llm_platform.warehouse.schema import OLDEST_FIRST
from llm_platform.warehouse.session import UPSTREAM, Session, Transaction


class Releases:
    """Releases of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def put(self, release: Release, *, at: datetime | None = None) -> int:
        """Store a release under its id, unless it is there; returns the snapshot id."""

        def body(transaction: Transaction) -> None:
            if transaction.run(
                f"SELECT 1 FROM {transaction.relation('releases')} WHERE release_id = ?", [release.release_id]
            ):
                return
            values = [release.release_id, release.request_id, release.prompt.version, release.model.entry]
            content = canonical_json(release.model_dump(mode="json"))
            sequence = transaction.next_sequence("releases")
            transaction.run(
                f"INSERT INTO {transaction.target('releases')} "
                '(release_id, request_id, prompt_version, model_entry, content, created_at, "sequence") '
                "VALUES (?, ?, ?, ?, ?, coalesce(?, now()), ?)",
                [*values, content, at, sequence],
            )

        return self._session.write(self._application, body)[1]

    def get(self, release_id: str) -> Release | None:
        """A release by its id: ours, else the upstream's."""
        for catalog in ("lake", UPSTREAM):
            relation = self._session.relation(self._application, "releases", catalog=catalog)
            found = self._session.value(f"SELECT content FROM {relation} WHERE release_id = ?", [release_id])
            if found is not None:
                return Release.model_validate_json(found)
        return None

    def stored_at(self, release_id: str) -> datetime | None:
        """When a release was first stored here; None before."""
        relation = self._session.relation(self._application, "releases")
        found: datetime | None = self._session.value(
            f"SELECT min(created_at) FROM {relation} WHERE release_id = ?", [release_id]
        )
        return found

    def ids(self) -> list[str]:
        """Ids of all releases of ours, oldest first."""
        relation = self._session.relation(self._application, "releases")
        return [row[0] for row in self._session.rows(f"SELECT release_id FROM {relation} ORDER BY {OLDEST_FIRST}, 1")]

    def table(self) -> pa.Table:
        """All releases, oldest first."""
        relation = self._session.relation(self._application, "releases")
        return self._session.table(f"SELECT * FROM {relation} ORDER BY {OLDEST_FIRST}, release_id")
