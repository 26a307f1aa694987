"""Tables in a real Postgres, followed by a logical replication slot."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import psycopg2
import pytest
from psycopg2.extras import LogicalReplicationConnection

from llm_platform.application.source import Source
from llm_platform.errors import ContractBroken, TransientError
from llm_platform.records import SourceState
from llm_platform.records.documents import position
from llm_platform.warehouse.engine import connect
from llm_platform.warehouse.pgoutput import ChangedKeys, changed_keys
from llm_platform.warehouse.source_slots import (
    MOST_HELD_BACK,
    MOST_IN_BETWEEN,
    WORTH_STORING,
    Slot,
    SlotLook,
    SlotStanding,
    lsn,
)
from llm_platform.warehouse.sources import SourceReader
from llm_platform_tests.warehouse.slots import Desk

LONG = "SELECT string_agg(sha256(n::text::bytea)::text, '') FROM generate_series(1, 500) n"
"""What no compression makes short: Postgres keeps it apart from its row, and a slot leaves it out where it stays."""


@contextmanager
def standby_that_never_answers(dsn: str) -> Iterator[None]:
    """For so long, no commit of this server ends."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        cursor.execute("SELECT pg_reload_conf()")
        _reloaded(dsn)
        try:
            yield
        finally:
            cursor.execute("ALTER SYSTEM RESET synchronous_standby_names")
            cursor.execute("SELECT pg_reload_conf()")


def _reloaded(dsn: str) -> None:
    """Wait until a server's settings count for every commit: its checkpointer says so, which may be late.

    Whoever connects now is let in after the reload was passed on, and a checkpoint that is asked for then is after it.
    """
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CHECKPOINT")


@pytest.fixture
def desk(postgres_dsn: str) -> Iterator[Desk]:
    made = Desk(postgres_dsn)
    yield made
    made.remove()


def test_only_the_rows_of_changed_keys_are_read(desk: Desk) -> None:
    """An insert, an update, a delete and another key are all that a run pays for."""
    first, everything = desk.read(None)
    desk.reader.acknowledge(desk.source, first.state)
    desk.run(
        f"INSERT INTO {desk.name} VALUES (4, 'four', 'red'), (5, 'five', 'red')",
        f'UPDATE {desk.name} SET "Body" = \'second\' WHERE "Ticket Id" = 2',
        f'DELETE FROM {desk.name} WHERE "Ticket Id" = 3',
        f'UPDATE {desk.name} SET "Ticket Id" = 50 WHERE "Ticket Id" = 5',
        f"INSERT INTO {desk.name} VALUES (6, 'six', 'red')",
        f'DELETE FROM {desk.name} WHERE "Ticket Id" = 6',
    )

    second, changed = desk.read(first.state)

    assert (first.full, everything) == (True, {"1": "one", "2": "two", "3": "three"})
    assert (second.full, changed) == (False, {"2": "second", "4": "four", "50": "five"})
    assert second.deleted == ["3", "5", "6"]
    assert second.reason == f"6 keys changed, says slot '{desk.slot}'"


def test_nothing_is_acknowledged_by_looking(desk: Desk) -> None:
    """A sensor, a plan and a run that is cut off look as often as they like; the change is still there."""
    before = desk.taken()
    desk.run(f"INSERT INTO {desk.name} VALUES (4, 'four', 'red')")

    looked = [desk.reader.state(desk.source, before).token for _ in range(2)]
    said = desk.reader.followed(desk.source)
    first, rows = desk.read(before)
    again, rows_again = desk.read(before)
    cut_off = desk.reader.state(desk.source, first.state)
    desk.reader.acknowledge(desk.source, first.state)
    after = desk.reader.state(desk.source, first.state)

    assert looked == [first.state.token] * 2 == [again.state.token] * 2
    assert first.state.token != before.token
    assert rows == rows_again == {"4": "four"}
    assert said == f"its replication slot '{desk.slot}' (0 MB of WAL held back); only keys that changed are read"
    # Stored and not acknowledged: nothing new, so no run; and nothing new once it is.
    assert cut_off.token == after.token == first.state.token
    assert desk.read(first.state)[1] == {}


def test_a_long_text_is_read_whole_when_another_column_changes(desk: Desk) -> None:
    """The slot does not send it: taking rows from there would store a document without a text."""
    desk.run(f'UPDATE {desk.name} SET "Body" = ({LONG})')
    before = desk.taken()
    desk.run(f"UPDATE {desk.name} SET team = 'blue' WHERE \"Ticket Id\" = 1")

    _, rows = desk.read(before)

    assert {key: len(text or "") for key, text in rows.items()} == {"1": 500 * 66}


