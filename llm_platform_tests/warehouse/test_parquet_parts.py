"""A Parquet copy that is made of an older one is what the whole table would give."""

from __future__ import annotations

import os
import random
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from llm_platform.contracts.files import contract_files
from llm_platform.records.contracts import text_contract
from llm_platform.warehouse import copies
from llm_platform.warehouse.copies import FolderPlace, state_of, write_parquet
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.parquet_parts import CopiedPart, NotReadable, join, read_footer
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, batch, consumed, document, fill

CONTRACT = text_contract(1, application="reviews")


@pytest.mark.slow
def test_a_copy_follows_random_changes_and_is_what_a_whole_one_would_be(
    local_lake: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten rows of a million must not cost a million; and one row that a reader misses would be missed for ever."""
    monkeypatch.setattr(copies, "GROUP_ROWS", 2_048)
    draw, store, place = random.Random(2), local_lake.application("reviews"), FolderPlace(tmp_path / "copies")
    fill(local_lake, [f"{number:06d}" for number in range(0, 30_000, 3)])
    _publish(local_lake, store, place)
    whole_ones = []
    monkeypatch.setattr(copies, "write_parquet", lambda *given, **named: whole_ones.append(write(*given, **named)))
    write = write_parquet
    changes = [
        (["000001", "000002"], []),  # inside of the first group
        (["99é", "999999"], ["000000"]),  # behind all and not ASCII; the first of all
        ([f"{draw.randrange(30_000):06d}" for _ in range(1)], [f"{draw.randrange(0, 30_000, 3):06d}"]),
        ([], [f"{number:06d}" for number in range(12_000, 14_700, 3)]),  # up to the end of a group and further
        ([], ["010002"]),
        ([], [f"{number:06d}" for number in range(16_000 // 3 * 3, 28_000, 3)]),  # whole groups: more than is patched
        (["029999"], []),
    ]
    for number, (written, gone) in enumerate(changes, start=2):
        rows = batch([document(key, fingerprint=f"{key} {number}") for key in written])
        left = [key for key in gone if key not in written]
        store.documents.apply(rows, deleted=left, full=False, consumed=consumed(number))

        _publish(local_lake, store, place)

        _require_equal(local_lake, store, place)
    assert len(whole_ones) == 1


def test_a_copy_that_is_not_of_this_table_is_written_whole(local_lake: Warehouse, tmp_path: Path) -> None:
    """Only a file that says which state of which table it is can be believed in parts."""
    store, place = local_lake.application("reviews"), FolderPlace(tmp_path / "copies")
    fill(local_lake, [f"{number:03d}" for number in range(300)])
    _publish(local_lake, store, place)
    copy = tmp_path / "copies" / "published_v1.parquet"
    for number, damage in enumerate(
        [
            lambda: copy.write_bytes(b"PAR1 and nothing of the kind"),
            lambda: copy.write_bytes(copy.read_bytes()[:-100] + bytes(92) + copy.read_bytes()[-8:]),
            copy.unlink,
            lambda: duckdb.execute(f"COPY (SELECT 'x' AS document_id) TO '{copy}' (FORMAT parquet)"),
            lambda: _without_rows(copy),
        ],
        start=2,
    ):
        rows = batch([document("001", fingerprint=f"text {number}")])
        store.documents.apply(rows, deleted=(), full=False, consumed=consumed(number))
        damage()

        _publish(local_lake, store, place)

        _require_equal(local_lake, store, place)


def test_row_groups_of_any_writer_are_moved(tmp_path: Path) -> None:
    """What is copied as bytes must be read by every reader, whatever codec and types its columns have."""
    made = []
    for number, codec in enumerate(("snappy", "zstd", "uncompressed")):
        made.append(tmp_path / f"{number}.parquet")
        duckdb.execute(
            f"COPY (SELECT format('{{:05d}}', i) AS k, i AS n, [i, NULL] AS l, {{'a': i::DOUBLE}} AS s, "
            "i % 2 = 0 AS b, "
            "TIMESTAMPTZ '2030-01-01' + i * INTERVAL 1 MINUTE AS t, NULL::VARCHAR AS nothing "
            f"FROM range({number} * 5000, {number + 1} * 5000) r(i)) "
            f"TO '{made[-1]}' (FORMAT parquet, ROW_GROUP_SIZE 2048, CODEC '{codec}')"
        )
    footers = [read_footer(one, "k") for one in made]
    parts = [
        CopiedPart(made[2], footers[2].groups),
        CopiedPart(made[0], footers[0].groups[::-1]),
        CopiedPart(made[1], footers[1].groups),
    ]

    rows = join(parts, tmp_path / "joined.parquet", like=footers[0], marks={"a": "é"})

    joined = pq.read_table(tmp_path / "joined.parquet")
    assert rows == len(joined) == 15_000
    assert joined.sort_by("k").equals(pq.read_table(made).replace_schema_metadata(joined.schema.metadata).sort_by("k"))
    every = f"SELECT count(*), bit_xor(hash(t)) FROM read_parquet({list(map(str, made))}) t"
    alone = f"SELECT count(*), bit_xor(hash(t)) FROM read_parquet('{tmp_path / 'joined.parquet'}') t"
    assert duckdb.execute(every).fetchall() == duckdb.execute(alone).fetchall()
    assert read_footer(tmp_path / "joined.parquet", "k").marks == {"a": "é"}
    assert (footers[0].groups[0].smallest, footers[0].groups[0].largest) == (b"00000", b"02047")


def test_a_copy_that_takes_the_place_of_another_within_a_second_is_read_anew(
    local_lake: Warehouse, tmp_path: Path
) -> None:
    """Same size, same second, and on most file systems the inode that has just become free."""
    if local_lake.location.is_remote:
        pytest.skip("the engine keeps files of a store by their entity tags")
    file = tmp_path / "copy.parquet"
    for number in range(20):
        file.unlink(missing_ok=True)
        duckdb.execute(
            f"COPY (SELECT 'a' AS k) TO '{file}' (FORMAT parquet, KV_METADATA {{llm_platform_state: '{number:04d}'}})"
        )

        assert state_of(local_lake._session, str(file)) == f"{number:04d}"


def test_what_is_no_parquet_file_is_said_to_be_none(tmp_path: Path) -> None:
    """A footer of noise must not become a copy of noise."""
    draw, good = random.Random(1), tmp_path / "good.parquet"
    duckdb.execute(f"COPY (SELECT 'a' AS k FROM range(100)) TO '{good}' (FORMAT parquet)")
    whole = good.read_bytes()
    bad = tmp_path / "bad.parquet"
    for content in (b"", b"PAR1", whole[:-1], os.urandom(500) + whole[-8:]):
        bad.write_bytes(content)
        with pytest.raises(NotReadable):
            read_footer(bad, "k")
    for _ in range(200):
        broken = bytearray(whole)
        broken[draw.randrange(len(whole) - 100, len(whole) - 8)] = draw.randrange(256)
        bad.write_bytes(bytes(broken))
        try:
            read_footer(bad, "k")
        except NotReadable:
            continue


def _publish(lake: Warehouse, store: ApplicationStore, place: FolderPlace) -> None:
    answer_all(lake)
    store.published.publish(RELEASE_ID, [CONTRACT])
    store.copies.bring([CONTRACT], [place], files=contract_files)


def _require_equal(lake: Warehouse, store: ApplicationStore, place: FolderPlace) -> None:
    """The copy, as two readers see it, is what is in the lake, in order, and says so."""
    file = place.folder / "published_v1.parquet"
    original = store.copies._originals([CONTRACT], full=False)[0]
    wanted = lake._session._ask(original.select)
    assert duckdb.execute(f"SET TimeZone = 'UTC'; SELECT * FROM read_parquet('{file}')").fetchall() == wanted
    assert pq.read_table(file)["document_id"].to_pylist() == [row[0] for row in wanted]
    assert state_of(lake._session, str(file)) == original.state
    assert [path.name for path in place.folder.iterdir() if path.name.startswith(".")] == []


def _without_rows(copy: Path) -> None:
    """A copy that says what it is, and lacks rows."""
    footer = read_footer(copy, "document_id")
    rest = copy.with_suffix(".rest")
    duckdb.execute(
        f"COPY (SELECT * FROM read_parquet('{copy}') WHERE document_id <> '007') TO '{rest}' (FORMAT parquet)"
    )
    join([CopiedPart(rest, read_footer(rest, "document_id").groups)], copy, like=footer, marks=footer.marks)
    rest.unlink()
