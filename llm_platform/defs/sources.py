"""Tables that others write: declared, so that a misspelt dependency is an error and never an invented source."""

from __future__ import annotations

import dagster as dg

from llm_platform.application.model import Application
from llm_platform.application.source import TableRef


def source_key(application: Application, ref: TableRef, name: str) -> dg.AssetKey:
    """Key of a table that others write: warehouse and table, or the application's own file."""
    if ref.warehouse and ref.table:
        return dg.AssetKey([ref.warehouse, *ref.table.split(".")])
    return dg.AssetKey([application.name, name])


def source_asset(application: Application) -> dg.AssetSpec:
    """The table of documents, as its owners write it."""
    source = application.source
    read = f"Documents of {application.title}, written by others. Read: {', '.join(source.columns)}."
    return _table(application, source, "source", description=read)


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
    known = f"Known answers of {application.title}, written by others."
    return _table(application, application.references, "reference_file", description=known)


def _table(application: Application, ref: TableRef, name: str, *, description: str) -> dg.AssetSpec:
    """A table or file of others. What several applications may read is described without any of them: Dagster takes
    one key twice only where everything about it is the same."""
    shared = f"Table {ref.address}, written by others."
    return dg.AssetSpec(
        key=source_key(application, ref, name),
        group_name="upstream",
        kinds={"table"},
        description=shared if ref.warehouse and ref.table else description,
    )
