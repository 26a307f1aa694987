"""Source tables in databases and table formats of others: MySQL, SQLite and DuckDB files, Delta, Iceberg, Postgres."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.source import Source, TableRef
from llm_platform.errors import ContractBroken, TransientError
from llm_platform.nim.engine_process import free_port
from llm_platform.records import SourceState
from llm_platform.warehouse.engine import connect, load
from llm_platform.warehouse.sources import SourceReader
from llm_platform_tests.servers.buckets import bucket_named

ICEBERG = Path(__file__).with_name("iceberg_orders.zip")
"""A table that pyiceberg wrote: 1 and 2, then 3, then without 1; named by where it was then."""


def reader_of(url: str, **values: Any) -> SourceReader:
    return SourceReader(connect(1), {"crm": url}, **values)


def read(reader: SourceReader, source: Source, since: SourceState | None = None) -> tuple[Any, SourceState]:
    """(rows as (key, text), or why nothing was read; the new state)."""
    changes = reader.changes(source, since)
    rows = sorted((row[source.key], row[str(source.text)]) for part in changes.rows for row in part.to_pylist())
    return (rows if changes.full or rows else changes.reason), changes.state


class Delta:
    """A Delta table that is written by hand: its log is a file of JSON for each version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "_delta_log").mkdir(parents=True)
        fields = [
            {"name": name, "type": kind, "nullable": True, "metadata": {}}
            for name, kind in (("id", "long"), ("body", "string"))
        ]
        self._next: list[dict[str, Any]] = [
            {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
            {
                "metaData": {
                    "id": "0",
                    "format": {"provider": "parquet", "options": {}},
                    "schemaString": json.dumps({"type": "struct", "fields": fields}),
                    "partitionColumns": [],
                    "configuration": {},
                    "createdTime": 0,
                }
            },
        ]
        self.version = 0

    def commit(self, name: str, ids: Sequence[int], *, instead_of: str | None = None) -> None:
        path = self.folder / name
        pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), "body": [f"text {one}" for one in ids]}), path)
        added = {"path": name, "partitionValues": {}, "size": path.stat().st_size, "modificationTime": 0}
        self._next.append({"add": {**added, "dataChange": True}})
        if instead_of is not None:
            self._next.append({"remove": {"path": instead_of, "deletionTimestamp": 1, "dataChange": True}})
        log = self.folder / "_delta_log" / f"{self.version:020}.json"
        log.write_text("\n".join(map(json.dumps, self._next)))
        self.version, self._next = self.version + 1, []


def test_a_delta_table_is_followed_by_its_versions(tmp_path: Path) -> None:
    """What was deleted in it lies in its folder still; reading the Parquet files would bring it back."""
    table = Delta(tmp_path / "sales" / "orders")
    table.commit("a.parquet", [1, 2])
    reader = reader_of(f"delta:{tmp_path}")
    source = Source(warehouse="crm", table="sales.orders", key="id", text="body")

    first, state = read(reader, source)
    (table.folder / "_delta_log" / f"{0:020}.checkpoint.parquet").write_bytes(b"")
    same, _ = read(reader, source, state)
    shutil.rmtree(table.folder)
    table = Delta(tmp_path / "sales" / "orders")
    table.commit("a.parquet", [1, 2, 4])
    anew, _ = read(reader, source, state)
    table.commit("b.parquet", [2, 3], instead_of="a.parquet")
    second, after = read(reader, source, state)

    assert first == [("1", "text 1"), ("2", "text 2")]
    assert same == "the table has no newer version"
    assert anew == [("1", "text 1"), ("2", "text 2"), ("4", "text 4")]
    assert second == [("2", "text 2"), ("3", "text 3")]
    assert reader.state(source) == after
    assert reader.columns(source) == {"id": "BIGINT", "body": "VARCHAR"}
    assert reader.read(TableRef(warehouse="crm", table="sales.orders"), ["id"]).num_rows == 2
    with pytest.raises(TransientError, match=r"sales/refunds/_delta_log'.*No such file"):
        reader.state(source.model_copy(update={"table": "sales.refunds"}))
    (tmp_path / "b.parquet").write_bytes(b"")
    (table.folder / "b.parquet").unlink()
    with pytest.raises(TransientError, match=r"Cannot read source 'crm.sales.orders'"):
        read(reader, source)


def test_a_delta_table_in_a_bucket_is_read_with_the_deployments_access(tmp_path: Path) -> None:
    """Lakehouses are in buckets; each extension has its own way to a store."""
    table = Delta(tmp_path / "orders")
    table.commit("a.parquet", [1, 2])
    with bucket_named("lakehouse") as (access, client):
        for path in table.folder.rglob("*.*"):
            client.put_object(Bucket="lakehouse", Key=f"sales/{path.relative_to(tmp_path)}", Body=path.read_bytes())
        reader = reader_of("delta:s3://lakehouse/sales", s3=access)

        found, _ = read(reader, Source(warehouse="crm", table="orders", key="id", text="body"))

    assert found == [("1", "text 1"), ("2", "text 2")]


