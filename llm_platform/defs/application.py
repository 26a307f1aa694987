"""The graph of one application, assembled by passing asset objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from llm_platform.defs.adapter_reports import adapter_reports_asset
from llm_platform.defs.by_name import ByName, job_by_name
from llm_platform.defs.challengers import challengers_asset
from llm_platform.defs.completion_buckets import buckets_of, completion_buckets_asset
from llm_platform.defs.completions import completions_asset
from llm_platform.defs.describing import described
from llm_platform.defs.documents import documents_asset, references_asset
from llm_platform.defs.drift import drift_asset
from llm_platform.defs.evaluation import report_asset, scores_asset
from llm_platform.defs.failures import up_to_date_checks
from llm_platform.defs.finetuning import adapter_asset, training_examples_asset
from llm_platform.defs.graph import Graph
from llm_platform.defs.judges import judgements_asset
from llm_platform.defs.prompts import prompt_asset
from llm_platform.defs.readers import reader_assets
from llm_platform.defs.recordings import recording_asset
from llm_platform.defs.rollout import published_asset, rollout_asset
from llm_platform.defs.rollout_sensor import rollout_sensor
from llm_platform.defs.runs import APPLICATION_TAG, BACKFILL_YIELDS, PRIORITY_TAG, backfill_job, finetune_job
from llm_platform.defs.schedules import schedules_of
from llm_platform.defs.sensors import (
    adapters_trained_sensor,
    files_changed_sensor,
    known_answers_changed_sensor,
    source_changed_sensor,
)
from llm_platform.defs.sources import annotations_asset, references_source_asset, source_asset
from llm_platform.defs.studies import learning_curve_asset, sweep_asset
from llm_platform.operations.answering.documents import scoring_judges
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
    prompts = {name: prompt_asset(graph, prompt) for name, prompt in graph.loaded.prompts.items()}
    reference_source = references_source_asset(application)
    known = [reference_source, annotations_asset(application)] if reference_source else []
    judged = [references_asset(graph, known, documents)] if known else []
    trainings = {
        name: training_examples_asset(graph, name, [documents, *judged, prompts[spec.prompt]])
        for name, spec in application.finetuning.items()
    }
    adapters = {name: adapter_asset(graph, name, examples) for name, examples in trainings.items()}
    completions, buckets = [], []
    # What judges is looked at before anything is paid for.
    judging = [models[judge.model] for judge in scoring_judges(graph.loaded)]
    for name, variant in application.variants.items():
        fitted_on = judged if variant.calibrate else []
        adapted = [adapters[variant.adapter].asset] if variant.adapter else []
        asked = {variant.prompt: None, application.long_documents.prompt: None}
        texts = [prompts[prompt] for prompt in asked if prompt is not None]
        looked_at = {asset.key: asset for asset in [models[variant.model], *judging]}.values()
        deps: list[dg.AssetsDefinition | dg.AssetSpec] = [documents, *texts, *looked_at, *fitted_on, *adapted]
        completions.append(completions_asset(graph, name, deps=deps, entries=[variant.model]))
        buckets.append(completion_buckets_asset(graph, name, deps=deps, entries=[variant.model]))
    recordings = [recording_asset(graph, name, documents) for name in application.recordings]
    completions += recordings
    used = [models[name] for name in graph.loaded.lock]
    champion = completions_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.loaded.lock))
    buckets.append(completion_buckets_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.loaded.lock)))
    # A judge that scores is part of every run; another one is asked when somebody wants to know how good it is.
    scoring: list[dg.AssetsDefinition] = []
    on_request: list[ByName] = []
    for name, judge in graph.loaded.judges.items():
        scores_by_it = f"judge:{name}" in application.evaluation.scorers
        known_to_it = [*completions, champion, *judged, models[judge.model]]
        one = judgements_asset(graph, judge, known_to_it, scores=scores_by_it)
        on_request.append(one) if isinstance(one, ByName) else scoring.append(one)
    if application.rollout.stages:
        completions.append(challengers_asset(graph, deps=[documents, *used], entries=list(graph.loaded.lock)))
    scores = scores_asset(graph, [*completions, champion, *judged, *scoring])
    stands_on = [*judged, *completions, champion, *scoring]
    report = report_asset(graph, [scores], stands_on=stands_on)
    rollout = rollout_asset(graph, report)
    published = published_asset(graph, [rollout, documents, champion])
    drift = drift_asset(graph, [rollout, documents, champion, *judged])
    adapter_reports = [
        adapter_reports_asset(graph, name, [report, adapter.asset]) for name, adapter in adapters.items()
    ]
    own = [documents, *prompts.values(), *judged, *completions, champion, scores, report, rollout, published, drift]
    own += [*adapter_reports, *scoring, *reader_assets(graph, published)]
    kinds = (sweep_asset, learning_curve_asset)
    studies = [study(graph, name, examples) for name, examples in trainings.items() for study in kinds]
    by_name: dict[str, Sequence[ByName]] = {
        backfill_job(application.name): buckets,
        finetune_job(application.name): [*trainings.values(), *adapters.values()],
        f"{application.name}_studies": studies,
        f"{application.name}_judge": on_request,
    }
    # The known answers may be a column of the same table.
    sources = list({spec.key: spec for spec in (source, *known)}.values())
    chains = [[trainings[name], adapters[name]] for name in trainings]
    late = [*stands_on, scores, report]
    checks = [
        up_to_date_checks(application.name, late),
        # A step of its own: where nothing is published yet, `rollout` and what follows it are skipped.
        up_to_date_checks(f"{application.name}_rollout", [rollout]),
    ]
    return dg.Definitions(
        assets=[
            *sources,
            *described(graph, own),
            *described(graph, [one.made_by(job) for job, ones in by_name.items() for one in ones]),
        ],
        asset_checks=checks,
        jobs=[
            dg.define_asset_job(
                application.name,
                selection=dg.AssetSelection.assets(*own, *used),
                description=(
                    f"Bring everything of {application.title} up to date. What is unchanged sends nothing to a model."
                ),
                tags=_tags(graph),
            ),
            *([_drift_job(graph, drift)] if application.schedules.drift is not None else []),
            *_jobs_by_name(graph, buckets, chains, studies, on_request),
        ],
        schedules=schedules_of(graph),
        sensors=[
            source_changed_sensor(graph, source=source, job_name=application.name),
            files_changed_sensor(graph, job_name=application.name),
            *([known_answers_changed_sensor(graph, job_name=application.name)] if judged else []),
            *([rollout_sensor(graph, job_name=application.name)] if application.rollout.is_watched else []),
            *([adapters_trained_sensor(graph, job_name=application.name)] if trainings else []),
        ],
    )


def _tags(graph: Graph, *, priority: int = 0) -> dict[str, str]:
    return {
        APPLICATION_TAG: graph.application.name,
        "llm_platform/namespace": graph.settings.namespace,
        PRIORITY_TAG: str(graph.settings.run_priority + priority),
    }


def _drift_job(graph: Graph, drift: dg.AssetsDefinition) -> Any:
    """What a schedule of drift starts."""
    return dg.define_asset_job(
        f"{graph.application.name}_drift",
        selection=dg.AssetSelection.assets(drift),
        description=f"Look for drift of {graph.application.title}, and for what should be labelled. Asks no model.",
        tags=_tags(graph),
    )


def _jobs_by_name(
    graph: Graph,
    buckets: Sequence[ByName],
    trainings: Sequence[Sequence[ByName]],
    studies: Sequence[ByName],
    judges: Sequence[ByName],
) -> list[dg.JobDefinition]:
    """Jobs of what takes minutes, hours or money: nothing but a person's asking starts them."""
    name, title = graph.application.name, graph.application.title
    backfill = job_by_name(
        backfill_job(name),
        [[bucket] for bucket in buckets],
        description=f"Answer the documents of {title}, a run for each bucket. What is answered is not asked again.",
        tags=_tags(graph, priority=-BACKFILL_YIELDS),
        partitions=buckets_of(graph),
    )
    ask = job_by_name(
        f"{name}_judge",
        [[judge] for judge in judges],
        description=f"Ask the judges of {title} that score nothing yet, and measure them beside people.",
        tags=_tags(graph),
    )
    found = [backfill, *([ask] if judges else [])]
    if not trainings:
        return found
    train = job_by_name(
        finetune_job(name),
        trainings,
        description=f"Train the adapters of {title}. The everyday job follows: it answers with them and judges them.",
        tags=_tags(graph),
    )
    study = job_by_name(
        f"{name}_studies",
        [[one] for one in studies],
        description=f"Compare recipes and numbers of examples of {title}, for hours. Nothing is trained twice.",
        tags=_tags(graph),
    )
    return [*found, train, study]
