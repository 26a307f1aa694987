"""The graph of one application, assembled by passing asset objects."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from llm_platform.defs.completions import completions_asset
from llm_platform.defs.documents import documents_asset, references_asset
from llm_platform.defs.evaluation import report_asset, scores_asset
from llm_platform.defs.graph import Graph
from llm_platform.defs.prompts import prompt_asset
from llm_platform.defs.rollout import published_asset, rollout_asset
from llm_platform.defs.sensors import source_changed_sensor
from llm_platform.defs.sources import references_source_asset, source_asset
from llm_platform.operations.releases import CHAMPION


def application_definitions(graph: Graph, models: Mapping[str, dg.AssetsDefinition]) -> dg.Definitions:
    """Assets, job and sensor of one application.

    Args:
        graph: The application.
        models: Lock entry → its asset; shared by all applications.
    """
    application = graph.application
    source = source_asset(application)
    documents = documents_asset(graph, source)
    prompts = {name: prompt_asset(graph, prompt) for name, prompt in graph.candidates.prompts.items()}
    reference_source = references_source_asset(application)
    references = references_asset(graph, reference_source, documents) if reference_source else None
    completions = []
    for name, variant in application.variants.items():
        fitted_on = [references] if references and variant.calibrate else []
        deps = [documents, prompts[variant.prompt], models[variant.model], *fitted_on]
        completions.append(completions_asset(graph, name, deps=deps, entries=[variant.model]))
    used = [models[name] for name in graph.candidates.lock]
    champion = completions_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.candidates.lock))
    judged = [references] if references else []
    scores = scores_asset(graph, [*completions, champion, *judged])
    report = report_asset(graph, [scores])
    rollout = rollout_asset(graph, report)
    published = published_asset(graph, [rollout, documents, champion])
    own = [documents, *prompts.values(), *judged, *completions, champion, scores, report, rollout, published]
    job = dg.define_asset_job(
        application.name,
        selection=dg.AssetSelection.assets(*own, *used),
        description=f"Bring everything of {application.title} up to date. What is unchanged sends nothing to a model.",
        tags={"llm_platform/application": application.name, "llm_platform/namespace": graph.settings.namespace},
    )
    sources = [source, reference_source] if reference_source else [source]
    return dg.Definitions(
        assets=[*sources, *own],
        jobs=[job],
        sensors=[source_changed_sensor(graph, source=source, job_name=application.name)],
    )
