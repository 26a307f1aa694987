"""Keys, tags and descriptions that all assets of an application share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa

from llm_platform.application.model import Application
from llm_platform.operations.releases import LoadedApplication
from llm_platform.settings.settings import SAMPLE_APPLICATIONS, Settings
from llm_platform.warehouse.schema_page import words_of


@dataclass(frozen=True)
class Graph:
    """What the assets of one application are made from."""

    loaded: LoadedApplication
    settings: Settings

    @property
    def application(self) -> Application:
        """The specification."""
        return self.loaded.application

    @property
    def is_sample(self) -> bool:
        """Whether it came with the package."""
        return self.application.folder.parent == SAMPLE_APPLICATIONS

    @property
    def cards_folder(self) -> Path:
        """Folder of this application's report cards and exports."""
        return self.settings.cards_folder / self.application.name

    def page(self, path: str) -> dg.UrlMetadataValue:
        """A page of the application that `llm-platform page` serves; a browser opens no file from a page."""
        return dg.MetadataValue.url(f"{self.settings.page_url}/{self.application.name}/{path}")

    def key(self, *path: str) -> dg.AssetKey:
        """Asset key inside this application."""
        return dg.AssetKey([self.application.name, *path])

    @property
    def owners(self) -> list[str]:
        """Owners in Dagster's terms: an address, or `team:name`."""
        return list(self.application.owners)

    @property
    def group(self) -> str:
        """Dagster group of what every run looks at: one picture from the source to the published table."""
        return self.application.name

    def side_group(self, name: str) -> str:
        """Dagster group of what is asked for by name only, as training is; it stands beside the everyday picture."""
        return f"{self.application.name}_{name}"


def column_schema(schema: pa.Schema, *, table: str | None = None) -> dg.TableSchema:
    """An Arrow schema as Dagster shows it; the columns of a table of the lake with what they mean."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(one.name, str(one.type), description=words_of(table, one.name) if table else None)
            for one in schema
        ]
    )


def share(part: int, whole: int) -> float:
    """`part / whole`; 1.0 of nothing, since nothing is missing then."""
    return part / whole if whole else 1.0
