"""`example_pools`: known answers that were frozen as few-shot examples, by the hash of their content."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from llm_platform.records import PoolExample, canonical_json
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

SCHEMA = arrow_schema("example_pools", without=["frozen_at"])
LISTED = listed("example_pools", without=["frozen_at"])


class Pools:
    """Frozen pools of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def put(self, pool: str, examples: Sequence[PoolExample]) -> int:
        """Store a pool under its hash, unless it is there; returns the snapshot id."""
        rows = [
            {**example.model_dump(), "pool": pool, "attributes": canonical_json(example.attributes)}
            for example in examples
        ]
        given = pa.Table.from_pylist(rows, schema=SCHEMA)

        def body(transaction: Transaction) -> None:
            stored = transaction.relation("example_pools")
            if not transaction.run(f"SELECT 1 FROM {stored} WHERE pool = ? LIMIT 1", [pool]):
                target = transaction.target("example_pools")
                transaction.run(f"INSERT INTO {target} ({LISTED}, frozen_at) SELECT {LISTED}, now() FROM given")

        with self._session.cursor("write a pool of examples to") as cursor:
            cursor.register("given", given)
            return self._session.write(self._application, body, cursor=cursor)[1]

    def get(self, pool: str) -> tuple[PoolExample, ...] | None:
        """The rows of a pool, by document: ours, else the upstream's; None where nobody has frozen it."""
        for catalog in (LAKE, UPSTREAM):
            relation = self._session.relation(self._application, "example_pools", catalog=catalog)
            rows = self._session.rows(f"SELECT {LISTED} FROM {relation} WHERE pool = ? ORDER BY document_id", [pool])
            if rows:
                return tuple(_example(dict(zip(SCHEMA.names, row, strict=True))) for row in rows)
        return None


def _example(row: dict[str, str]) -> PoolExample:
    return PoolExample.model_validate(
        {name: json.loads(value) if name == "attributes" else value for name, value in row.items() if name != "pool"}
    )
