"""Tables that others write: declared, so that a misspelt dependency is an error and never an invented source."""

from __future__ import annotations

import dagster as dg

from llm_platform.application.model import Application, TableRef


def source_key(application: Application, ref: TableRef, name: str) -> dg.AssetKey:
    """Key of a table that others write: warehouse and table, or the application's own file."""
    if ref.warehouse and ref.table:
        return dg.AssetKey([ref.warehouse, *ref.table.split(".")])
    return dg.AssetKey([application.name, name])


def source_asset(application: Application) -> dg.AssetSpec:
    """The table of documents, as its owners write it."""
    source = application.source
    return dg.AssetSpec(
        key=source_key(application, source, "source"),
        group_name="upstream",
        kinds={"table"},
        description=f"Documents of {application.title}, written by others. Read: {', '.join(source.columns)}.",
    )


def annotations_asset(application: Application) -> dg.AssetSpec:
    """Verdicts, tags and notes of people, as the review page and the command line write them."""
    return dg.AssetSpec(
        key=dg.AssetKey([application.name, "annotations"]),
        group_name="upstream",
        kinds={"table"},
        description=f"What people said about {application.title}: verdicts, tags and notes (llm-platform review).",
    )


def references_source_asset(application: Application) -> dg.AssetSpec | None:
    """The table of known answers, as its owners write it."""
    if application.references is None:
        return None
    return dg.AssetSpec(
        key=source_key(application, application.references, "reference_file"),
        group_name="upstream",
        kinds={"table"},
        description=f"Known answers of {application.title}, written by others.",
    )
