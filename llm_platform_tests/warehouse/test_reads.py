"""Who looked at texts is written down, without saying whose texts they were to whoever reads the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.lake import Warehouse
from llm_platform.workbench import notebook
from llm_platform_tests.warehouse.builders import NOON, fill
from llm_platform_tests.warehouse.conftest import sqlite_location

KEY = "patient-7"


def test_a_look_is_written_down_and_names_the_document_to_who_has_the_key_only(tmp_path: Path) -> None:
    """A log of whose records were read must not itself be a list of whose records there are."""
    location = replace(sqlite_location(tmp_path), signing_key=str(tmp_path / "key.pem"))
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
    resource = WarehouseResource(
        catalog=location.catalog, data_path=location.data_path, signing_key=location.signing_key
    )

    resource.note_read("reviews", "explain --texts", document_ids=[KEY])
    resource.note_read("reviews", "connect(): documents", rows=2)

    with Warehouse.attach(location, read_only=True) as lake:
        reads = lake.application("reviews").reads
        assert [(row["way"], row["rows"]) for row in reads.table().to_pylist()] == [
            ("explain --texts", 1),
            ("connect(): documents", 2),
        ]
        assert reads.table(document_id=KEY).num_rows == 2
        assert reads.table(document_id="another")["way"].to_pylist() == ["connect(): documents"]
        assert KEY not in repr(reads.table().to_pylist())


def test_a_role_that_may_only_read_still_reads(tmp_path: Path) -> None:
    """What it may see is the database's to decide; the log cannot be written, and that is said."""
    location = sqlite_location(tmp_path)
    resource = WarehouseResource(catalog=location.catalog, data_path="/proc/nowhere")

    resource.note_read("reviews", "connect(): documents", rows=1)


def test_looks_are_only_ever_added(tmp_path: Path) -> None:
    """Whoever looked must not be able to take it back, nor a later look hide an earlier one."""
    location = replace(sqlite_location(tmp_path), signing_key=str(tmp_path / "key.pem"))
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        reads = lake.application("reviews").reads
        for number in range(3):
            reads.append("review page: audit", by="ada", at=NOON, document_ids=[f"{number}", "b"])

        kinds = lake.application("reviews")._session.kinds_of_change(0, "reviews", "reads")

        assert reads.table().num_rows == 6
        assert kinds == {"insert"}


def test_a_look_at_a_whole_table_is_a_look_at_each_document_in_it(tmp_path: Path) -> None:
    """Who asks whether anybody read a record must be told of those who read them all."""
    location = replace(sqlite_location(tmp_path), signing_key=str(tmp_path / "key.pem"))
    with Warehouse.attach(location) as lake:
        fill(lake, "ab")
        reads = lake.application("reviews").reads
        reads.append("connect(): documents", by="ada", at=NOON, rows=2)
        reads.append("explain --texts", by="bob", at=NOON, document_ids=["a"])
        reads.append("explain --texts", by="eve", at=NOON, document_ids=["b"])

        assert sorted(row["by"] for row in reads.table(document_id="a").to_pylist()) == ["ada", "bob"]


def test_every_table_that_quotes_texts_is_known_to_do_so() -> None:
    """A new table with documents in it must not be read without an entry."""
    assert {
        *("documents", "online_documents", "references", "annotations", "completions", "retried_completions"),
        *("example_pools", "training_examples", "calls", "prompts", "scores"),
    } <= notebook.QUOTING
