"""The shipped documents that are files."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.definitions import build_definitions
from llm_platform.defs.graph import Graph
from llm_platform.defs.sensors import source_changed_sensor
from llm_platform.defs.sources import source_asset
from llm_platform.extraction.kinds import MEDIA_TYPES, media_type
from llm_platform.extraction.readers import RefusedError, read
from llm_platform.models.lock import load_lock
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.release.explain import explain_document
from llm_platform.operations.releases import load_applications
from llm_platform.resources.handed import local_nim
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform_tests.defs.conftest import QUIET
from llm_platform_tests.embedded import link_weights, stop_embedded
from llm_platform_tests.samples.repair_reports import BROKEN, FOLDER, LONG, made

NAME = "repair_reports"


def known() -> list[dict[str, str]]:
    with (FOLDER.parent / "known.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def said(path: str, data: bytes) -> Any:
    """What a file says, or why it says nothing."""
    try:
        return read(data, str(media_type(path)))
    except RefusedError as error:
        return str(error)


def test_the_files_are_those_that_are_made_here() -> None:
    """Nobody can mend a PDF by hand: its text stands in a module, which writes it."""
    for path, data in made().items():
        assert said(path, (FOLDER / path).read_bytes()) == said(path, data), path


def test_every_kind_is_there_one_file_is_broken_and_the_others_have_known_answers() -> None:
    """The first thing that a team tries with files of its own."""
    files = {str(path.relative_to(FOLDER)): path.read_bytes() for path in FOLDER.rglob("*.*")}
    texts = {path: said(path, data) for path, data in files.items()}
    answers = {row["report"]: row["craft"] for row in known()}

    assert {media_type(path) for path in files} == set(MEDIA_TYPES.values())
    assert [path for path, text in texts.items() if isinstance(text, str)] == [BROKEN]
    assert answers.keys() == files.keys() - {BROKEN}
    assert Counter((row["craft"], row["split"]) for row in known()) == {
        ("WATER", "train"): 4, ("POWER", "train"): 4, ("WATER", "evaluation"): 8, ("POWER", "evaluation"): 8,
    }  # fmt: skip
    assert texts[LONG].pages == 2
    assert sum(map(len, files.values())) < 150_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", namespace="test")


def test_a_sample_starts_by_itself_only_after_somebody_has_run_it(settings: Settings) -> None:
    """Its files are always there: whoever opens Dagster's UI would get a run, and a model for it, unasked."""
    loaded = load_applications(*settings.application_files).named(NAME)
    graph, warehouse = Graph(loaded, settings), WarehouseResource.of(settings)
    sensor = source_changed_sensor(graph, source=source_asset(graph.application), job_name=NAME)

    def tick() -> Any:
        with dg.DagsterInstance.ephemeral() as instance:
            return sensor(dg.build_sensor_context(instance=instance, resources={"warehouse": warehouse}))

    before = tick()
    with warehouse.open() as lake:
        update_documents(lake, loaded)
        counts = lake.application(NAME).documents.counts()
    after = tick()

    assert before.skip_message == "a sample is run for the first time by a person"
    assert counts == {"sendable": 24, "undecodable": 1}
    assert after.skip_message == "reports/ is as documents consumed it"


@pytest.mark.slow
def test_the_reports_become_a_published_table_of_a_real_model(settings: Settings) -> None:
    """What the page promises: one command, and every row explains itself down to the page."""
    entry = load_lock(settings.models_lock)["smollm2-135m"]
    link_weights(entry, settings.state)
    loaded = load_applications(*settings.application_files).named(NAME)
    try:
        job = build_definitions(settings).resolve_job_def(NAME)
        ran = job.execute_in_process(run_config=QUIET)
    finally:
        stop_embedded(entry, local_nim(settings))
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        rows = {row["document_id"]: row for row in lake.application(NAME).published.table(1).to_pylist()}
        parts = explain_document(lake, loaded.application, LONG)["made_of"]

    assert ran.success
    assert len(rows) == 25
    assert [key for key, row in rows.items() if row["status"] != "valid"] == [BROKEN]
    assert rows[BROKEN]["reason"] == "the PDF is damaged"
    assert [part["page"] for part in parts.values()] == [1, 2]
