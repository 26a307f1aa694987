"""Tables of tickets as their owners write them: in a DuckLake, and in a Postgres with a watermark or a slot."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pyarrow as pa

from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.sample_source import write_table
from llm_platform.warehouse.source_urls import parse_source_url

Texts = Mapping[str, str]


class LakeTable:
    """`tickets` in a DuckLake on a SQLite catalog."""

    name = "tickets"

    def __init__(self, folder: Path) -> None:
        self.catalog = folder / "catalog.sqlite"
        self.url = f"ducklake:sqlite:{self.catalog}?data_path={folder / 'data'}"

    @property
    def source(self) -> dict[str, Any]:
        return {"warehouse": "desk", "table": self.name, "key": "ticket", "text": "body", "attributes": ["team"]}

    def write(self, texts: Texts) -> None:
        """Make the table equal to these rows."""
        rows = [{"ticket": key, "body": text, "team": "red"} for key, text in sorted(texts.items())]
        schema = pa.schema([("ticket", pa.string()), ("body", pa.string()), ("team", pa.string())])
        write_table(self.url, self.name, pa.Table.from_pylist(rows, schema), "ticket")

    def run(self, *statements: str) -> None:
        """Run statements on it as its owner; it is called `up.tickets` there."""
        url = parse_source_url("up", self.url)
        with closing(connect(1)) as connection:
            load(connection, *url.extensions)
            connection.execute(url.attach_statement("up", read_only=False))
            for statement in statements:
                connection.execute(statement)

    def remove_column(self) -> None:
        self.run("ALTER TABLE up.tickets DROP COLUMN team")

    def break_it(self) -> None:
        """Make it unreadable for now."""
        self.catalog.rename(self.catalog.with_suffix(".away"))

    def mend_it(self) -> None:
        self.catalog.with_suffix(".away").rename(self.catalog)


class PostgresTable:
    """`tickets_…` in a Postgres, with a watermark."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.name = dsn, f"tickets_{uuid.uuid4().hex[:8]}"
        reader = f"reader_of_{self.name}"
        self.url = f"postgres:{dsn.replace('user=postgres', f'user={reader}')}"
        self._reader, self._now = reader, 0
        self.run(
            f"CREATE TABLE {self.name} (ticket TEXT, body TEXT, team TEXT, changed_at TIMESTAMP)",
            f"CREATE ROLE {reader} LOGIN",
            f"GRANT SELECT ON {self.name} TO {reader}",
        )

    @property
    def source(self) -> dict[str, Any]:
        columns = {"key": "ticket", "text": "body", "attributes": ["team"], "watermark": "changed_at"}
        return {"warehouse": "desk", "table": self.name, **columns}

    def write(self, texts: Texts) -> None:
        """Make the table equal to these rows; only rows that change get a new time."""
        self._now += 1
        time = f"timestamp '2026-01-01' + interval '{self._now} minutes'"
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT ticket, body FROM {self.name}")
            stored = dict(cursor.fetchall())
            for key in stored.keys() - texts.keys():
                cursor.execute(f"DELETE FROM {self.name} WHERE ticket = %s", [key])
            for key, text in texts.items():
                if key not in stored:
                    cursor.execute(f"INSERT INTO {self.name} VALUES (%s, %s, 'red', {time})", [key, text])
                elif stored[key] != text:
                    cursor.execute(
                        f"UPDATE {self.name} SET body = %s, changed_at = {time} WHERE ticket = %s", [text, key]
                    )

    def run(self, *statements: str) -> None:
        """Run statements as its owner."""
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def remove_column(self) -> None:
        self.run(f"ALTER TABLE {self.name} DROP COLUMN team")

    def break_it(self) -> None:
        """Make it unreadable for now."""
        self.run(f"REVOKE ALL ON {self.name} FROM {self._reader}")

    def mend_it(self) -> None:
        self.run(f"GRANT SELECT ON {self.name} TO {self._reader}")


class SlotTable(PostgresTable):
    """The same, with a replication slot instead of the watermark."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.run(
            f"ALTER TABLE {self.name} ADD PRIMARY KEY (ticket)",
            f"CREATE PUBLICATION {self.name} FOR TABLE {self.name} (ticket)",
            f"ALTER ROLE {self._reader} REPLICATION",
        )
        self.run(f"SELECT pg_create_logical_replication_slot('{self.name}', 'pgoutput')")

    @property
    def source(self) -> dict[str, Any]:
        columns = {name: value for name, value in super().source.items() if name != "watermark"}
        return {**columns, "slot": self.name, "publication": self.name}

    def remove(self) -> None:
        """Or the server would keep its WAL for it."""
        self.run(f"SELECT pg_drop_replication_slot('{self.name}')")


def expire_history(table: LakeTable) -> None:
    """Forget all snapshots of the lake but the newest, as its owner's maintenance does."""
    try:
        table.run("CALL ducklake_expire_snapshots('up', older_than => now() + INTERVAL 1 DAY)")
    except duckdb.Error as error:  # the name of the argument is DuckLake's: a change of it has to be seen
        raise AssertionError(f"Snapshots were not expired: {error}") from error
