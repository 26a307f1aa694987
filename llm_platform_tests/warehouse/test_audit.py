"""What must always be so is asked of the tables themselves."""

from __future__ import annotations

import pytest
from pyarrow import fs

from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, event, fill, release
from llm_platform_tests.warehouse.test_small_tables import references

BREAKS = {
    "one row for each document_id": "INSERT INTO {0}.documents SELECT * FROM {0}.documents LIMIT 1",
    "one row for each release_id and fingerprint": "INSERT INTO {0}.completions SELECT * FROM {0}.completions LIMIT 1",
    "published_v1: one row": "INSERT INTO {0}.published_v1 SELECT * FROM {0}.published_v1 LIMIT 1",
    "a release that somebody decided for": "UPDATE {0}.published_v1 SET release_id = 'nobody''s'",
    "a valid answer in the ledger": "DELETE FROM {0}.completions",
    "lies over a newer one": "; ".join(
        'UPDATE {0}.documents_consumed SET state = json_merge_patch(state, \'{{"snapshot_id": ' + at + "}}')"
        for at in ("9", "8")
    ),
    "kept rows": "UPDATE {0}.tallies SET content = replace(content, 'HAPPY', 'SAD') WHERE starts_with(name, 'rows/')",
    "counting everything": "UPDATE {0}.tallies SET content = replace(content, '\"documents\": 3', '\"documents\": 4')",
}


@pytest.fixture
def published(local_lake: Warehouse) -> Warehouse:
    """Three documents, answered and published."""
    store = local_lake.application("reviews")
    fill(local_lake, ["a", "b", "c"])
    store.releases.put(release())
    answer_all(local_lake)
    store.rollout.append(event("e1"), expected_previous=None)
    store.published.publish(RELEASE_ID, 1)
    store.documents.counts()
    store.references.replace(references([("a", "HAPPY", "evaluation")]))
    store.completions.tally(RELEASE_ID)
    store.completions.answered(RELEASE_ID, document_ids=["a"])
    store.tallies.keep()
    return local_lake


def test_an_audit_of_what_was_written_finds_nothing(published: Warehouse) -> None:
    """Who audits after an accident has to be able to believe both answers."""
    assert [one.claim for one in published.application("reviews").audit.findings() if one.broken] == []


@pytest.mark.parametrize("claim", BREAKS)
def test_an_audit_finds_what_is_broken(published: Warehouse, claim: str) -> None:
    """An audit that cannot fail says nothing."""
    published._connection.execute(BREAKS[claim].format("lake.reviews"))
    published._session.counted.clear()

    broken = [one for one in published.application("reviews").audit.findings() if one.broken]

    assert [one for one in broken if claim in one.claim], broken


@pytest.mark.parametrize("how", ["deleted", "cut off"])
def test_a_file_that_is_gone_is_one_finding_among_others(published: Warehouse, how: str) -> None:
    """Some tables are read by no claim, and what is lost in one says nothing of the rest."""
    store, location = published.application("reviews"), published.location
    files: fs.FileSystem = fs.LocalFileSystem() if location.s3 is None else location.s3.file_system()
    for table in ("releases", "tallies", "rollout"):
        folder = fs.FileSelector(f"{location.data_path.removeprefix('s3://')}/reviews/{table}")
        for path in [one.path for one in files.get_file_info(folder)]:
            with files.open_input_stream(path) as whole:
                data = whole.read()
            files.delete_file(path)
            if how == "cut off":
                with files.open_output_stream(path) as cut:
                    cut.write(data[:-20])

    found = {one.claim: one for one in store.audit.findings()}

    gone = found["files: each that the catalog names is there, as long as it says"]
    assert gone.broken >= 3
    assert (gone.first or "").startswith("ducklake-")
    assert found["documents: one row for each document_id"].broken == 0
    assert found["releases: one row for each release_id"] == (
        "releases: one row for each release_id",
        1,
        "a table that this is about cannot be read",
    )
    assert found["leases: none of a process that is gone"].broken == 1
