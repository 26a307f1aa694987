"""Applications as components, for Dagster projects that are laid out by `dg`.

Belongs here: what `dg list components`, `dg scaffold defs` and the docs tab of Dagster's UI know of this platform. Does
not: the graph itself (`defs`); a component is a folder with `application.yaml`, read by the same code. Its class stands
in this file because its name is written into every `defs.yaml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import dagster as dg
from pydantic import BaseModel, Field

from llm_platform.application.scaffold.folder import new_application
from llm_platform.defs.application import application_definitions
from llm_platform.defs.broken import broken_assets
from llm_platform.defs.deployment import shared_definitions
from llm_platform.defs.graph import Graph
from llm_platform.models.lock import load_lock
from llm_platform.operations.releases import load_folders
from llm_platform.settings.settings import load_settings


class NewApplication(BaseModel):
    """What `dg scaffold defs llm_platform.components.LlmApplication NAME` takes: as `llm-platform application new`."""

    source: str = Field(description="CSV, Parquet or JSONL file, or warehouse.table.")
    task: str = Field(default="classify", description="classify, extract or generate.")
    labels: str = Field(default="", description="Labels, separated by commas; for classify.")
    key: str | None = Field(default=None, description="Column that names a document.")
    text: str | None = Field(default=None, description="Column that holds the text.")
    answer: str | None = Field(default=None, description="Column that holds the known answer.")
    model: str = Field(default="smollm2-135m", description="Entry of models.lock.yaml.")


class ApplicationScaffolder(dg.Scaffolder[NewApplication]):
    """Writes the folder that `llm-platform application new` writes, and a `defs.yaml` into it."""

    @classmethod
    def get_scaffold_params(cls) -> type[NewApplication]:
        """What may be given on the command line."""
        return NewApplication

    def scaffold(self, request: dg.ScaffoldRequest[NewApplication]) -> None:
        """Write both."""
        given, target = request.params, request.target_path
        target.rmdir()  # made by dg, empty; an application is not written over what is there
        new_application(
            target.name,
            given.source,
            target.parent,
            task=given.task,
            labels=tuple(label.strip() for label in given.labels.split(",") if label.strip()),
            key=given.key,
            text=given.text,
            answer=given.answer,
            model=given.model,
        )
        dg.scaffold_component(request, {"folder": "."})


@dg.scaffold_with(ApplicationScaffolder)
class LlmApplication(dg.Component, dg.Resolvable, dg.Model):
    """One use of a self-hosted language model over one table of documents: `application.yaml` and its prompts.

    Its assets lead from the source table over prompts, pinned models, answers and evaluation to a published table that
    is written on evidence only. Models, resources and alerts are shared by all applications of a project. The command
    line finds the same folders where LLM_PLATFORM_APPLICATIONS names the project's `defs` folder.
    """

    folder: Annotated[
        Path,
        dg.Resolver(lambda context, value: context.resolve_source_relative_path(value), model_field_type=str),
    ] = Field(description="Folder with application.yaml, seen from the folder of defs.yaml.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The application's graph; the first one of a project brings what all of them share."""
        settings = load_settings()
        entries = load_lock(settings.models_lock)
        folders = sorted(one.folder.resolve() for one in context.component_tree.get_all_components(LlmApplication))
        applications = load_folders(folders, entries)
        models, shared = shared_definitions(settings, entries, applications)
        own = self.folder.resolve()
        broken = {one.name: one.mistakes for one in applications.broken if one.folder.resolve() == own}
        graph = (
            dg.Definitions(assets=broken_assets(broken))
            if broken
            else application_definitions(Graph(applications[own.name], settings), models)
        )
        return dg.Definitions.merge(shared, graph) if own == folders[0] else graph
