"""The lake of one deployment, as a resource."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import dagster as dg
from pydantic import Field

from llm_platform.settings import Settings
from llm_platform.warehouse.lake import LakeLocation, Warehouse


class WarehouseResource(dg.ConfigurableResource):
    """The lake that holds the tables of one namespace."""

    catalog: str = Field(description="DuckLake catalog: `sqlite:<file>` or `postgres:<libpq dsn>`.")
    data_path: str = Field(description="Folder or `s3://` prefix that holds the Parquet files.")
    metadata_schema: str | None = Field(default=None, description="Schema of this namespace in a Postgres catalog.")
    upstream_catalog: str | None = Field(default=None, description="Catalog attached read-only, e.g. production's.")
    upstream_data_path: str | None = Field(default=None, description="Where the upstream catalog's files are.")
    upstream_schema: str | None = Field(default=None, description="Schema of upstream in a Postgres catalog.")
    sources: dict[str, str] = Field(default_factory=dict, description="Name → URL of warehouses read, never written.")

    @classmethod
    def of(cls, settings: Settings) -> WarehouseResource:
        """The resource that `settings` describe."""
        catalog, data_path, schema = settings.location(settings.namespace)
        values: dict[str, str | None] = {}
        if settings.upstream_namespace and settings.upstream_namespace != settings.namespace:
            names = ("upstream_catalog", "upstream_data_path", "upstream_schema")
            values = dict(zip(names, settings.location(settings.upstream_namespace), strict=True))
        return cls(
            catalog=catalog,
            data_path=data_path,
            metadata_schema=schema,
            sources=settings.source_warehouses,
            **values,
        )

    @contextmanager
    def open(self, *, read_only: bool = False) -> Iterator[Warehouse]:
        """Open the lake for the length of a `with` block."""
        upstream = None
        if self.upstream_catalog and self.upstream_data_path:
            upstream = LakeLocation(self.upstream_catalog, self.upstream_data_path, self.upstream_schema)
        here = LakeLocation(self.catalog, self.data_path, self.metadata_schema)
        lake = Warehouse.attach(here, upstream=upstream, sources=self.sources, read_only=read_only)
        with closing(lake):
            yield lake