def test_whatever_happens_to_the_table_what_was_read_of_it_is_what_it_says(desk: Desk) -> None:
    """Against the table itself, after every round of random changes; every third round is cut off."""
    drawn = random.Random(7)
    state, held = None, {}
    for turn in range(24):
        number, text = (str(drawn.randint(1, 12)) for _ in range(2))
        statement = drawn.choice(
            (
                f"INSERT INTO {desk.name} VALUES ({number}, '{text}', 'red') ON CONFLICT DO NOTHING",
                f'UPDATE {desk.name} SET "Body" = \'{text}\' WHERE "Ticket Id" > {number}',
                f'DELETE FROM {desk.name} WHERE "Ticket Id" = {number}',
                f'UPDATE {desk.name} SET "Ticket Id" = "Ticket Id" + 12 WHERE "Ticket Id" = {number}',
                f"BEGIN; DELETE FROM {desk.name}; ROLLBACK",
                f"TRUNCATE {desk.name}" if turn == 11 else f"UPDATE {desk.name} SET team = '{text}'",
            )
        )
        desk.run(statement)
        if drawn.random() < 0.5:
            continue
        changes, rows = desk.read(state)
        if turn % 3 == 0:
            continue
        gone = set(held) if changes.full else set(map(str, list(changes.deleted or [])))
        held = {key: text for key, text in held.items() if key not in gone} | rows
        state = changes.state
        if turn % 2:
            desk.reader.acknowledge(desk.source, state)

        assert held == {str(key): text for key, text in desk.run(f'SELECT "Ticket Id", "Body" FROM {desk.name}')}


def test_other_tables_undone_and_interleaved_transactions(desk: Desk) -> None:
    """What was rolled back never was; what is open is seen once it is committed, however long it has been open."""
    desk.run(f'CREATE TABLE {desk.name[:-1]}_other" (id int PRIMARY KEY)')
    desk.run(f'ALTER PUBLICATION {desk.slot} ADD TABLE {desk.name[:-1]}_other"')
    before = desk.taken()
    with closing(psycopg2.connect(desk.dsn)) as one, closing(psycopg2.connect(desk.dsn)) as two:
        with one.cursor() as cursor:
            cursor.execute(f"INSERT INTO {desk.name} VALUES (4, 'early', 'red')")
        with two.cursor() as cursor:
            cursor.execute(f"INSERT INTO {desk.name} VALUES (5, 'late', 'red')")
        two.commit()
        first, rows = desk.read(before)
        desk.reader.acknowledge(desk.source, first.state)
        one.commit()
        with two.cursor() as cursor:
            cursor.execute(f"UPDATE {desk.name} SET team = 'blue'")
        two.rollback()
    second, later = desk.read(first.state)
    desk.reader.acknowledge(desk.source, second.state)
    desk.run(f'INSERT INTO {desk.name[:-1]}_other" VALUES (7)')
    others = desk.reader.state(desk.source, second.state)
    desk.run(f'DROP TABLE {desk.name[:-1]}_other"')

    assert (rows, later) == ({"5": "late"}, {"4": "early"})
    assert others == second.state


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        pytest.param("TRUNCATE {table}", "the table, its columns", id="truncated"),
        pytest.param("ALTER TABLE {table} ALTER team TYPE varchar(9) USING 'blue'", "its columns", id="retyped"),
        pytest.param("ALTER TABLE {table} DROP COLUMN team, ADD team text DEFAULT 'blue'", "its columns", id="anew"),
        pytest.param("{alter} DROP TABLE {table}; {insert}; {alter} ADD TABLE {table}", "publication", id="left-out"),
        pytest.param("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())", "somebody else", id="moved"),
        pytest.param("SELECT pg_drop_replication_slot('{slot}'); {insert}; {make}", "another one", id="slot-anew"),
    ],
)  # fmt: skip
def test_what_no_message_tells_has_everything_read(desk: Desk, statement: str, said: str) -> None:
    """A change that never arrives would never be missed."""
    before = desk.taken()
    insert = f"INSERT INTO {desk.name} VALUES (4, 'unseen', 'red')"
    make = f"SELECT pg_create_logical_replication_slot('{desk.slot}', 'pgoutput')"
    alter = f"ALTER PUBLICATION {desk.slot}"
    written = statement.format(table=desk.name, slot=desk.slot, insert=insert, make=make, alter=alter)
    desk.run(f"UPDATE {desk.name} SET team = 'green'", *written.split("; "))
    desk.run(f"INSERT INTO {desk.name} VALUES (9, 'nine', 'red')")

    seen = desk.reader.state(desk.source, before)
    changes, rows = desk.read(before)
    desk.reader.acknowledge(desk.source, changes.state)

    assert changes.full
    assert said in changes.reason
    assert seen.token == changes.state.token != before.token
    assert rows == {str(key): text for key, text in desk.run(f'SELECT "Ticket Id", "Body" FROM {desk.name}')}
    assert desk.reader.state(desk.source, changes.state).token == changes.state.token


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["SELECT pg_drop_replication_slot('{slot}')"], "there is none of this name. To do: SELECT pg_create_logical"),
        (
            [
                "SELECT pg_drop_replication_slot('{slot}')",
                "SELECT pg_create_physical_replication_slot('{slot}')",
            ],
            "is a physical one, not of 'pgoutput'",
        ),
        (["DROP PUBLICATION {slot}"], "there is no publication"),
        (["ALTER PUBLICATION {slot} DROP TABLE {table}"], "does not name the table. To do: ALTER PUBLICATION"),
        (["ALTER PUBLICATION {slot} SET (publish = 'insert')"], "leaves out kinds of changes"),
        (["ALTER PUBLICATION {slot} SET TABLE {table} WHERE (team = 'red')"], "leaves out rows"),
        (['ALTER TABLE {table} DROP CONSTRAINT "{table_name}_pkey"'], "sent without the key 'Ticket Id'"),
        (["ALTER TABLE {table} REPLICA IDENTITY NOTHING"], "sent without the key 'Ticket Id'"),
        (["ALTER TABLE {table} RENAME team TO crew"], "no column 'team'"),
    ],
)
def test_what_would_lose_changes_is_refused_with_what_to_do(desk: Desk, statements: list[str], said: str) -> None:
    """A publication without deletes, say, works for months, and keeps rows that have left."""
    before = desk.taken()
    desk.run(*(one.format(slot=desk.slot, table=desk.name, table_name=desk.table) for one in statements))

    with pytest.raises(ContractBroken, match=said):
        desk.read(before)
    with pytest.raises(ContractBroken, match=said):
        desk.reader.state(desk.source, before)


