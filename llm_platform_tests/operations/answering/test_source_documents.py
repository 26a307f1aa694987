"""Documents that are files: from a folder or a bucket to the documents of a lake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_platform.application.source import Source
from llm_platform.errors import DropHeld, SpecificationError, TransientError
from llm_platform.operations.answering.columns import row_mistakes, source_reader
from llm_platform.operations.answering.documents import located, update_documents
from llm_platform.operations.answering.source_look import look_at_source
from llm_platform.warehouse.engine import connect
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.sources import SourceReader
from llm_platform_tests.extraction.files import docx, mail, paragraph, pdf
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.team import NAME, Team

FILES = {
    "2026/letter.docx": docx(paragraph("The printer is on fire."), title="Letter"),
    "2026/scan.pdf": pdf(["Page one.", "Page two."], title="Scan"),
    "mails/1.eml": mail("Fire!", "It burns."),
    "page.html": b"<title>Page</title><p>It is loud.",
    "notes.md": b"# Notes\n\nAll is well.",
    "a.txt": b"Plain.",
    "broken.pdf": b"%PDF-1.4 garbage",
    "sheet.xlsx": b"PK\x03\x04",
    "latin.txt": b"caf\xe9",
    "~$letter.docx": b"somebody writes",
    ".hidden/x.txt": b"not read",
}


@pytest.fixture
def team(tmp_path: Path) -> Team:
    team = Team(tmp_path, "http://127.0.0.1:9", documents=40)
    team.specification["source"] = {"files": "../../papers", "attributes": ["title", "pages", "media_type", "sha256"]}
    team.specification["evaluation"].pop("slices", None)
    team.write_specification()
    for name, data in FILES.items():
        write(team, name, data)
    return team


@pytest.fixture
def lake(team: Team) -> Iterator[Warehouse]:
    with team.warehouse.open() as opened:
        yield opened


def write(team: Team, name: str, data: bytes) -> Path:
    path = team.root / "papers" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def stored(lake: Warehouse) -> dict[str, dict[str, Any]]:
    return {row["document_id"]: row for row in lake.application(NAME).documents.table().to_pylist()}


def test_each_file_is_a_document_and_what_cannot_be_read_is_one_with_its_reason(team: Team, lake: Warehouse) -> None:
    """Nobody wants a table first; and of a thousand files one is always broken."""
    update = update_documents(lake, team.loaded)
    rows = stored(lake)

    assert (update.full, update.change.inserted) == (True, 9)
    assert {key: row["text"] for key, row in rows.items() if row["status"] == "sendable"} == {
        "2026/letter.docx": "The printer is on fire.",
        "2026/scan.pdf": "Page one.\n\nPage two.",
        "mails/1.eml": "It burns.",
        "page.html": "It is loud.",
        "notes.md": "# Notes\n\nAll is well.",
        "a.txt": "Plain.",
    }
    assert '"pages":"2"' in rows["2026/scan.pdf"]["attributes"]
    assert '"title":"Scan"' in rows["2026/scan.pdf"]["attributes"]
    assert {key: row["reason"] for key, row in rows.items() if row["status"] != "sendable"} == {
        "broken.pdf": "the PDF is damaged",
        "latin.txt": "not UTF-8: byte 0xe9 at position 3 of 4 bytes",
        "sheet.xlsx": "files .xlsx are not read, only .docx, .eml, .htm, .html, .markdown, .md, .pdf, .text, .txt, "
        ".xhtml",
    }
    assert lake.application(NAME).documents.not_sendable(1) == [("undecodable", "the PDF is damaged", 1, "broken.pdf")]


def test_only_files_that_are_others_are_read_again(team: Team, lake: Warehouse) -> None:
    """Reading ten thousand scans takes a day; a mended file becomes a document, one that is gone leaves."""
    update_documents(lake, team.loaded)
    write(team, "broken.pdf", pdf(["Mended."]))
    write(team, "new.txt", b"New.")
    (team.root / "papers" / "a.txt").unlink()

    update = update_documents(lake, team.loaded)
    rows = stored(lake)
    again = update_documents(lake, team.loaded)

    assert (update.full, update.reason) == (False, "1 files new, 1 changed, 1 gone")
    assert (update.change.inserted, update.change.updated, update.change.deleted) == (1, 1, 1)
    assert (rows["broken.pdf"]["text"], rows["new.txt"]["text"]) == ("Mended.", "New.")
    assert "a.txt" not in rows
    assert (again.full, again.change.updated, again.change.deleted) == (False, 0, 0)


def test_odd_files_are_documents_with_a_reason_too(team: Team, lake: Warehouse) -> None:
    """A link to nothing, or a name in an old encoding, is no reason to read none of the others."""
    (team.root / "papers" / "link.pdf").symlink_to(team.root / "nowhere.pdf")
    (team.root / "papers" / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"Old name.")

    update_documents(lake, team.loaded)
    rows = stored(lake)
    (team.root / "nowhere.pdf").write_bytes(pdf(["Found."]))
    update_documents(lake, team.loaded)

    assert (rows["link.pdf"]["status"], rows["link.pdf"]["reason"]) == ("undecodable", "it is a link to nothing")
    assert rows["caf\\xe9.txt"]["text"] == "Old name."
    assert stored(lake)["link.pdf"]["text"] == "Found."


def test_files_whose_names_look_alike_are_one_document_until_one_is_renamed(team: Team, lake: Warehouse) -> None:
    """A folder that a Mac has written into has both; which one is meant nobody can tell. Other files are read."""
    composed, decomposed = "2026/caf\u00e9.txt", "2026/cafe\u0301.txt"
    write(team, composed, b"One.")
    update_documents(lake, team.loaded)
    alone = stored(lake)[composed]["text"]
    other = write(team, decomposed, b"Two.")
    update_documents(lake, team.loaded)
    both = stored(lake)[composed]
    whole = update_documents(lake, team.loaded, full=True).change.updated
    other.unlink()
    update_documents(lake, team.loaded)

    assert alone == "One."
    assert (both["status"], both["reason"][:23]) == ("undecodable", "2 files have this name,")
    assert whole == 0
    assert stored(lake)[composed]["text"] == "One."
    assert len(stored(lake)) == 10


def test_files_that_move_while_they_are_read_stop_nothing(team: Team) -> None:
    """A spool is never still; what was taken away leaves, what was written again is read the next time."""
    source = located(team.loaded.application.source, team.loaded.application)
    with source_reader({}) as reader:
        changes = reader.changes(source, None)
        (team.root / "papers" / "a.txt").unlink()
        (team.root / "papers" / "notes.md").write_bytes(b"Other notes.")
        read = {row["path"] for part in changes.rows for row in part.to_pylist()}
        later = reader.changes(source, changes.state)
        again = {row["path"] for part in later.rows for row in part.to_pylist()}

        moved = reader.changes(source, None)
        (team.root / "papers").rename(team.root / "away")
        with pytest.raises(TransientError, match="No such file"):
            list(moved.rows)

    assert "a.txt" not in read
    assert "notes.md" in read
    assert (again, later.deleted) == ({"notes.md"}, ["a.txt"])


def test_a_folder_that_is_empty_or_lost_takes_no_document_away(team: Team, lake: Warehouse) -> None:
    """A share that is not mounted is an empty folder."""
    for number in range(60):
        write(team, f"many/{number}.txt", f"Text {number}.".encode())
    update_documents(lake, team.loaded)

    (team.root / "papers").rename(team.root / "away")
    with pytest.raises(TransientError, match="No such file"):
        update_documents(lake, team.loaded)
    (team.root / "papers").mkdir()
    with pytest.raises(TransientError, match="a place without files is not an empty table"):
        update_documents(lake, team.loaded)
    write(team, "a.txt", b"Plain.")
    with pytest.raises(DropHeld, match="68 fewer"):
        update_documents(lake, team.loaded)

    assert len(stored(lake)) == 69


def test_a_check_of_files_says_what_could_not_be_read(team: Team) -> None:
    """Before a night of scans is sent somewhere, one looks what they are."""
    with source_reader({}) as reader:
        look = look_at_source(team.loaded.application, reader)
        mistakes = row_mistakes(team.loaded.application, reader, most=100)[0]

    assert (look.rows, look.refused, mistakes) == (9, [], [])
    assert look.followed == "9 files, each by itself; only those that change are read"
    assert "Texts: 6 can be sent; 3 are undecodable." in look.notes


def test_documents_are_read_from_a_bucket(tmp_path: Path) -> None:
    """Scans land in buckets; nothing of them is written to this machine's disk."""
    with bucket_named("papers") as (access, client):
        for name, data in FILES.items():
            client.put_object(Bucket="papers", Key=f"in/{name}", Body=data)
        with closing(connect(1)) as connection:
            reader = SourceReader(connection, {}, s3=access)
            changes = reader.changes(Source(files="s3://papers/in/**/*.pdf"), None)  # type: ignore[call-arg]
            rows = {row["path"]: row for part in changes.rows for row in part.to_pylist()}

    assert {path: (row["text"], row["refused"]) for path, row in rows.items()} == {
        "2026/scan.pdf": (b"Page one.\n\nPage two.", None),
        "broken.pdf": (None, "the PDF is damaged"),
    }
    assert rows["2026/scan.pdf"]["media_type"] == "application/pdf"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"files": "papers", "url": "x.csv"}, "give either 'files'"),
        ({"files": "papers", "attributes": ["author"]}, "columns are path, text, title"),
        ({"files": "papers", "watermark": "modified"}, "there is no watermark"),
        ({"key": "id", "text": "body"}, "give 'url'"),
        ({"url": "x.csv", "key": "id", "text": "body", "slot": "tickets"}, "'slot' is of a table in Postgres"),
        (
            {"warehouse": "crm", "table": "t", "key": "id", "text": "body", "slot": "t", "watermark": "at"},
            "without a 'watermark'",
        ),
        ({"warehouse": "crm", "table": "t", "key": "id", "text": "body", "slot": "My Slot"}, "slot"),
        ({"url": "x.csv", "key": "id", "text": "body", "publication": "p"}, "'publication' is what a 'slot' is read"),
    ],
)
def test_a_source_that_cannot_be_is_a_mistake_at_its_line(team: Team, source: dict[str, Any], said: str) -> None:
    """Everything wrong with the file is said before anything is read."""
    team.specification["source"] = source
    team.write_specification()

    with pytest.raises(SpecificationError, match=said):
        team.loaded  # noqa: B018
