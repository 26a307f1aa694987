"""One asset a prompt file: its version is its content."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.defs.graph import Graph
from llm_platform.records import Prompt
from llm_platform.resources.warehouse import WarehouseResource


def prompt_asset(graph: Graph, prompt: Prompt) -> dg.AssetsDefinition:
    """A prompt file, kept in the lake under its content hash."""
    application = graph.application

    @dg.asset(
        key=graph.key(f"prompt_{prompt.name}"),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"jinja"},
        code_version=prompt.version,
        description=f"Prompt file prompts/{prompt.name}.md, a {prompt.api} prompt.",
    )
    def prompts(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        with dagster_failures(context), warehouse.open() as lake:
            snapshot = lake.application(application.name).prompts.put(prompt)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(prompt.version),
            metadata={
                "version": prompt.version,
                "api": prompt.api,
                "messages": len(prompt.messages),
                "few_shot_examples": len(prompt.examples),
                "variables": ", ".join(prompt.variables),
                "snapshot": snapshot,
            },
        )

    return prompts