def test_an_iceberg_table_is_read_in_its_newest_version_wherever_it_was_moved(tmp_path: Path) -> None:
    """Its metadata names files by where they were; a copy of it, and a mount of its bucket, is elsewhere."""
    with zipfile.ZipFile(ICEBERG) as packed:
        packed.extractall(tmp_path / "sales")
    metadata = tmp_path / "sales" / "orders" / "metadata"
    newest = sorted(metadata.glob("*.metadata.json"))
    later = newest.pop()
    later.rename(tmp_path / "later.json")
    reader = reader_of(f"iceberg:{tmp_path}")
    source = Source(warehouse="crm", table="sales.orders", key="id", text="body")

    before, state = read(reader, source)
    same, _ = read(reader, source, state)
    (tmp_path / "later.json").rename(later)
    after, _ = read(reader, source, state)

    assert before == [("1", "one"), ("2", "two"), ("3", "three")]
    assert same == "the table has no newer version"
    assert after == [("2", "two"), ("3", "three")]
    for path in metadata.glob("*.metadata.json"):
        path.unlink()
    with pytest.raises(TransientError, match=r"has no version of it. Nothing was taken over"):
        reader.state(source)


def test_files_of_sqlite_and_duckdb_are_databases(tmp_path: Path) -> None:
    """Half of all data in a company is in a file that somebody mailed; names are taken as they are written."""
    with closing(sqlite3.connect(tmp_path / "crm.sqlite")) as connection, connection:
        connection.execute('CREATE TABLE "Open Tickets" ("Id" INTEGER, "Body" TEXT)')
        connection.execute("INSERT INTO \"Open Tickets\" VALUES (1, 'one'), (2, NULL)")
    with closing(duckdb.connect(str(tmp_path / "crm.duckdb"))) as other:
        other.execute('CREATE SCHEMA "Help"')
        other.execute('CREATE TABLE "Help"."Open Tickets" AS SELECT 1 AS "Id", \'one\' AS "Body"')
    in_sqlite, in_duckdb = reader_of(f"sqlite:{tmp_path}/crm.sqlite"), reader_of(f"duckdb:{tmp_path}/crm.duckdb")
    source = Source(warehouse="crm", table="Open Tickets", key="Id", text="Body")

    assert read(in_sqlite, source)[0] == [("1", "one"), ("2", None)]
    assert read(in_duckdb, source.model_copy(update={"table": "Help.Open Tickets"}))[0] == [("1", "one")]
    with pytest.raises(ContractBroken, match=r"no table 'main.tickets'.*It has: Open Tickets"):
        in_sqlite.state(source.model_copy(update={"table": "tickets"}))


def test_names_of_postgres_are_taken_with_their_case_and_schema(postgres_dsn: str) -> None:
    """`"Tickets"` and `tickets` are two tables there, and so are those of two schemas."""
    statements = [
        'DROP SCHEMA IF EXISTS "Sales" CASCADE',
        'CREATE SCHEMA "Sales"',
        'CREATE TABLE "Sales"."Tickets" ("Ticket Id" int, "Body" text, "changedAt" timestamptz)',
        'CREATE TABLE "Sales".tickets ("Ticket Id" int, "Body" text, "changedAt" timestamptz)',
        """INSERT INTO "Sales"."Tickets" VALUES (1, 'upper', '2026-01-01T00:00Z')""",
        """INSERT INTO "Sales".tickets VALUES (1, 'lower', '2026-01-01T00:00Z')""",
    ]
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    reader = reader_of(f"postgres:{postgres_dsn}")
    source = Source(warehouse="crm", table="Sales.Tickets", key="Ticket Id", text="Body", watermark="changedAt")

    upper, state = read(reader, source)
    lower, _ = read(reader, source.model_copy(update={"table": "Sales.tickets"}))
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("""INSERT INTO "Sales"."Tickets" VALUES (2, 'newer', '2026-02-01T00:00Z')""")
    newer, _ = read(reader, source, state)

    assert (upper, lower) == ([("1", "upper")], [("1", "lower")])
    assert ("2", "newer") in newer


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param("(1, x'ff')", "bytes that are no text, in a column of texts", id="bytes"),
        pytest.param("(1, x'41')", "a value does not have the type of its column.* It is in column 'body'", id="blob"),
        pytest.param("('one', 'one')", "a value does not have .* It is in column 'id': cast it in a view", id="text"),
    ],
)
def test_a_value_of_another_type_than_sqlite_declares_is_told_by_its_column(
    tmp_path: Path, row: str, said: str
) -> None:
    """SQLite takes any value anywhere. DuckDB's client cannot even say what is wrong where its words are no text."""
    with closing(sqlite3.connect(tmp_path / "crm.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE tickets (id INTEGER, body TEXT)")
        connection.execute(f"INSERT INTO tickets VALUES {row}")

    with pytest.raises(TransientError, match=said):
        read(
            reader_of(f"sqlite:{tmp_path}/crm.sqlite"), Source(warehouse="crm", table="tickets", key="id", text="body")
        )


def test_a_file_that_another_program_writes_to_is_told(tmp_path: Path) -> None:
    """DuckDB lets nobody read a file while somebody may write to it."""
    place = tmp_path / "crm.duckdb"
    writes = f"import duckdb, sys; c = duckdb.connect({str(place)!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", writes], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()

        with pytest.raises(TransientError, match="another program writes to its file"):
            reader_of(f"duckdb:{place}").state(Source(warehouse="crm", table="tickets", key="id", text="body"))
        writer.communicate()


