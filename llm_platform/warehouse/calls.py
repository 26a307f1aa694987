"""`calls`: requests that people's and teams' own code sent, of all applications; in the schema `platform`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from llm_platform.records import Call, canonical_json
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import Session, Transaction

SCHEMA = "platform"
LISTED = listed("calls")


class Calls:
    """Calls of one namespace."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, calls: Sequence[Call]) -> int:
        """Store calls, each id once; returns the snapshot id."""
        rows = {call.call_id: _values(call) for call in calls}
        given = pa.Table.from_pylist(list(rows.values()), schema=arrow_schema("calls"))

        def body(transaction: Transaction) -> None:
            stored = transaction.relation("calls")
            transaction.run(
                f"CREATE OR REPLACE TEMP TABLE new AS SELECT * FROM given ANTI JOIN {stored} USING (call_id)"
            )
            if transaction.count("SELECT count(*) FROM new"):
                target = transaction.target("calls")
                transaction.run(f"INSERT INTO {target} ({LISTED}) SELECT {LISTED} FROM new")

        with self._session.cursor("store calls in") as cursor:
            cursor.register("given", given)
            return self._session.write(SCHEMA, body, cursor=cursor)[1]

    def table(self, *, at_snapshot: int | None = None) -> pa.Table:
        """All calls, oldest first, now or as of a snapshot."""
        relation = self._session.relation(SCHEMA, "calls", at_snapshot=at_snapshot)
        return self._session.table(f"SELECT * FROM {relation} ORDER BY started_at, call_id")


def _values(call: Call) -> dict[str, Any]:
    flat = {**call.model_dump(exclude={"usage", "model"}), **call.usage.model_dump()}
    flat["model"] = canonical_json(call.model.model_dump(mode="json"))
    return flat
