"""The assets of one application, assembled by passing asset objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from llm_platform.defs.adapter_reports import adapter_reports_asset
from llm_platform.defs.by_name import ByName
from llm_platform.defs.challengers import challengers_asset
from llm_platform.defs.completion_buckets import completion_buckets_asset
from llm_platform.defs.completions import completions_asset
from llm_platform.defs.documents import documents_asset, references_asset
from llm_platform.defs.drift import drift_asset
from llm_platform.defs.evaluation import report_asset, scores_asset
from llm_platform.defs.finetuning import adapter_asset, training_examples_asset
from llm_platform.defs.graph import Graph
from llm_platform.defs.judges import judgements_asset
from llm_platform.defs.prompts import prompt_asset
from llm_platform.defs.readers import reader_assets
from llm_platform.defs.recordings import recording_asset
from llm_platform.defs.rollout import published_asset, rollout_asset
from llm_platform.defs.sources import annotations_asset, references_source_asset, source_asset
from llm_platform.defs.studies import learning_curve_asset, sweep_asset
from llm_platform.operations.answering.documents import scoring_judges
from llm_platform.operations.releases import CHAMPION

Models = Mapping[str, dg.AssetsDefinition]


@dataclass(frozen=True)
class ApplicationAssets:
    """The assets of one application, by what makes them.

    Attributes:
        source: The table of documents, which others write.
        known: Tables of known answers that others and people write; none without references.
        everyday: What the everyday job makes.
        models: What it asks.
        rollout: Of `everyday`, what decides who serves.
        before_rollout: Of `everyday`, what the decision stands on.
        drift: Of `everyday`, what a schedule of its own may make, too.
        trainings: The examples and the adapter of each recipe.
        buckets: Completions in runs of a bucket each.
        studies: Comparisons of recipes and of numbers of examples.
        judges: Judgements of those that score nothing.
    """

    source: dg.AssetSpec
    known: Sequence[dg.AssetSpec]
    everyday: Sequence[dg.AssetsDefinition]
    models: Sequence[dg.AssetsDefinition]
    rollout: dg.AssetsDefinition
    before_rollout: Sequence[dg.AssetsDefinition]
    drift: dg.AssetsDefinition
    trainings: Sequence[tuple[ByName, ByName]]
    buckets: Sequence[ByName]
    studies: Sequence[ByName]
    judges: Sequence[ByName]


def application_assets(graph: Graph, models: Models) -> ApplicationAssets:
    """Every asset of one application.

    Args:
        graph: The application.
        models: Lock entry → its asset; shared by all applications.
    """
    application = graph.application
    source = source_asset(application)
    documents = documents_asset(graph, source)
    prompts = {name: prompt_asset(graph, prompt) for name, prompt in graph.loaded.prompts.items()}
    reference_source = references_source_asset(application)
    known = [reference_source, annotations_asset(application)] if reference_source else []
    judged = [references_asset(graph, known, documents)] if known else []
    examples = {
        name: training_examples_asset(graph, name, [documents, *judged, prompts[spec.prompt]])
        for name, spec in application.finetuning.items()
    }
    adapters = {name: adapter_asset(graph, name, of_it) for name, of_it in examples.items()}
    used = [models[name] for name in graph.loaded.lock]

    champion = completions_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.loaded.lock))
    answering, buckets = _variants(graph, models, documents, prompts=prompts, judged=judged, adapters=adapters)
    buckets.append(completion_buckets_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.loaded.lock)))
    answering += [recording_asset(graph, name, documents) for name in application.recordings]
    scoring, on_request = _judges(graph, models, [*answering, champion, *judged])
    if application.rollout.stages:
        answering.append(challengers_asset(graph, deps=[documents, *used], entries=list(graph.loaded.lock)))

    scores = scores_asset(graph, [*answering, champion, *judged, *scoring])
    stands_on = [*judged, *answering, champion, *scoring]
    report = report_asset(graph, [scores], stands_on=stands_on)
    rollout = rollout_asset(graph, report)
    published = published_asset(graph, [rollout, documents, champion])
    drift = drift_asset(graph, [rollout, documents, champion, *judged])
    evidence = [adapter_reports_asset(graph, name, [report, adapter.asset]) for name, adapter in adapters.items()]
    everyday = [documents, *prompts.values(), *judged, *answering, champion, scores, report, rollout, published, drift]
    return ApplicationAssets(
        source=source,
        known=known,
        everyday=[*everyday, *evidence, *scoring, *reader_assets(graph, published)],
        models=used,
        rollout=rollout,
        before_rollout=[*stands_on, scores, report],
        drift=drift,
        trainings=[(examples[name], adapters[name]) for name in examples],
        buckets=buckets,
        studies=[
            study(graph, name, of_it)
            for name, of_it in examples.items()
            for study in (sweep_asset, learning_curve_asset)
        ],
        judges=on_request,
    )


def _variants(
    graph: Graph,
    models: Models,
    documents: dg.AssetsDefinition,
    *,
    prompts: Mapping[str, dg.AssetsDefinition],
    judged: Sequence[dg.AssetsDefinition],
    adapters: Mapping[str, ByName],
) -> tuple[list[dg.AssetsDefinition], list[ByName]]:
    """Completions of every variant that asks, for a run of all documents and for runs of a bucket each."""
    whole, buckets = [], []
    # What judges is looked at before anything is paid for.
    judging = [models[judge.model] for judge in scoring_judges(graph.loaded)]
    for name, variant in graph.application.variants.items():
        fitted_on = judged if variant.calibrate else []
        adapted = [adapters[variant.adapter].asset] if variant.adapter else []
        asked = {variant.prompt: None, graph.application.long_documents.prompt: None}
        texts = [prompts[prompt] for prompt in asked if prompt is not None]
        looked_at = {asset.key: asset for asset in [models[variant.model], *judging]}.values()
        deps: list[dg.AssetsDefinition | dg.AssetSpec] = [documents, *texts, *looked_at, *fitted_on, *adapted]
        whole.append(completions_asset(graph, name, deps=deps, entries=[variant.model]))
        buckets.append(completion_buckets_asset(graph, name, deps=deps, entries=[variant.model]))
    return whole, buckets


def _judges(
    graph: Graph, models: Models, held_against: Sequence[dg.AssetsDefinition]
) -> tuple[list[dg.AssetsDefinition], list[ByName]]:
    """Judges that score, which are part of every run; and those asked when somebody wants to know how good they are."""
    scoring: list[dg.AssetsDefinition] = []
    on_request: list[ByName] = []
    for name, judge in graph.loaded.judges.items():
        scores = f"judge:{name}" in graph.application.evaluation.scorers
        one = judgements_asset(graph, judge, [*held_against, models[judge.model]], scores=scores)
        on_request.append(one) if isinstance(one, ByName) else scoring.append(one)
    return scoring, on_request
