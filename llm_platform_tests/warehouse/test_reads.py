"""Who looked at texts is written down, without saying whose texts they were to whoever reads the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import fill
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

    resource.note_read("reviews", "explain --texts", rows=1, document_id=KEY)
    resource.note_read("reviews", "connect(): documents", rows=2)

    with Warehouse.attach(location, read_only=True) as lake:
        reads = lake.application("reviews").reads
        assert [(row["way"], row["rows"]) for row in reads.table().to_pylist()] == [
            ("explain --texts", 1),
            ("connect(): documents", 2),
        ]
        assert reads.table(document_id=KEY).num_rows == 1
        assert reads.table(document_id="another").num_rows == 0
        assert KEY not in repr(reads.table().to_pylist())


def test_a_role_that_may_only_read_still_reads(tmp_path: Path) -> None:
    """What it may see is the database's to decide; the log cannot be written, and that is said."""
    location = sqlite_location(tmp_path)
    resource = WarehouseResource(catalog=location.catalog, data_path="/proc/nowhere")

    resource.note_read("reviews", "connect(): documents", rows=1)
