"""Assets of an application's own that read its published table: they depend on the contract, on nothing behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa

from llm_platform.defs.graph import Graph
from llm_platform.errors import SpecificationError, StorageError
from llm_platform.evaluation.own_code import called, load_function
from llm_platform.operations.release.reading import query_published
from llm_platform.records import content_hash
from llm_platform.resources.warehouse import WarehouseResource


@dataclass(frozen=True)
class PublishedTable:
    """The published table of one application, as its readers have it.

    Attributes:
        asset: What a reader depends on; it is stale when the rows change, and only then.
    """

    asset: dg.AssetsDefinition
    graph: Graph

    def key(self, name: str) -> dg.AssetKey:
        """Key of a reader inside the application."""
        return self.graph.key(name)

    @property
    def group(self) -> str:
        """Dagster group of the application."""
        return self.graph.group

    @property
    def owners(self) -> list[str]:
        """Owners of the application."""
        return self.graph.owners

    def query(self, warehouse: WarehouseResource, file: str) -> pa.Table:
        """The rows of a query: a file of SQL in the application's folder, over `published_v1` and the like.

        Named under `publish.consumers`, the same file is held against every change by `llm-platform contract check`.

        Raises:
            ContractBroken: the contract that is published lacks a column, or the table; says which.
        """
        application = self.graph.application
        path = application.folder / file
        try:
            sql = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SpecificationError(f"{path} cannot be read: {error.strerror}.") from error
        with warehouse.open(read_only=True) as lake:
            store = lake.application(application.name)
            return query_published(store, application, consumer=path.stem, name=file, sql=sql)

    def write(self, name: str, rows: pa.Table) -> Path:
        """Write rows beside the report card as a Parquet file, which appears whole or not at all."""
        import pyarrow.parquet as pq

        final = self.graph.cards_folder / f"{name}.parquet"
        partial = final.with_name(f".{final.name}.partial")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, partial)
            partial.replace(final)
        except OSError as error:
            raise StorageError(f"Cannot write {str(final)!r}: {error.strerror}. Make the folder writable.") from error
        return final

    @staticmethod
    def version(rows: pa.Table) -> dg.DataVersion:
        """Data version of what a reader has made: equal rows are equal data."""
        return dg.DataVersion(content_hash([list(map(str, row.values())) for row in rows.to_pylist()]))


def reader_assets(graph: Graph, published: dg.AssetsDefinition) -> list[dg.AssetsDefinition]:
    """The assets that `publish.assets` names.

    Raises:
        SpecificationError: a function is not there, or returns something else.
        ContractBroken: it raises something.
    """
    application = graph.application
    table = PublishedTable(published, graph)
    found: list[dg.AssetsDefinition] = []
    for reference in application.publish.assets:
        function = load_function(reference, application.folder, arguments=("published",))
        made = called("Assets", reference, function, table)
        if not isinstance(made, Sequence) or not all(isinstance(one, dg.AssetsDefinition) for one in made):
            raise SpecificationError(f"{reference!r} returns {type(made).__name__}; return a list of Dagster assets.")
        found += made
    return found
