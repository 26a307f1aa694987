"""Source tables in Postgres, followed by a logical replication slot: it tells which keys have changed.

Rows are read from the table, by these keys, in a transaction that begins later than the look into the slot. So the
order of changes does not matter, and long values that a change does not touch, which the slot leaves out, are there.

A look changes nothing: the same changes are seen again until somebody acknowledges them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import duckdb
import psycopg2

from llm_platform.application.source import Source
from llm_platform.errors import ContractBroken, PlatformError, TransientError
from llm_platform.records import SourceState
from llm_platform.records.documents import position
from llm_platform.warehouse.engine import identifier, literal, with_deadline
from llm_platform.warehouse.pgoutput import ChangedKeys, changed_keys

Found = TypeVar("Found")

MIB = 1024 * 1024
MOST_IN_BETWEEN = 256 * MIB
"""So many bytes of WAL without a change of the table become a run, which lets the slot go on: what others write would
fill the disk, and every look goes through it, 150 MB a second."""

WORTH_STORING = 16 * MIB
"""A run that finds nothing does not write down how far it looked, unless it is this much further."""

MOST_HELD_BACK = 8 * 1024 * MIB
"""Bytes of WAL that a slot may hold back before people are told."""

IN_USE = "55006"
WAIT_SECONDS = 10.0
MESSAGES_AT_ONCE = 200
"""Each may hold a whole row, with its text."""

FORMS = (
    "SET LOCAL client_encoding = 'UTF8'; SET LOCAL datestyle = 'ISO'; SET LOCAL timezone = 'UTC'; "
    "SET LOCAL intervalstyle = 'postgres'"
)
"""Keys are sent as texts, and go back to Postgres as such."""

TABLE = """
SELECT c.oid::bigint, format_type(key.atttypid, key.atttypmod), md5(concat_ws(
        '|', (SELECT system_identifier FROM pg_control_system()), left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
        c.oid, pg_relation_filenode(c.oid), p.oid, p.xmin, m.oid, m.xmin,
        (SELECT string_agg(concat_ws(':', relid::oid, pg_relation_filenode(relid)), ',' ORDER BY relid::oid)
            FROM pg_partition_tree(c.oid)),
        (SELECT string_agg(concat_ws(':', attname, attnum, atttypid, atttypmod), ',' ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = c.oid AND attname = ANY (%(columns)s))
    )),
    p.oid IS NOT NULL, m.oid IS NOT NULL OR p.puballtables, t.tablename IS NOT NULL,
    p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
    to_jsonb(t) ->> 'rowfilter' IS NULL,
    c.relreplident = 'f' OR EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = c.oid AND key.attnum = ANY (i.indkey)
        AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
    )
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute key ON key.attrelid = c.oid AND key.attname = %(key)s
LEFT JOIN pg_publication p ON p.pubname = %(publication)s
LEFT JOIN pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid
LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = n.nspname AND t.tablename = c.relname
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""
"""A table and what makes changes of it arrive. The third column is another one whenever rows may have changed without
any message: another server or history, a table that was replaced or rewritten, its partitions, the columns that are
read, or a publication that was altered."""

SLOT = """
SELECT s.plugin, s.database = current_database(), s.confirmed_flush_lsn - '0/0', to_jsonb(s) ->> 'wal_status',
    pg_current_wal_lsn() - s.restart_lsn
FROM pg_replication_slots s WHERE s.slot_name = %s
"""
MESSAGES = """
SELECT data FROM pg_logical_slot_peek_binary_changes(
    %(slot)s, %(until)s::pg_lsn, NULL, 'proto_version', '1', 'publication_names', %(publication)s
) WHERE get_byte(data, 0) IN (66, 84) OR substr(data, 2, 4) = %(relation)s
"""
"""Beginnings of transactions, truncations, and what is about one table."""