def test_a_slot_that_the_server_gave_up_is_told(desk: Desk) -> None:
    """`max_slot_wal_keep_size` saves the disk, and the changes are gone: all rows are read with the next slot."""
    before = desk.taken()
    desk.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        for _ in range(4):
            desk.run(f"UPDATE {desk.name} SET team = 'blue'", "SELECT pg_switch_wal()")
        desk.run("CHECKPOINT")
        with pytest.raises(ContractBroken, match=r"its changes are lost. To do: SELECT pg_drop_replication_slot"):
            desk.reader.state(desk.source, before)
    finally:
        desk.run("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


def test_a_role_needs_the_right_to_read_slots_and_no_other(desk: Desk) -> None:
    """What the table needs is the right to SELECT; the role of the platform is nobody's superuser."""
    role = f"reader_of_{desk.slot}"
    grants = f'GRANT USAGE ON SCHEMA "Desk" TO {role}', f"GRANT SELECT ON {desk.name} TO {role}"
    desk.run(f"CREATE ROLE {role} LOGIN", *grants)
    reader = SourceReader(connect(1), {"crm": f"postgres:{desk.dsn.replace('user=postgres', f'user={role}')}"})
    try:
        with pytest.raises(ContractBroken, match=r"this role may not. To do: ALTER ROLE … REPLICATION"):
            reader.state(desk.source)
        desk.run(f"ALTER ROLE {role} REPLICATION")
        changes = reader.changes(desk.source, None)
        reader.acknowledge(desk.source, changes.state)

        assert sum(part.num_rows for part in changes.rows) == 3
    finally:
        desk.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_commit_that_nobody_can_see_yet_is_waited_for(desk: Desk) -> None:
    """While a standby server is waited for, a transaction is in the WAL and not in the table: read now, it is lost."""
    before = desk.taken()
    slot = Slot(desk.source, desk.dsn, schema="Desk", table=desk.table, wait_seconds=0.2)

    with standby_that_never_answers(desk.dsn):
        writer = threading.Thread(target=desk.run, args=[f"INSERT INTO {desk.name} VALUES (4, 'four', 'red')"])
        writer.start()
        while slot.look(settled=False).changed.keys != {"4"}:
            pass
        unseen = desk.run(f"SELECT count(*) FROM {desk.name}")
        with pytest.raises(TransientError, match=r"cannot be seen after 0 s.*run again"):
            slot.look(settled=True)
    writer.join()

    assert unseen == [(3,)]
    assert desk.read(before)[1] == {"4": "four"}


def test_a_slot_that_somebody_else_reads_is_told_and_waited_for(desk: Desk) -> None:
    """Postgres lets one process read a slot at a time: two ticks at the same moment are no error, a rival is."""
    slot = Slot(desk.source, desk.dsn, schema="Desk", table=desk.table, wait_seconds=0.2)
    options = {"proto_version": "1", "publication_names": desk.slot}
    with closing(psycopg2.connect(desk.dsn, connection_factory=LogicalReplicationConnection)) as rival:
        with rival.cursor() as cursor:
            cursor.start_replication(slot_name=desk.slot, decode=False, options=options)

            with pytest.raises(TransientError, match=r"somebody else reads it. One slot is for one reader; run again"):
                slot.look(settled=False)
        threading.Timer(0.3, rival.close).start()
        assert desk.reader.standing(desk.source) is not None
        assert desk.read(None)[0].full


@pytest.mark.parametrize(
    ("kind", "value", "as_text"),
    [
        ("numeric(10, 2)", "1.50", "1.5"),
        ("timestamptz", "2026-03-29 01:30:00+01", "2026-03-29 00:30:00+00"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("text", "it's \\' \"1\", {2}\n%s", "it's \\' \"1\", {2}\n%s"),
        ("boolean", "true", "true"),
    ],
)
def test_keys_of_any_type_are_found_again(desk: Desk, kind: str, value: str, as_text: str) -> None:
    """The slot writes values as Postgres does, and documents have keys in the platform's form."""
    with closing(psycopg2.connect(desk.dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f'TRUNCATE {desk.name}; ALTER TABLE {desk.name} ALTER "Ticket Id" TYPE {kind} USING NULL')
        connection.commit()
        before = desk.taken()
        cursor.execute(f"INSERT INTO {desk.name} VALUES (%s, 'it', 'red')", [value])
        connection.commit()
        came, rows = desk.read(before)
        desk.reader.acknowledge(desk.source, came.state)
        cursor.execute(f"DELETE FROM {desk.name}")
        connection.commit()
        left, _ = desk.read(came.state)

    assert rows == {as_text: "it"}
    assert left.deleted == [as_text]


def test_a_slot_is_of_postgres_alone(tmp_path: Path) -> None:
    """A DuckLake has a change feed without one."""
    with closing(duckdb.connect(str(tmp_path / "crm.duckdb"))) as made:
        made.execute("CREATE TABLE tickets (id INTEGER, body TEXT)")
    reader = SourceReader(connect(1), {"crm": f"duckdb:{tmp_path / 'crm.duckdb'}"})
    source = Source(warehouse="crm", table="tickets", key="id", text="body", slot="tickets")

    with pytest.raises(ContractBroken, match="its warehouse is 'duckdb': only Postgres has slots"):
        reader.state(source)


def look(*, until: int, newest: int | None = None, confirmed: int = 100, whole: str | None = None) -> SlotLook:
    standing = SlotStanding("s", confirmed, "reserved", until - confirmed)
    return SlotLook('"t"', "int", "t", until, standing, ChangedKeys(newest=newest, whole=whole))


READ = SourceState(kind="slot", token="t@0/64", table_id="t", lsn=lsn(1000))


def test_what_others_write_becomes_a_run_now_and_then() -> None:
    """Nothing of the table changes for weeks, and the slot would keep the WAL of all others until the disk is full."""
    near = look(until=1000 + WORTH_STORING - 1).state(READ)
    far = look(until=1000 + WORTH_STORING).state(READ)
    full = [look(until=1000 + MOST_IN_BETWEEN + more).state(READ).token for more in (0, 5)]
    after = look(until=1005 + MOST_IN_BETWEEN).state(READ)

    assert near == READ
    assert (far.token, position(far.lsn or "")) == (READ.token, 1000 + WORTH_STORING)
    assert full[0] == full[1] != READ.token
    # Read, and cut off before it was acknowledged: the slot still shows it, and nothing is new.
    assert look(until=1001, newest=900).state(READ) == READ
    assert look(until=1000 + MOST_IN_BETWEEN, newest=900).state(READ).token == full[0]
    assert look(until=position(after.lsn or "") + 1, confirmed=position(after.lsn or "")).state(after) == after


@pytest.mark.parametrize(
    ("seen", "since", "said"),
    [
        (look(until=2000), None, "first read"),
        (look(until=2000), SourceState(kind="watermark", token="1@2", table_id="t"), "first read"),
        (look(until=2000), READ.model_copy(update={"table_id": "u", "token": "u@0/64"}), "the table"),
        (look(until=900), READ, "the server has gone back"),
        (look(until=2000, confirmed=1001), READ, "slot 's' is another one"),
        (look(until=2000, newest=1500, whole="the table was truncated"), READ, "the table was truncated"),
        (look(until=2000, newest=1500), READ, None),
    ],
)
def test_everything_is_read_where_the_slot_does_not_follow_on_what_was_read(
    seen: SlotLook, since: SourceState | None, said: str | None
) -> None:
    """And a run that has read it leaves a state by which nothing is to be done."""
    after = seen.state(since)

    assert (seen.why_full(since) or "").startswith(said or "")
    assert (seen.why_full(since) is None) == (said is None)
    assert since is None or after.token != since.token
    if seen.until >= 1000:
        assert replace(seen, changed=replace(seen.changed, whole=None)).state(after).token == after.token


def test_people_are_told_before_the_disk_of_the_server_is_full() -> None:
    """A slot whose reader stands still keeps WAL without an end, or until the server gives it up."""
    calm = SlotStanding("s", 0, "reserved", MOST_HELD_BACK)

    assert calm.trouble() is None
    assert "more than 8192 MB" in (replace(calm, held_back=MOST_HELD_BACK + 1).trouble() or "")
    assert "about to remove WAL" in (replace(calm, status="unreserved").trouble() or "")


RELATION = "R 00004000 7075626c696300 7400 64 0002 01 696400 00000017 ffffffff 00 626f647900 00000019 ffffffff"
BEGIN = "B 0000000001719110 0003047fc7b0d89e 000002f2"
INSERT = "I 00004000 4e 0002 74 00000001 31 74 00000003 6f6e65"
MOVED = "U 00004000 4b 0002 74 00000001 34 6e 4e 0002 74 00000002 3430 75"
DELETE = "D 00004000 4b 0002 74 00000001 33 6e"
OTHER = "I 00004001 4e 0001 74 00000001 39"
COMMIT = "C 00 0000000001719110 0000000001719140 0003047fc7b0d89e"


@pytest.mark.parametrize(
    ("messages", "keys", "whole"),
    [
        pytest.param([BEGIN, RELATION, INSERT, COMMIT], {"1"}, None, id="insert"),
        pytest.param([BEGIN, RELATION, MOVED, COMMIT], {"4", "40"}, None, id="another-key-and-a-text-not-sent"),
        pytest.param([BEGIN, RELATION, DELETE, COMMIT], {"3"}, None, id="delete"),
        pytest.param([BEGIN, OTHER, COMMIT], set(), None, id="another-table"),
        pytest.param([BEGIN, "T 00000002 00 00004001 00004000"], set(), "the table was truncated", id="truncated"),
        pytest.param([BEGIN, "T 00000001 00 00004001"], set(), None, id="another-truncated"),
        pytest.param([BEGIN, RELATION, "D 00004000 4b 0002 6e 6e"], set(), "changed rows were sent without their key",
                     id="no-key"),
        pytest.param([BEGIN, RELATION, INSERT.replace("31 74", "e9 74")], set(),
                     "changed rows were sent without their key", id="no-text"),
        pytest.param([BEGIN, RELATION.replace("696400", "6e6f00"), INSERT], set(),
                     "changed rows were sent without their key", id="another-column"),
        pytest.param([BEGIN, RELATION, INSERT, MOVED, DELETE], set(), "more than 3 keys changed", id="many"),
    ],
)  # fmt: skip
def test_messages_of_the_protocol(messages: list[str], keys: set[str], whole: str | None) -> None:
    """Bytes as a server sends them."""
    sent = [one[0].encode() + bytes.fromhex(one[1:]) for one in messages]

    found = changed_keys(sent, relation=0x4000, key="id", most=3)

    assert (found.keys, found.whole) == (keys, whole)
    is_ours = bool(keys or whole)
    assert found.newest == (0x1719110 if is_ours else None)
    assert found.transactions == ({0x2F2} if is_ours else set())
