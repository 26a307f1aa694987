"""What `source check` and `application check` say of tables, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from llm_platform.application.source import TableRef
from llm_platform.operations.answering.columns import column_mistakes, row_mistakes, source_reader
from llm_platform.operations.answering.source_look import look_at_source, look_at_table
from llm_platform.warehouse.sources import SourceReader
from llm_platform_tests.team import Team


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, "http://127.0.0.1:9", documents=40)


@pytest.fixture
def reader() -> Iterator[SourceReader]:
    with source_reader({}) as opened:
        yield opened


def said(team: Team, reader: SourceReader, *, most: int = 1000) -> list[str]:
    """Mistakes of the application's tables as `application check` prints them."""
    return [str(one) for one in row_mistakes(team.loaded.application, reader, most=most)[0]]


def test_what_is_fine_is_refused_nowhere(team: Team, reader: SourceReader) -> None:
    """A check that cries wolf is switched off."""
    look = look_at_source(team.loaded.application, reader)

    assert (look.rows, look.about, look.refused, look.answers_refused) == (40, None, [], [])
    keys = next(column for column in look.columns if column.read_as == "key")
    assert (keys.name, keys.empty, keys.values) == ("ticket", 0, 40)
    assert look.followed == "the file, by its content; a changed one is read whole and compared"
    assert said(team, reader) == []


def test_rows_that_a_run_would_refuse_are_mistakes_at_their_line(team: Team, reader: SourceReader) -> None:
    """`check` passed what `plan` refused; all that is wrong is said at once, and not the first of it."""
    (team.root / "tickets.csv").write_text("ticket,body,team\n1,one,red\n1,again,red\n,nameless,red\na\0b,x,red\n")
    team.write_references({"1": "SAD", "2": "ANGRY"})

    found = said(team, reader)

    assert all("application.yaml:" in line for line in found)
    assert [line for line in found if "1 rows have no key (column 'ticket' is null or empty)" in line]
    assert [line for line in found if "1 keys are impossible (first: 'a\\x00b')" in line]
    assert [line for line in found if "1 keys occur more than once (first: '1')" in line]
    assert len(found) == 4, found
    assert [line for line in found if "Correct the reference table" in line]


def test_of_a_large_table_a_part_is_read_and_the_rest_counted(team: Team, reader: SourceReader) -> None:
    """A check of a table of ten million rows should not take an hour."""
    look = look_at_source(team.loaded.application, reader, most=10)
    table = look_at_table(TableRef(url=str(team.root / "tickets.csv")), reader, most=10)

    assert look.about == table.about == 40
    assert table.rows == 10
    assert not any("without" in note for note in look.notes if note.startswith(("1", "2", "3")))


def test_a_table_of_a_database_is_looked_at_before_any_application_names_it(postgres_dsn: str) -> None:
    """Who has read access to a schema wants to know which table could be documents."""
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute('CREATE SCHEMA IF NOT EXISTS "Help Desk"')
        cursor.execute('DROP TABLE IF EXISTS "Help Desk"."Open Tickets"')
        cursor.execute('CREATE TABLE "Help Desk"."Open Tickets" ("Id" int, "Body" text)')
        cursor.execute('INSERT INTO "Help Desk"."Open Tickets" VALUES (1, $$a$$), (2, $$b$$), (3, NULL)')

    with source_reader({"crm": f"postgres:{postgres_dsn}"}) as reader:
        look = look_at_table(TableRef(warehouse="crm", table="Help Desk.Open Tickets"), reader)

    assert {column.name: (column.kind, column.empty, column.values) for column in look.columns} == {
        "Id": ("INTEGER", 0, 3),
        "Body": ("VARCHAR", 1, 2),
    }
    assert "Columns that could be keys: 'Id'." in look.notes


def test_a_table_that_a_reachable_warehouse_does_not_have_is_a_mistake(team: Team, postgres_dsn: str) -> None:
    """`check` passed it as something that could not be looked at; it can, and it is not there."""
    team.specification["source"] = {"warehouse": "crm", "table": "no.such", "key": "ticket", "text": "body"}
    team.specification["evaluation"].pop("slices", None)
    team.write_specification()

    with source_reader({"crm": f"postgres:{postgres_dsn}"}) as reader:
        mistakes, unread = column_mistakes(team.loaded.application, reader)
    with source_reader({}) as reader:
        elsewhere, not_here = column_mistakes(team.loaded.application, reader)

    assert [str(one) for one in mistakes if "has no table 'no.such'" in str(one)]
    assert not unread
    assert not elsewhere
    assert "No warehouse is named 'crm'" in not_here[0]
