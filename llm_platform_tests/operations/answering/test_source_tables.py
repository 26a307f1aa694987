"""Tables as others write them, from their file or database to the documents of a lake."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import ContractBroken, DropHeld
from llm_platform.operations.answering.documents import consumed_and_current, known_answers, update_documents
from llm_platform.records import SourceState
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.defs.tables import LakeTable
from llm_platform_tests.operations.answering.rows import verdict
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.builders import RELEASE_ID, batch, document

NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, "http://127.0.0.1:9", documents=40)


@pytest.fixture
def lake(team: Team) -> Iterator[Warehouse]:
    with team.warehouse.open() as opened:
        yield opened


def keys(lake: Warehouse) -> list[str]:
    found: list[str] = lake.application(NAME).documents.table(["document_id"])["document_id"].to_pylist()
    return found


def consumed_by_an_older_version(lake: Warehouse, *rows: dict[str, Any]) -> None:
    """Documents as a version stored them that took any key."""
    state = SourceState(kind="file", token="t/older-rules", table_id="t")
    lake.application(NAME).documents.apply(batch(rows), deleted=None, full=True, consumed=state)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        pytest.param("d0\0x", r"1 of 2 keys .*first: 'd0\\x00x', which holds a NUL", id="nul"),
        pytest.param("x" * 3000, "1 of 2 keys .*longer than 2048 bytes", id="too-long"),
        pytest.param("\u00e9" * 1500, "1 of 2 keys .*longer than 2048 bytes", id="too-many-bytes"),
        pytest.param("", "1 of 2 rows .*have no key", id="empty"),
    ],
)
def test_a_key_that_no_table_can_hold_is_refused_before_anything_is_written(
    team: Team, lake: Warehouse, key: str, said: str
) -> None:
    """DuckLake writes the bounds of keys into SQL: one NUL, and every later statement on the table fails."""
    update_documents(lake, team.loaded)
    before = lake.snapshot()
    team.write_documents({"0": team.text(0), key: team.text(1)})

    with pytest.raises(ContractBroken, match=said):
        update_documents(lake, team.loaded)

    assert lake.snapshot() == before
    assert len(keys(lake)) == 40


def test_a_known_answer_with_an_impossible_key_is_refused(team: Team, lake: Warehouse) -> None:
    """The table of references is joined by the same keys."""
    update_documents(lake, team.loaded)
    team.write_references({"0": "SAD", "1\0": "HAPPY"})

    with pytest.raises(ContractBroken, match=r"1 of 2 keys of references of tickets .*holds a NUL"):
        known_answers(lake, team.loaded.application)


def test_an_application_that_such_a_key_has_wedged_is_mended_by_the_next_update(team: Team, lake: Warehouse) -> None:
    """Every statement that joined the table failed, also the one that would have deleted the row."""
    store = lake.application(NAME)
    consumed_by_an_older_version(lake, document("0"), document("d0\0x"), document("2"))
    store.published.publish(RELEASE_ID, 1)
    store.annotations.append([verdict("d0\0x", fingerprint="text of d0\0x", answer="SAD")])

    update_documents(lake, team.loaded)
    store.published.publish(RELEASE_ID, 1)

    assert len(keys(lake)) == 40
    assert store.published.table(1).num_rows == 40
    # What a person has said is kept.
    assert store.annotations.table()["document_id"].to_pylist() == ["d0x"]


def test_rows_under_an_older_form_of_their_key_are_neither_doubled_nor_lost(team: Team, lake: Warehouse) -> None:
    """A document changes its key, and keeps its text, its answers and what people said of it."""
    store = lake.application(NAME)
    update_documents(lake, team.loaded)
    stored = {row["document_id"]: row for row in store.documents.table().to_pylist()}
    fingerprint = stored["1"]["fingerprint"]
    old = [{**stored["1"], "document_id": NFD}, {**stored["2"], "document_id": "2.0"}]
    consumed_by_an_older_version(lake, *old)
    store.annotations.append([verdict(NFD, fingerprint=fingerprint, answer="HAPPY")])
    team.write_documents({NFD: team.text(1), "2": team.text(2)})
    team.write_references({"2": "SAD"})

    update = update_documents(lake, team.loaded)
    known = known_answers(lake, team.loaded.application).rows.to_pylist()

    assert keys(lake) == ["2", NFC]
    assert update.change.inserted == update.change.deleted == 2
    assert fingerprint in store.documents.table(["fingerprint"])["fingerprint"].to_pylist()
    assert [row["document_id"] for row in known if row["provenance"] != "table"] == [NFC]
    assert store.annotations.approved()["document_id"].to_pylist() == [NFC]


def test_a_source_that_has_lost_most_of_its_rows_is_held_until_somebody_confirms_it(
    team: Team, lake: Warehouse
) -> None:
    """A truncated file emptied the published table, and nobody had asked for that."""
    update_documents(lake, team.loaded)
    before = lake.application(NAME).documents.consumed()
    team.write_documents({f"{number}": team.text(number) for number in range(11)})

    with pytest.raises(DropHeld, match=r"11 rows are left of 40 documents: 29 fewer.*run tickets --accept-drop"):
        update_documents(lake, team.loaded)
    held = len(keys(lake)), lake.application(NAME).documents.consumed()
    update = update_documents(lake, team.loaded, accept_drop=True)

    assert held == (40, before)
    assert (update.change.deleted, len(keys(lake))) == (29, 11)


def test_a_file_of_nothing_is_refused_until_somebody_confirms_it(team: Team, lake: Warehouse) -> None:
    """Without a row, and without a header, it names no columns; that may be right, or a copy that was broken off."""
    update_documents(lake, team.loaded)
    (team.root / "tickets.csv").write_bytes(b"")

    with pytest.raises(ContractBroken, match=r"it is empty\. Write it again.*run with --accept-drop"):
        update_documents(lake, team.loaded)
    refused = len(keys(lake))
    update = update_documents(lake, team.loaded, accept_drop=True)
    team.write_documents({"1": team.text(1)})
    update_documents(lake, team.loaded)

    assert (refused, update.change.deleted, keys(lake)) == (40, 40, ["1"])


@pytest.mark.parametrize(
    ("left", "max_drop"),
    [
        pytest.param(range(20), 0.2, id="twenty-rows-may-always-leave"),
        pytest.param(range(30), 0.2, id="less-than-the-share"),
        pytest.param(range(100, 140), 0.2, id="others-came-instead"),
        pytest.param(range(0), 1.0, id="whatever-leaves-may"),
    ],
)
def test_what_a_source_may_lose_is_not_held(team: Team, lake: Warehouse, left: range, max_drop: float) -> None:
    """Documents come and go every day."""
    team.specification["source"]["max_drop"] = max_drop
    team.write_specification()
    update_documents(lake, team.loaded)
    team.write_documents({f"{number}": team.text(number) for number in left})

    update_documents(lake, team.loaded)

    assert len(keys(lake)) == len(left)


@pytest.mark.parametrize("hidden_by", ["update", "delete"])
def test_a_row_with_an_old_watermark_is_read_whatever_else_happened(tmp_path: Path, hidden_by: str) -> None:
    """The number of older rows is as before, and the new row was never read."""
    place = tmp_path / "desk.db"
    team = Team(tmp_path, "http://127.0.0.1:9", documents=0, warehouses={"desk": f"sqlite:{place}"})
    team.specification["source"] = {
        **{"warehouse": "desk", "table": "tickets", "key": "ticket", "text": "body", "attributes": ["team"]},
        "watermark": "changed_at",
    }
    team.write_specification()

    def run(*statements: str) -> None:
        with closing(sqlite3.connect(place, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)

    run(
        "CREATE TABLE tickets (ticket INTEGER, body TEXT, team TEXT, changed_at TEXT)",
        *(f"INSERT INTO tickets VALUES ({n}, 'text {n}', 'red', '2026-01-0{n}')" for n in range(1, 6)),
    )
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        run(
            "UPDATE tickets SET body = 'changed', changed_at = '2026-02-01' WHERE ticket = 2"
            if hidden_by == "update"
            else "DELETE FROM tickets WHERE ticket = 2",
            "DELETE FROM tickets WHERE ticket = 3",
            "INSERT INTO tickets VALUES (9, 'late', 'red', '2025-01-01')",
        )

        update = update_documents(lake, team.loaded)

        assert not update.full
        assert keys(lake) == ["1", *(["2"] if hidden_by == "update" else []), "4", "5", "9"]


@pytest.mark.parametrize("commits", [0, 2])
def test_a_lake_that_was_restored_from_a_backup_is_compared_whole(tmp_path: Path, commits: int) -> None:
    """Its snapshots are numbered again from there: every run was refused as overtaken, until their numbers met."""
    table = LakeTable(tmp_path / "up")
    table.write({f"{number}": f"text {number}" for number in range(30)})
    team = Team(tmp_path, "http://127.0.0.1:9", documents=0, warehouses={"desk": table.url})
    team.specification["source"] = table.source
    team.write_specification()
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        shutil.copy(table.catalog, tmp_path / "backup")
        table.run(*(f"UPDATE up.tickets SET body = 'lost' WHERE ticket = '{number}'" for number in (1, 2)))
        update_documents(lake, team.loaded)
    shutil.copy(tmp_path / "backup", table.catalog)
    table.run(
        *[f"UPDATE up.tickets SET body = body || '!' WHERE ticket = '{number}'" for number in (7, 8, 9)[:commits]]
    )

    with team.warehouse.open() as lake:
        before, now = consumed_and_current(lake, team.loaded)
        update = update_documents(lake, team.loaded)
        texts = dict(
            zip(*lake.application(NAME).documents.table(["document_id", "text"]).to_pydict().values(), strict=True)
        )
        again = update_documents(lake, team.loaded)
        broken = [one for one in lake.application(NAME).audit.findings() if one.broken]

    assert before is not None
    assert before.token != now.token
    assert broken == []
    assert (update.full, "another history" in update.reason) == (True, True)
    assert (texts["1"], texts["2"]) == ("text 1", "text 2")
    assert sum(text.endswith("!") for text in texts.values()) == commits
    assert (again.full, again.change.updated) == (False, 0)


def test_the_state_of_a_table_covers_its_keys(tmp_path: Path) -> None:
    """One row left and one came with an old watermark: number and largest watermark are the same, the table is not."""
    place = tmp_path / "desk.db"
    team = Team(tmp_path, "http://127.0.0.1:9", documents=0, warehouses={"desk": f"sqlite:{place}"})
    source = {"warehouse": "desk", "table": "tickets", "key": "ticket", "text": "body", "watermark": "changed_at"}
    team.specification |= {"source": source, "evaluation": {"gates": {}}}
    team.write_specification()
    with closing(sqlite3.connect(place, isolation_level=None)) as database:
        database.execute("CREATE TABLE tickets (ticket INTEGER, body TEXT, changed_at TEXT)")
        database.execute("INSERT INTO tickets VALUES (1, 'one', '2026-01-01'), (2, 'two', '2026-01-02')")
        with team.warehouse.open() as lake:
            before = lake.sources.state(team.loaded.application.source)
            database.execute("DELETE FROM tickets WHERE ticket = 1")
            database.execute("INSERT INTO tickets VALUES (3, 'three', '2025-01-01')")

            assert lake.sources.state(team.loaded.application.source) != before


def test_what_people_write_is_kept_without_what_no_column_can_hold(team: Team, lake: Warehouse) -> None:
    """A NUL in a note ends the SQL that DuckLake writes about its column, as one in a key does."""
    written = verdict("0", fingerprint="f", answer="SA\0D").model_copy(update={"body": "a\0b \ud800"})

    lake.application(NAME).annotations.append([written])

    (row,) = lake.application(NAME).annotations.table().to_pylist()
    assert (row["answer"], row["body"]) == ("SAD", "ab \ufffd")