@dataclass(frozen=True)
class SlotStanding:
    """How a slot is.

    Attributes:
        confirmed: Up to where its changes were acknowledged, in bytes of WAL.
        status: Postgres' word for whether it keeps what the slot needs: `reserved`, `extended`, `unreserved`, `lost`.
        held_back: Bytes of WAL that the server keeps for it.
    """

    name: str
    confirmed: int
    status: str
    held_back: int

    def trouble(self, most: int = MOST_HELD_BACK) -> str | None:
        """What people have to look at; None while there is nothing.

        Args:
            most: Bytes of WAL that may be held back.
        """
        if self.status == "unreserved":
            what = "the server is about to remove WAL that it needs"
        elif self.held_back > most:
            what = f"more than {most // MIB} MB"
        else:
            return None
        return (
            f"Replication slot {self.name!r} holds back {self.held_back // MIB} MB of WAL: {what}. See why no run "
            "acknowledges its changes; if nobody needs it any more, drop it: SELECT "
            f"pg_drop_replication_slot({literal(self.name)})"
        )


@dataclass(frozen=True)
class SlotLook:
    """What a slot holds of a table, and what it can be compared with.

    Attributes:
        relation: SQL of Postgres to read the table from.
        key_type: Postgres' type of its key.
        table_id: Identity of the table and of what feeds the slot.
        until: Where in the WAL the look ended; later changes were not seen.
    """

    relation: str
    key_type: str
    table_id: str
    until: int
    standing: SlotStanding
    changed: ChangedKeys

    def why_full(self, since: SourceState | None) -> str | None:
        """Why all rows have to be read; None where the keys say enough."""
        return self._why_apart(since) or self.changed.whole

    def state(self, since: SourceState | None) -> SourceState:
        """The state of who has read so far; its token is that of `since` while nothing has changed."""
        newest = self.changed.newest
        token = f"{self.table_id}@{lsn(newest or self.standing.confirmed)}"
        if since is not None and since.lsn is not None:
            read = position(since.lsn)
            if self.until < read:
                # What is known by the name of an older state must not be taken for it.
                token += f" after {since.lsn}"
            elif self._why_apart(since) is None and (newest is None or newest < read):
                # Nothing is new; what was read and not acknowledged may still be there.
                times = (self.until - read) // MOST_IN_BETWEEN
                if self.until - read < WORTH_STORING:
                    return since
                token = f"{self.table_id}@{since.lsn}+{times}" if times else since.token
        return SourceState(kind="slot", token=token, table_id=self.table_id, lsn=lsn(self.until))

    def _why_apart(self, since: SourceState | None) -> str | None:
        """Why what the slot holds does not follow on what was read; None where it does."""
        if since is None or since.kind != "slot" or since.lsn is None:
            return "first read"
        if since.table_id != self.table_id:
            return "the table, its columns, its publication or the server is another one"
        if self.until < position(since.lsn):
            return "the server has gone back in its history"
        if self.standing.confirmed > position(since.lsn):
            return f"slot {self.standing.name!r} is another one, or was acknowledged by somebody else"
        return None


