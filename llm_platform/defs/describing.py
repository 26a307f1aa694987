"""What Dagster's pages say of every asset of an application: whose it is, and the files that it follows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import APPLICATION_TAG

Asset = dg.AssetsDefinition | dg.AssetSpec
PROMPT = "prompt_"


def described(graph: Graph, assets: Sequence[Asset]) -> list[Asset]:
    """The same assets with a tag to find them by, and with code references to `application.yaml` and prompt files."""

    def more(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.merge_attributes(
            tags={APPLICATION_TAG: graph.application.name},
            metadata={"dagster/code_references": _references(_files(graph, spec.key))},
        )

    return list(dg.map_asset_specs(more, assets))


def _files(graph: Graph, key: dg.AssetKey) -> list[Path]:
    folder = graph.application.folder.absolute()
    prompt = folder / "prompts" / f"{key.path[-1].removeprefix(PROMPT)}.md"
    return [*([prompt] if key.path[-1].startswith(PROMPT) else []), folder / "application.yaml"]


def _references(files: Sequence[Path]) -> dg.CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # Beta in Dagster 1.13, and the only way to its links into the files.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.CodeReferencesMetadataValue(
            code_references=[
                dg.LocalFileCodeReference(file_path=str(one), line_number=1, label=one.name) for one in files
            ]
        )
