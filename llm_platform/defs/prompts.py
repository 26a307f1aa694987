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
        metadata={
            "prompt": dg.MetadataValue.md(prompt_text(prompt)),
        },
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


def prompt_text(prompt: Prompt) -> str:
    """What the file asks, for people who look at the graph: its templates, not its examples, which are documents."""
    parts = [f"**{message.role}**\n\n````\n{message.template}\n````" for message in prompt.messages]
    if prompt.answers:
        parts.append("Answers: " + ", ".join(f"`{text}` for {label}" for label, text in prompt.answers.items()))
    if prompt.examples:
        parts.append(f"{len(prompt.examples)} frozen examples are in the file and in the table `prompts`.")
    return "\n\n".join(parts)
