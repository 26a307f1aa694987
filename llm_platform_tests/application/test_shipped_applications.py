from __future__ import annotations

from pathlib import Path

import pytest

import llm_platform
from llm_platform.application.load import find_applications, load_application
from llm_platform.application.model import Application
from llm_platform.documents.prepare import prepare
from llm_platform.prompts.load import load_prompts
from llm_platform.prompts.render import Renderer
from llm_platform.records import DocumentRow
from llm_platform.samples import movie_reviews, package_metadata

FOLDERS = find_applications([Path(llm_platform.__file__).parent / "applications"]).folders
TABLES = {
    "movie_reviews": {"reviews": movie_reviews.reviews, "review_labels": movie_reviews.labels},
    "package_metadata": {
        "package_metadata": package_metadata.package_metadata,
        "package_fields": package_metadata.package_fields,
    },
}


OF_FILES = ["repair_reports"]
"""Their documents are files beside them, which have tests of their own."""


@pytest.fixture(params=sorted(TABLES))
def application(request: pytest.FixtureRequest) -> Application:
    return load_application(FOLDERS[request.param], models=["smollm2-135m"])


def test_every_shipped_application_has_documents_of_its_own() -> None:
    """Whoever tries one needs no data."""
    assert sorted(FOLDERS) == sorted([*OF_FILES, *TABLES])


def test_sample_tables_have_the_columns_that_the_application_names(application: Application) -> None:
    """The application and its documents are kept in two places."""
    documents, references = (rows(20) for rows in TABLES[application.name].values())
    source, known = application.source, application.references

    assert known is not None
    assert [source.table, known.table] == list(TABLES[application.name])
    assert {source.key, source.text, source.watermark, *source.attributes} <= set(documents.column_names)
    assert {known.key, known.answer, known.split} <= set(references.column_names)
    if application.task == "classify":
        assert set(references.column(known.answer).to_pylist()) == set(application.labels)


def test_every_prompt_renders_every_sample_document(application: Application) -> None:
    """All of them can be sent, and a prompt holds the text whole."""
    documents = next(iter(TABLES[application.name].values()))(200)
    prompts = load_prompts(application).values()
    renderers = [Renderer(prompt, application.labels) for prompt in prompts]

    made = [
        row
        for part in prepare(documents.to_batches(), application.source, application.documents)
        for row in part.to_pylist()
    ]

    assert {document["status"] for document in made} == {"sendable"}
    for document in made:
        attributes = dict.fromkeys(application.source.attributes, "x")
        row = DocumentRow(document_id="d", fingerprint="f", text=document["text"], attributes=attributes)
        for renderer in renderers:
            assert document["text"].replace("<br />", "\n") in str(said(renderer, row))


def said(renderer: Renderer, row: DocumentRow) -> str:
    rendered = renderer.render(row)
    return rendered.text if rendered.messages is None else rendered.messages[-1]["content"]
