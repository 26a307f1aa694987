"""Files beside the lake lose what they have of a forgotten document, however it is written there."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.operations.privacy.files import forget_in_files
from llm_platform.records import ForgetRequest, Traces
from llm_platform_tests.warehouse.builders import NOON

TEXT = 'The "pump" of A & B <north> leaks.'


def forget(folder: Path, *keys: str) -> int:
    request = ForgetRequest(
        request_id="request", application="reviews", document_ids=keys, by="the officer", reason="", asked_at=NOON
    )
    return forget_in_files(folder, request, Traces(fingerprints=(), texts=(TEXT,), tables={}))


def reports(folder: Path) -> Path:
    made = folder / "reports" / "reviews"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize("key", ["A&B", "<x>", 'O"Neil', "d'Arc", " padded ", "a > b"])
def test_a_page_that_names_a_key_goes_however_the_key_is_written_there(tmp_path: Path, key: str) -> None:
    """What is given to a page is escaped: a key with an ampersand was never found, and its certificate said it was."""
    pages = reports(tmp_path)
    (pages / "card.html").write_text(f'<ul><li class="id">{escape(key)}</li></ul>', encoding="utf-8")
    (pages / "drift.html").write_text('<ul><li class="id">another</li></ul>', encoding="utf-8")

    assert forget(tmp_path, key) == 1

    assert [path.name for path in pages.iterdir()] == ["drift.html"]


def test_a_page_that_quotes_a_text_goes_however_the_text_is_written_there(tmp_path: Path) -> None:
    """A panel of a team's own may show what it likes."""
    pages = reports(tmp_path)
    (pages / "card.html").write_text(f"<p>Seen: {escape(TEXT)}</p>", encoding="utf-8")

    assert forget(tmp_path, "7") == 1


def test_a_file_of_a_teams_own_goes_where_it_names_or_quotes_the_document(tmp_path: Path) -> None:
    """An asset that reads what is published may call its columns as it likes; it makes its file anew."""
    files = reports(tmp_path)
    pq.write_table(pa.table({"worst": ["7", "8"], "count": [1, 2]}), files / "worst.parquet")
    pq.write_table(pa.table({"example": [f"As in: {TEXT}"]}), files / "examples.parquet")
    pq.write_table(pa.table({"day": ["2026-12-01"], "count": [7]}), files / "daily.parquet")

    assert forget(tmp_path, "7") == 2

    assert [path.name for path in files.iterdir()] == ["daily.parquet"]
