"""`llm-platform forget` for a document that is not there yet."""

from __future__ import annotations

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
