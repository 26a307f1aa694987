"""The lake read by other tools: the page about its tables, and the statements that attach it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from llm_platform.errors import StorageError
from llm_platform.records.tables import DOCUMENTS_SCHEMA
from llm_platform.settings.settings import CHECKOUT
from llm_platform.warehouse.engine import extension_path
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.reading import reading_statements
from llm_platform.warehouse.schema_page import COLUMN_WORDS, TABLE_WORDS, lake_page, tables, words_of
from llm_platform_tests.warehouse.conftest import sqlite_location

PAGE = CHECKOUT / "docs" / "lake.md"


def written(location: LakeLocation) -> None:
    """A lake with one table of one document."""
    row = {
        "document_id": "a",
        "fingerprint": "f",
        "text": "Broken",
        "attributes": "{}",
        "bucket": 0,
        "status": "sendable",
    }
    batch = pa.RecordBatch.from_pylist([row], schema=DOCUMENTS_SCHEMA)
    with Warehouse.attach(location, threads=1) as lake:
        lake.application("tickets").documents.apply([batch], deleted=None, full=True, consumed=None)


def test_every_table_and_column_has_words_and_no_word_is_without_one() -> None:
    """Whoever reads a lake has only the page; a column that was added is described with it, in `schema_page.py`."""
    undescribed = [f"{table}.{column}" for table, columns in tables().items() for column in columns]
    undescribed = [name for name in undescribed if not words_of(*name.split("."))]
    there = {f"{table}.{column}" for table, columns in tables().items() for column in columns}
    there |= {name.partition(".")[2] for name in there}

    assert undescribed == []
    assert set(tables()) == set(TABLE_WORDS)
    assert set(COLUMN_WORDS) <= there


def test_the_page_of_the_lake_is_what_the_code_says() -> None:
    """Made anew by `llm-platform lake schema --markdown`."""
    assert PAGE.read_text(encoding="utf-8") == lake_page()


def test_the_printed_statements_read_the_lake_and_cannot_write_it(tmp_path: Path) -> None:
    """They are pasted into a tool that knows nothing of keys and leases."""
    location = sqlite_location(tmp_path)
    written(location)

    with duckdb.connect() as reader:
        reader.execute(reading_statements(location))
        found = reader.sql("SELECT document_id, text FROM lake.tickets.documents").fetchall()
        with pytest.raises(duckdb.Error, match="read-only"):
            reader.execute("DELETE FROM lake.tickets.documents")

    assert found == [("a", "Broken")]


def test_the_attach_of_the_page_reads_a_lake_of_the_state_folder(tmp_path: Path) -> None:
    """It is copied as it stands, into a Python that has nothing of ours."""
    folder = tmp_path / ".llm_platform" / "namespaces" / "main"
    written(LakeLocation(f"sqlite:{folder / 'catalog.sqlite'}", str(folder / "data")))
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    attach = block[block.index("ATTACH") : block.index(";", block.index("ATTACH")) + 1]
    # Extensions by path instead of INSTALL, which downloads.
    loads = "".join(f"LOAD '{extension_path(name)}';" for name in ("ducklake", "sqlite_scanner"))
    program = f"import duckdb; c = duckdb.connect(); c.execute({loads + attach!r}); "
    program += "print(c.sql('SELECT text FROM lake.tickets.documents').fetchall())"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "[('Broken',)]", done.stderr
    assert all(f"INSTALL {name};" in block for name in ("ducklake", "sqlite"))


@pytest.mark.parametrize(
    "catalog",
    [
        "postgres:host=db user=reader password=do-not-show dbname=lake",
        "postgres:host=db password='do-not-show \\' twice' dbname=lake",
        "postgres:postgresql://reader:do-not-show@db/lake",
    ],
)
def test_no_password_is_printed(catalog: str) -> None:
    """The statements are pasted into notebooks, which are kept."""
    said = reading_statements(LakeLocation(catalog, "s3://bucket/lake", "main"))

    assert "do-not-show" not in said
    assert "twice" not in said
    assert "METADATA_SCHEMA 'main'" in said
    assert "PGPASSWORD" in said
    assert "CREATE SECRET" in said


def test_without_a_lake_nothing_is_attached(tmp_path: Path) -> None:
    """DuckDB would say that a file cannot be opened, and not that nothing has run yet."""
    with pytest.raises(StorageError, match="There is no lake at"):
        reading_statements(sqlite_location(tmp_path))
