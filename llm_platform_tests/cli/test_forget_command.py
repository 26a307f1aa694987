"""`llm-platform forget` for a document that is not there yet."""

from __future__ import annotations

from pathlib import Path

from llm_platform.cli.forget import _lines
from llm_platform.operations.answering.documents import update_documents
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME, Team

NEW = "patient-8"


def test_a_document_that_is_not_there_is_barred_from_coming_in_only_where_that_is_said(fresh: Terminal) -> None:
    """A slip of the key must not look like a document that was forgotten; an objection in advance is no slip."""
    team = fresh.team
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)

    mistyped = fresh.run("forget", NAME, "0", NEW, "--yes")
    barred = fresh.run("forget", NAME, NEW, "--yes", "--absent", "--reason", "an objection in advance")
    team.write_documents({**{str(number): Team.text(number) for number in range(10)}, NEW: "what nobody may read"})
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        keys = lake.application(NAME).documents.table(["document_id"])["document_id"].to_pylist()

    assert mistyped.failed_plainly, mistyped.said
    assert "nothing of 1 of these 2 documents" in mistyped.err
    assert "number 2 as they were named" in mistyped.err
    assert "add --absent" in mistyped.err
    assert barred.status == 0, barred.said
    assert "1 documents are forgotten" in barred.out
    assert sorted(keys) == sorted(str(number) for number in range(10))


def test_a_file_of_keys_has_one_in_each_line_whatever_stands_in_it(tmp_path: Path) -> None:
    """Half of a key may be the key of a document that nobody wanted to be forgotten."""
    keys = ["a\u2028b", "c\x85d", "e\x0bf", " g ", "h\ri"]
    file = tmp_path / "keys.txt"
    file.write_bytes("\n".join(keys).encode() + b"\n")
    windows = tmp_path / "windows.txt"
    windows.write_bytes(b"\xef\xbb\xbfa\r\n\r\nb\r\n")

    assert _lines(file) == keys
    assert _lines(windows) == ["a", "b"]
