"""`llm-platform state usage`: how much room a namespace takes."""

from __future__ import annotations

from rich.filesize import decimal

from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.warehouse.builders import answer_all, fill


def test_it_says_what_each_application_takes_and_what_only_the_past_needs(fresh: Terminal) -> None:
    """A disk that fills up is somebody's table, or a history that nobody reads."""
    team = fresh.team
    with team.warehouse.open() as lake:
        fill(lake, "abc")
        answer_all(lake)
        found = {one.table: one for one in lake.usage()}
        fill(lake, "xyz")
        then = {one.table: one for one in lake.usage()}
    files = list((team.settings.namespace_folder / "data").rglob("*.parquet"))

    said = fresh.run("state", "usage")
    by_table = fresh.run("state", "usage", "--tables")

    assert found["documents"].files == found["completions"].files == 1
    assert found["documents"].past_bytes == 0
    assert then["documents"].past_bytes == found["documents"].bytes
    whole = sum(one.bytes + one.past_bytes for one in then.values())
    assert whole == sum(path.stat().st_size for path in files)
    assert said.status == 0, said.said
    assert "reviews" in said.out
    assert decimal(sum(one.bytes for one in then.values())) in said.out
    assert "test/catalog.sqlite" in said.out
    assert "reviews.completions" in by_table.out, by_table.said
