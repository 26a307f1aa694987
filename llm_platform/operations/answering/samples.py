"""Load the documents of the shipped applications into the local warehouse that plays the upstream one."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from llm_platform.errors import SpecificationError
from llm_platform.samples.movie_reviews import labels, reviews
from llm_platform.samples.package_metadata import package_fields, package_metadata
from llm_platform.warehouse.sample_source import write_table

SampleTable = Callable[[int | None], pa.Table]
SAMPLES: dict[str, tuple[str, dict[str, SampleTable]]] = {
    "movie_reviews": ("review_id", {"reviews": reviews, "review_labels": labels}),
    "package_metadata": ("package", {"package_metadata": package_metadata, "package_fields": package_fields}),
}
"""Application → key column, and table name → its rows. Documents that are files need no loading."""


def load_sample(url: str, application: str, *, documents: int) -> None:
    """Write the tables of a shipped application, if they are not there as they should be.

    Args:
        url: The local warehouse, a DuckLake.
        application: Name of a shipped application.
        documents: How many, at most.

    Raises:
        SpecificationError: the application has no documents that are loaded.
    """
    if application not in SAMPLES:
        raise SpecificationError(
            f"Application {application!r} has no documents to load; those that do: {', '.join(sorted(SAMPLES))}. "
            f"Run it on its own source: llm-platform run {application}"
        )
    key, tables = SAMPLES[application]
    for name, rows in tables.items():
        write_table(url, name, rows(documents), key)
