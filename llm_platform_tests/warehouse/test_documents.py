"""`documents` follow their source."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from llm_platform.errors import ContractBroken, TransientError
from llm_platform.records import SourceState
from llm_platform.warehouse import session
from llm_platform.warehouse.changes import AllBut
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import batch, consumed, document


def test_an_empty_lake_reads_as_empty(local_lake: Warehouse) -> None:
    """Readers must not need to know whether anything was ever written, and reading must not write."""
    documents = local_lake.application("reviews").documents

    assert documents.consumed() is None
    assert documents.counts() == {}
    assert documents.table().num_rows == 0
    assert local_lake.snapshot() == 0


def test_inserts_updates_and_deletes_are_counted(lake: Warehouse) -> None:
    """The counts are what a run reports: they must say what happened to each document."""
    documents = lake.application("reviews").documents
    documents.apply(batch(document(key) for key in "abcd"), deleted=None, full=True, consumed=consumed(1))

    rows = batch([document("a"), document("b", fingerprint="another"), document("e", status="empty")])
    change = documents.apply(rows, deleted=["c"], full=False, consumed=consumed(2))

    assert (change.inserted, change.updated, change.deleted, change.unchanged) == (1, 1, 1, 1)
    assert documents.table(["document_id"]).column(0).to_pylist() == ["a", "b", "d", "e"]
    assert documents.counts() == {"empty": 1, "sendable": 3}
    assert documents.consumed() == consumed(2)


def test_a_full_read_removes_what_is_absent(local_lake: Warehouse) -> None:
    """After a replaced source table nothing else says what has left."""
    documents = local_lake.application("reviews").documents
    documents.apply(batch(document(key) for key in "abc"), deleted=None, full=True, consumed=consumed(1))

    change = documents.apply(batch([document("b")]), deleted=None, full=True, consumed=consumed(2))

    assert (change.deleted, change.unchanged) == (2, 1)


def test_keys_still_present_remove_all_others(local_lake: Warehouse) -> None:
    """A source without a record of deletions says only what it still has."""
    documents = local_lake.application("reviews").documents
    documents.apply(batch(document(key) for key in "abc"), deleted=None, full=True, consumed=consumed(1))

    present = AllBut(pa.table({"document_id": ["a", "c", "d"]}))
    change = documents.apply(batch([document("d")]), deleted=present, full=False, consumed=consumed(2))

    assert (change.inserted, change.deleted) == (1, 1)
    assert documents.table(["document_id"]).column(0).to_pylist() == ["a", "c", "d"]


def test_applying_the_same_twice_makes_no_snapshot(lake: Warehouse) -> None:
    """A second run that finds nothing new must leave no trace in the lake."""
    documents = lake.application("reviews").documents
    first = documents.apply(batch([document("a")]), deleted=None, full=True, consumed=consumed(1))

    second = documents.apply(batch([document("a")]), deleted=None, full=True, consumed=consumed(1))

    assert second.changed == 0
    assert second.snapshot_id == first.snapshot_id == lake.snapshot()


def test_a_new_state_alone_is_stored(local_lake: Warehouse) -> None:
    """When the source has moved without a change for us, the sensor must not ask again."""
    documents = local_lake.application("reviews").documents
    documents.apply(batch([document("a")]), deleted=None, full=True, consumed=consumed(1))

    documents.apply([], deleted=[], full=False, consumed=consumed(2))

    assert documents.consumed() == consumed(2)
    assert documents.counts() == {"sendable": 1}


def test_duplicate_keys_are_refused_and_nothing_is_written(local_lake: Warehouse) -> None:
    """Two rows with one key would make the published table ambiguous."""
    documents = local_lake.application("reviews").documents

    with pytest.raises(ContractBroken, match=r"1 document keys occur more than once \(first: 'a'\)"):
        documents.apply(
            batch([document("a"), document("b"), document("a")]), deleted=None, full=True, consumed=consumed()
        )

    assert documents.consumed() is None


def test_an_error_of_the_reader_passes_through_and_nothing_is_written(local_lake: Warehouse) -> None:
    """A source that breaks in the middle must not look like a smaller source."""

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batch([document("a")])
        raise TransientError("the connection broke")

    documents = local_lake.application("reviews").documents

    with pytest.raises(TransientError, match="the connection broke"):
        documents.apply(broken(), deleted=None, full=True, consumed=consumed())

    assert documents.counts() == {}


def test_what_is_read_before_is_on_disk_while_the_reader_goes_on(
    local_lake: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first read was held in memory, up to four fifths of the machine's."""
    monkeypatch.setattr(session, "SPARING_MIB", (4, 8))
    spilled: list[int] = []

    def rows() -> Iterator[pa.RecordBatch]:
        for first in range(0, 4_000, 1_000):
            held = local_lake._connection.execute("SELECT count(*) FROM duckdb_temporary_files()").fetchall()
            spilled.append(held[0][0])
            numbers = range(first, first + 1_000)
            yield from batch(document(f"{number:04d}", text=f"{number} letters " * 600) for number in numbers)

    store = local_lake.application("reviews")
    counts = store.documents.apply(rows(), deleted=None, full=True, consumed=consumed())

    assert counts.inserted == 4_000
    assert spilled[0] == 0
    assert spilled[-1] > 0
    limit = local_lake._connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]
    assert limit not in ("4.0 MiB", "8.0 MiB")


def at_lsn(lsn: str) -> SourceState:
    return SourceState(kind="slot", token=lsn, table_id="t", lsn=lsn)


@pytest.mark.parametrize(
    ("older", "newer", "said"),
    [(consumed(4), consumed(5), "snapshot 5"), (at_lsn("F/0"), at_lsn("10/0"), "10/0 of the WAL")],
    ids=["snapshot", "slot"],
)
def test_an_older_state_is_refused(local_lake: Warehouse, older: SourceState, newer: SourceState, said: str) -> None:
    """A slow run that read the source earlier must not undo a later one."""
    documents = local_lake.application("reviews").documents
    documents.apply(batch([document("a")]), deleted=None, full=True, consumed=newer)

    with pytest.raises(TransientError, match=f"already read the source up to {said}"):
        documents.apply(batch([document("b")]), deleted=None, full=True, consumed=older)


def test_the_data_version_depends_on_content_only(local_lake: Warehouse) -> None:
    """Automation reacts to data versions: order and time of writing must not move them, content must."""
    one, two = local_lake.application("one").documents, local_lake.application("two").documents
    one.apply(batch(document(key) for key in "abc"), deleted=None, full=True, consumed=consumed(1))
    two.apply(batch(document(key) for key in "cb"), deleted=None, full=True, consumed=consumed(1))
    two.apply(batch([document("a")]), deleted=[], full=False, consumed=consumed(2))

    assert one.data_version() == two.data_version()
    two.apply(batch([document("a", status="empty")]), deleted=[], full=False, consumed=consumed(3))
    assert one.data_version() != two.data_version()


def test_documents_can_be_read_as_they_were(lake: Warehouse) -> None:
    """A completion names the snapshot it was made from; one must be able to look at that."""
    documents = lake.application("reviews").documents
    before = documents.apply(batch([document("a")]), deleted=None, full=True, consumed=consumed(1)).snapshot_id
    documents.apply(batch([document("b")]), deleted=None, full=True, consumed=consumed(2))

    assert documents.table(["document_id"], at_snapshot=before).column(0).to_pylist() == ["a"]
    assert lake.frame("reviews", "documents", at_snapshot=before).num_rows == 1
    assert lake.frame("reviews", "documents", at_snapshot=0).num_rows == 0