class Slot:
    """The slot that a source table is followed by.

    All methods raise TransientError when the server does not answer or somebody else reads the slot, and ContractBroken
    when it cannot be read before somebody changes something.
    """

    def __init__(
        self, source: Source, dsn: str, *, schema: str, table: str, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        assert source.slot is not None
        self._source, self._slot, self._dsn = source, source.slot, dsn
        self._schema, self._table = schema, table
        self._wait_seconds = wait_seconds

    def standing(self) -> SlotStanding:
        """How the slot is."""
        return self._asked(self._standing)

    def look(self, *, settled: bool) -> SlotLook:
        """What has changed since the slot was acknowledged.

        Args:
            settled: Wait until every transaction that was seen can be read: one that waits for a standby server is in
                the WAL long before it is visible. To be called before the transaction that reads begins.
        """

        def body(cursor: Any) -> SlotLook:
            # Before the messages: what is altered after this shows the next time.
            relation, key_type, table_id = self._find_table(cursor)
            self._standing(cursor)
            cursor.execute("SELECT pg_current_wal_flush_lsn() - '0/0'")
            until = int(cursor.fetchone()[0])
            changed = self._changed(cursor.connection, relation, until)
            # After them: what somebody else has acknowledged meanwhile is missing among them.
            standing = self._standing(cursor)
            if settled:
                self._wait_until_visible(cursor, changed.transactions)
            return SlotLook(self._relation, key_type, table_id, until, standing, changed)

        return self._asked(body)

    def acknowledge(self, state: SourceState) -> SlotStanding:
        """Let the server forget what was read up to a state. To be called once that is stored for good."""
        read = state.lsn or lsn(0)

        def body(cursor: Any) -> SlotStanding:
            standing = self._standing(cursor)
            if standing.confirmed >= position(read):
                return standing
            cursor.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [self._slot, read])
            return self._standing(cursor)

        return self._asked(body)

    def _find_table(self, cursor: Any) -> tuple[int, str, str]:
        """(oid, type of the key, identity)."""
        source = self._source
        named = {"schema": self._schema, "name": self._table, "key": source.key, "columns": list(source.columns)}
        cursor.execute(TABLE, {**named, "publication": source.publication})
        found = cursor.fetchone()
        if found is None:
            raise ContractBroken(
                f"Source {source.address!r} has no table with a column {source.key!r}. Correct application.yaml."
            )
        oid, key_type, table_id, *fit = found
        for (wrong, to_do), holds in zip(self._requirements(), fit, strict=True):
            if not holds:
                self._refuse(wrong, to_do)
        return int(oid), str(key_type), str(table_id)

    def _requirements(self) -> list[tuple[str, str]]:
        """What is wrong where one of the last columns of `TABLE` is not true, and what to do, in their order."""
        publication, name = f"publication {self._source.publication!r}", identifier(self._source.publication)
        alter, key = f"ALTER PUBLICATION {name}", self._source.key
        make = f"CREATE PUBLICATION {name} FOR TABLE {self._relation}"
        return [
            (f"there is no {publication}", f"{make}; then drop the slot if there is one, and make it anew"),
            (f"{publication} does not name the table", f"{alter} ADD TABLE {self._relation}"),
            (f"{publication} sends changes as those of partitions", f"{alter} SET (publish_via_partition_root = true)"),
            (
                f"{publication} leaves out kinds of changes",
                f"{alter} SET (publish = 'insert, update, delete, truncate')",
            ),
            (f"{publication} leaves out rows", f"{alter} DROP TABLE {self._relation}, and add it without a WHERE"),
            (
                f"deleted rows are sent without the key {key!r}",
                f"make it the primary key, or ALTER TABLE {self._relation} REPLICA IDENTITY FULL",
            ),
        ]

    def _standing(self, cursor: Any) -> SlotStanding:
        cursor.execute(SLOT, [self._slot])
        found = cursor.fetchone()
        make = f"SELECT pg_create_logical_replication_slot({literal(self._slot)}, 'pgoutput')"
        drop = f"SELECT pg_drop_replication_slot({literal(self._slot)})"
        if found is None:
            cursor.execute("SELECT current_setting('wal_level')")
            first = "" if cursor.fetchone()[0] == "logical" else "set wal_level = logical and restart the server; "
            self._refuse("there is none of this name", first + make)
        plugin, is_here, confirmed, status, held_back = found
        if plugin != "pgoutput":
            what = f"is of the plugin {plugin!r}" if plugin else "is a physical one"
            self._refuse(f"it {what}, not of 'pgoutput'", f"name another one, made by: {make}")
        if not is_here:
            self._refuse("it is of another database", f"name another one, made by: {make}")
        if status == "lost":
            self._refuse(
                "the server has removed WAL that it needs, so its changes are lost",
                f"{drop}; {make}; all rows are read then",
            )
        return SlotStanding(self._slot, int(confirmed), str(status), int(held_back or 0))

    def _changed(self, connection: Any, relation: int, until: int) -> ChangedKeys:
        with connection.cursor("changes") as cursor:
            cursor.itersize = MESSAGES_AT_ONCE
            values = {"slot": self._slot, "until": lsn(until), "publication": identifier(self._source.publication)}
            cursor.execute(MESSAGES, {**values, "relation": psycopg2.Binary(relation.to_bytes(4, "big"))})
            return changed_keys((bytes(row[0]) for row in cursor), relation=relation, key=self._source.key)

    def _wait_until_visible(self, cursor: Any, transactions: set[int]) -> None:
        # A transaction keeps the lock on its own id until everybody can see what it did.
        until = time.monotonic() + self._wait_seconds
        running = "SELECT transactionid::text::bigint FROM pg_locks WHERE locktype = 'transactionid' AND granted"
        while True:
            cursor.execute(running)
            if transactions.isdisjoint(row[0] for row in cursor.fetchall()):
                return
            if time.monotonic() > until:
                raise TransientError(
                    f"{self._cannot}: a transaction was committed and cannot be seen after {self._wait_seconds:.0f} s, "
                    "as while a standby server is waited for. Nothing was taken over; run again."
                )
            time.sleep(0.05)

    def _asked(self, body: Callable[[Any], Found]) -> Found:
        """What `body` finds in one transaction; one process reads a slot at a time, and others wait."""
        until = time.monotonic() + self._wait_seconds
        while True:
            try:
                with (
                    closing(psycopg2.connect(with_deadline(self._dsn))) as connection,
                    connection,
                    connection.cursor() as cursor,
                ):
                    cursor.execute(FORMS)
                    return body(cursor)
            except psycopg2.Error as error:
                if error.pgcode != IN_USE or time.monotonic() > until:
                    raise self._error(error) from None
            time.sleep(0.1)

    @property
    def _relation(self) -> str:
        return f"{identifier(self._schema)}.{identifier(self._table)}"

    @property
    def _cannot(self) -> str:
        return f"Cannot read source {self._source.address!r} by replication slot {self._slot!r}"

    def _refuse(self, found: str, to_do: str) -> NoReturn:
        raise ContractBroken(f"{self._cannot}: {found}. To do: {to_do}.")

    def _error(self, error: psycopg2.Error) -> PlatformError:
        # What Postgres says of a statement may quote its values.
        if error.pgcode == "42501":
            return ContractBroken(
                f"{self._cannot}: this role may not. To do: ALTER ROLE … REPLICATION, and GRANT SELECT on the table."
            )
        if error.pgcode == IN_USE:
            return TransientError(f"{self._cannot}: somebody else reads it. One slot is for one reader; run again.")
        if error.pgcode == "55000":
            return ContractBroken(
                f"{self._cannot}: the server does not decode its WAL now, as a standby does not. To do: name the "
                "primary server."
            )
        if error.pgcode == "42704":
            return ContractBroken(
                f"{self._cannot}: its first changes are older than publication {self._source.publication!r}. To do: "
                "drop the slot and make it again, after the publication; all rows are read then."
            )
        if isinstance(error, psycopg2.OperationalError):
            return TransientError(f"{self._cannot}: Postgres does not answer, or let us in. Check it, then run again.")
        return TransientError(f"{self._cannot}: Postgres refuses it (code {error.pgcode}). Nothing was taken over.")