def test_a_role_that_may_not_read_is_told_what_it_needs(postgres_dsn: str) -> None:
    """Whoever is told to let it write gives away too much, and it still cannot read."""
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS closed; DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
        cursor.execute("CREATE TABLE closed (id int, body text)")
    reader = reader_of(f"postgres:{postgres_dsn.replace('user=postgres', 'user=stranger')}")

    with pytest.raises(TransientError, match=r"this user may not read it\..* SELECT on the table"):
        reader.state(Source(warehouse="crm", table="closed", key="id", text="body"))


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MySQL or MariaDB server of this machine, without accounts; its connection string."""
    program = shutil.which("mariadbd") or shutil.which("mysqld")
    if program is None:
        pytest.skip("there is no MySQL or MariaDB on this machine")
    folder = tmp_path_factory.mktemp("mysql")
    port = free_port()
    arguments = [f"--datadir={folder}", f"--socket={folder}/s", f"--port={port}", "--bind-address=127.0.0.1"]
    messages = Path(program).parent.parent / "share" / "mysql"
    arguments += [
        "--skip-grant-tables",
        "--user=root",
        "--innodb-buffer-pool-size=16M",
        f"--lc-messages-dir={messages}",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "--no-defaults", *arguments], stdout=log, stderr=log, env=dict(os.environ))
    try:
        yield _helpdesk(f"host=127.0.0.1 port={port} user=root", server, folder / "log")
    finally:
        server.terminate()
        server.wait(30)


def _helpdesk(dsn: str, server: subprocess.Popen[bytes], log: Path) -> str:
    connection = connect(1)
    load(connection, "mysql_scanner")
    until = time.monotonic() + 60
    while True:
        try:
            connection.execute(f"ATTACH '{dsn}' AS m (TYPE mysql)")
            break
        except duckdb.Error:
            assert server.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-2000:]
            time.sleep(0.2)
    for statement in (
        "CREATE DATABASE helpdesk",
        "CREATE TABLE helpdesk.`Tickets` (`Id` int, `Body` text, changed datetime)",
        "INSERT INTO helpdesk.`Tickets` VALUES (1, ''one'', ''2026-01-01''), (2, ''two'', ''2026-01-02'')",
    ):
        connection.execute(f"CALL mysql_execute('m', '{statement}')")
    connection.close()
    return f"{dsn} database=helpdesk"


def test_a_table_of_mysql_is_read_and_followed(mysql: str) -> None:
    """The third database of every company; read-only, by a watermark or by comparing everything."""
    reader = reader_of(f"mysql:{mysql}")
    source = Source(warehouse="crm", table="Tickets", key="Id", text="Body", watermark="changed")
    with closing(connect(1)) as writer:
        load(writer, "mysql_scanner")
        writer.execute(f"ATTACH '{mysql}' AS m (TYPE mysql)")

        first, state = read(reader, source)
        inserted = "INSERT INTO `Tickets` VALUES (3, ''three'', ''2026-01-03'')"
        writer.execute(f"CALL mysql_execute('m', '{inserted}')")
        second, after = read(reader, source, state)
        writer.execute("CALL mysql_execute('m', 'DELETE FROM `Tickets` WHERE `Id` = 1')")
        moved = reader.state(source).token != after.token

    assert first == [("1", "one"), ("2", "two")]
    assert second == [("2", "two"), ("3", "three")]
    assert moved
    assert reader.columns(source) == {"Id": "INTEGER", "Body": "VARCHAR", "changed": "TIMESTAMP"}
    with pytest.raises(ContractBroken, match=r"no table 'helpdesk.Ticket' .nearest: 'Tickets'"):
        reader.state(source.model_copy(update={"table": "Ticket"}))


def test_a_mysql_that_does_not_answer_is_never_an_empty_one() -> None:
    """And its password is not in what is said."""
    reader = reader_of("mysql:host=127.0.0.1 port=1 user=me passwd=s3cret database=crm")

    with pytest.raises(TransientError, match="does not answer") as caught:
        reader.state(Source(warehouse="crm", table="tickets", key="id", text="body"))

    assert "s3cret" not in str(caught.value)
