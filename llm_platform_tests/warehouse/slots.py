"""A table in Postgres with a logical replication slot, as its owner sets it up."""

from __future__ import annotations

import uuid
from contextlib import closing
from typing import Any

import psycopg2

from llm_platform.application.source import Source
from llm_platform.records import SourceState
from llm_platform.warehouse.changes import SourceChanges
from llm_platform.warehouse.engine import connect
from llm_platform.warehouse.sources import SourceReader


class Desk:
    """`"Desk".Tickets_…`, followed by a slot of its own."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.slot = dsn, f"slot_{uuid.uuid4().hex[:8]}"
        self.table = f"Tickets_{self.slot}"
        self.name = f'"Desk"."{self.table}"'
        self.run(
            'CREATE SCHEMA IF NOT EXISTS "Desk"',
            f'CREATE TABLE {self.name} ("Ticket Id" int PRIMARY KEY, "Body" text, team text)',
            f"CREATE PUBLICATION {self.slot} FOR TABLE {self.name}",
            f"SELECT pg_create_logical_replication_slot('{self.slot}', 'pgoutput')",
            f"INSERT INTO {self.name} VALUES (1, 'one', 'red'), (2, 'two', 'red'), (3, 'three', 'red')",
        )
        self.reader = SourceReader(connect(1), {"crm": f"postgres:{dsn}"})

    @property
    def values(self) -> dict[str, Any]:
        """What `application.yaml` says of it."""
        place = {"warehouse": "crm", "table": f"Desk.{self.table}", "slot": self.slot, "publication": self.slot}
        return {**place, "key": "Ticket Id", "text": "Body", "attributes": ["team"]}

    @property
    def source(self) -> Source:
        return Source.model_validate(self.values)

    @property
    def acknowledged(self) -> str:
        """How far the server was told that changes are stored."""
        slot = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = "
        return str(self.run(f"{slot}'{self.slot}'")[0][0])

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as its owner, each in a transaction of its own; returns the rows of the last."""
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def read(self, since: SourceState | None) -> tuple[SourceChanges, dict[str, str | None]]:
        """What has changed, and the texts that were read, by key."""
        changes = self.reader.changes(self.source, since)
        rows = [row for part in changes.rows for row in part.to_pylist()]
        return changes, {row["Ticket Id"]: row["Body"] for row in rows}

    def taken(self) -> SourceState:
        """Read everything, and acknowledge it."""
        changes, _ = self.read(None)
        self.reader.acknowledge(self.source, changes.state)
        return changes.state

    def remove(self) -> None:
        self.run(
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{self.slot}'",
            f"DROP PUBLICATION IF EXISTS {self.slot}",
            f"DROP TABLE IF EXISTS {self.name}",
        )