def stage_changed_rows(
    cursor: duckdb.DuckDBPyConnection, alias: str, look: SlotLook, source: Source, *, key: str
) -> list[str]:
    """Fill the temporary table `staged` with the rows of the changed keys; returns keys that are not there any more.

    Postgres itself looks the rows up, by its index: DuckDB would read the table.

    Args:
        cursor: In the transaction that reads the table.
        alias: The attached database.
        key: SQL of the key as text.
    """
    column = identifier(source.key)
    # Whatever the server makes of a backslash in a plain literal.
    written = ", ".join("E" + literal(one.replace("\\", "\\\\")) for one in sorted(look.changed.keys))
    keys = f"ARRAY[{written}]::text[]"
    listed = ", ".join(map(identifier, source.columns))
    others = "".join(f", {identifier(name)}" for name in source.columns[1:])
    rows = f"SELECT {listed} FROM {look.relation} WHERE {column} = ANY ({keys}::{look.key_type}[])"
    named = f"SELECT one::{look.key_type} AS {column} FROM unnest({keys}) one"

    def of_postgres(sql: str) -> str:
        return f"postgres_query({literal(alias)}, {literal(sql)})"

    cursor.execute(f"INSERT INTO staged SELECT {key}{others} FROM {of_postgres(rows)}")
    gone = cursor.execute(
        f"SELECT DISTINCT {key} AS key FROM {of_postgres(named)} WHERE key NOT IN (SELECT {column} FROM staged) "
        "ORDER BY key"
    )
    return [row[0] for row in gone.fetchall()]


def lsn(bytes_of_wal: int) -> str:
    """Such a place as Postgres writes it."""
    return f"{bytes_of_wal >> 32:X}/{bytes_of_wal & 0xFFFFFFFF:X}"
