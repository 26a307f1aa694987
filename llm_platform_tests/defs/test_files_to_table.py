"""A folder of files through the whole graph to what readers get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from llm_platform.operations.release.plan import plan
from llm_platform_tests.defs.conftest import QUIET
from llm_platform_tests.extraction.files import docx, mail, paragraph, pdf
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team, answer, right_answer

KINDS = {
    "pdf": lambda text: pdf([text]),
    "docx": lambda text: docx(paragraph(text)),
    "eml": lambda text: mail("Fire!", text),
    "txt": lambda text: text.encode(),
}


def names() -> Iterator[tuple[int, str]]:
    for number in range(60):
        yield number, f"2026/{number}.{list(KINDS)[number % len(KINDS)]}"


@pytest.mark.slow
def test_files_become_a_published_table_and_one_that_is_added_costs_one_answer(tmp_path: Path) -> None:
    """The way of a share of letters: no table by anybody, and nothing is asked twice."""
    with ScriptedServer(answer=answer) as model, dg.instance_for_test() as instance:
        team = Team(tmp_path, model.url)
        team.specification["source"] = {"files": "../../letters", "attributes": ["media_type", "title"]}
        team.specification["evaluation"]["slices"] = ["media_type"]
        team.write_specification()
        team.write_references({name: right_answer(number) for number, name in names()})
        (tmp_path / "letters" / "2026").mkdir(parents=True)
        for number, name in names():
            (tmp_path / "letters" / name).write_bytes(KINDS[name.rpartition(".")[2]](Team.text(number)))
        (tmp_path / "letters" / "broken.pdf").write_bytes(b"%PDF-1.4 broken")

        def run() -> bool:
            job = team.definitions().resolve_job_def(NAME)
            return bool(job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET).success)

        first, asked = run(), model.counts.requests
        (tmp_path / "letters" / "61.txt").write_text(Team.text(61))
        second, then = run(), model.counts.requests
        with team.warehouse.open() as lake:
            rows = {row["document_id"]: row for row in lake.application(NAME).published.table(1).to_pylist()}
            left = plan(lake, team.loaded)

    assert (first, second, asked, then) == (True, True, 120, 122)
    assert set(rows) == {"61.txt", "broken.pdf", *(name for _, name in names())}
    assert rows["2026/3.txt"]["status"] == rows["2026/0.pdf"]["status"] == "valid"
    assert rows["broken.pdf"]["reason"] == "the PDF is damaged"
    assert left == []
