"""`llm-platform state encrypt`, and what a deployment that is to be encrypted refuses."""

from __future__ import annotations

from pathlib import Path

from llm_platform.files import disk_of
from llm_platform.operations.answering.documents import update_documents
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME


def test_tables_are_encrypted_where_the_rest_is_on_an_encrypted_disk(fresh: Terminal, tmp_path: Path) -> None:
    """Each step says what is next: the disk first, then what is there already, then everything goes on as before."""
    team = fresh.team
    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
    asked = {"LLM_PLATFORM_ENCRYPTED": "true", "LLM_PLATFORM_ENCRYPTED_DISK": "true"}
    encrypted = Terminal(team, **asked)

    unasked = fresh.run("state", "encrypt")
    early = encrypted.run("plan", NAME)
    done = encrypted.run("state", "encrypt")
    again = encrypted.run("state", "encrypt")
    planned = encrypted.run("plan", NAME)

    assert unasked.failed_plainly, unasked.said
    assert "Set LLM_PLATFORM_ENCRYPTED=true first" in unasked.err
    assert early.failed_plainly, early.said
    assert "llm-platform state encrypt" in early.err
    assert done.status == 0, done.said
    assert "rows were written anew" in done.out
    assert "nothing was left to do" in again.out, again.said
    assert planned.status == 0, planned.said
    data = [path for path in (team.settings.namespace_folder / "data").rglob("*.parquet") if path.is_file()]
    assert data
    assert {path.read_bytes()[:4] for path in data} == {b"PARE"}
    if not disk_of(tmp_path).is_encrypted:
        plain = Terminal(team, LLM_PLATFORM_ENCRYPTED="true").run("plan", NAME)
        assert plain.failed_plainly, plain.said
        assert "no encrypted disk that can be seen" in plain.err
