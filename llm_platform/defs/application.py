"""The graph of one application, assembled by passing asset objects."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from llm_platform.defs.adapter_reports import adapter_reports_asset
from llm_platform.defs.challengers import challengers_asset
from llm_platform.defs.completion_buckets import completion_buckets_asset
from llm_platform.defs.completions import completions_asset
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
from llm_platform.defs.runs import APPLICATION_TAG, BACKFILL_YIELDS, PRIORITY_TAG, backfill_job
from llm_platform.defs.sensors import files_changed_sensor, source_changed_sensor
from llm_platform.defs.sources import annotations_asset, references_source_asset, source_asset
from llm_platform.defs.studies import learning_curve_asset, sweep_asset
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
    references = references_asset(graph, known, documents) if known else None
    judged = [references] if references else []
    trainings = {
        name: training_examples_asset(graph, name, [documents, *judged, prompts[spec.prompt]])
        for name, spec in application.finetuning.items()
    }
    adapters = {name: adapter_asset(graph, name, examples) for name, examples in trainings.items()}
    completions, buckets = [], []
    for name, variant in application.variants.items():
        fitted_on = [references] if references and variant.calibrate else []
        adapted = [adapters[variant.adapter]] if variant.adapter else []
        asked = {variant.prompt: None, application.long_documents.prompt: None}
        texts = [prompts[prompt] for prompt in asked if prompt is not None]
        deps = [documents, *texts, models[variant.model], *fitted_on, *adapted]
        completions.append(completions_asset(graph, name, deps=deps, entries=[variant.model]))
        buckets.append(completion_buckets_asset(graph, name, deps=deps, entries=[variant.model]))
    recordings = [recording_asset(graph, name, documents) for name in application.recordings]
    completions += recordings
    used = [models[name] for name in graph.loaded.lock]
    champion = completions_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.loaded.lock))
    buckets.append(completion_buckets_asset(graph, CHAMPION, deps=[documents, *used], entries=list(graph.loaded.lock)))
    judgements = {
        name: judgements_asset(graph, judge, [*completions, champion, *judged, models[judge.model]])
        for name, judge in graph.loaded.judges.items()
    }
    # A judge that scores is part of every run; another one is asked when somebody wants to know how good it is.
    scoring = [one for name, one in judgements.items() if f"judge:{name}" in application.evaluation.scorers]
    if application.rollout.stages:
        completions.append(challengers_asset(graph, deps=[documents, *used], entries=list(graph.loaded.lock)))
    scores = scores_asset(graph, [*completions, champion, *judged, *scoring])
    stands_on = [*judged, *completions, champion, *scoring]
    report = report_asset(graph, [scores], stands_on=stands_on)
    rollout = rollout_asset(graph, report)
    published = published_asset(graph, [rollout, documents, champion])
    drift = drift_asset(graph, [rollout, documents, champion, *judged])
    adapter_reports = [adapter_reports_asset(graph, name, [report, adapter]) for name, adapter in adapters.items()]
    own = [documents, *prompts.values(), *judged, *completions, champion, scores, report, rollout, published, drift]
    own += [*adapter_reports, *scoring, *reader_assets(graph, published)]
    training = [*trainings.values(), *adapters.values()]
    kinds = (sweep_asset, learning_curve_asset)
    studies = [study(graph, name, examples) for name, examples in trainings.items() for study in kinds]
    jobs = {
        application.name: ([*own, *used], "Bring everything of {} up to date"),
        backfill_job(application.name): (buckets, "Answer the documents of {}, a run for each bucket"),
    }
    if training:
        # Training takes minutes and money, so it is asked for by name; the other job answers with what was trained.
        everything = [*own, *used, *training]
        jobs[f"{application.name}_finetune"] = (everything, "Train the adapters of {}, and judge them")
        jobs[f"{application.name}_studies"] = (studies, "Compare recipes and numbers of examples of {}")
    if judgements:
        jobs[f"{application.name}_judge"] = ([*judgements.values()], "Ask the judges of {}, and measure them")
    # The known answers may be a column of the same table.
    sources = list({spec.key: spec for spec in (source, *known)}.values())
    late = [*stands_on, *(one for one in judgements.values() if one not in scoring), *training, scores, report]
    checks = [
        up_to_date_checks(application.name, late),
        # A step of its own: where nothing is published yet, `rollout` and what follows it are skipped.
        up_to_date_checks(f"{application.name}_rollout", [rollout]),
    ]
    return dg.Definitions(
        assets=[
            *sources,
            *own,
            *buckets,
            *training,
            *studies,
            *(one for one in judgements.values() if one not in scoring),
        ],
        asset_checks=checks,
        jobs=[
            dg.define_asset_job(
                name,
                selection=dg.AssetSelection.assets(*assets),
                description=f"{does.format(application.title)}. What is unchanged sends nothing to a model.",
                tags={
                    APPLICATION_TAG: application.name,
                    "llm_platform/namespace": graph.settings.namespace,
                    PRIORITY_TAG: str(graph.settings.run_priority - (BACKFILL_YIELDS if assets is buckets else 0)),
                },
            )
            for name, (assets, does) in jobs.items()
        ],
        sensors=[
            source_changed_sensor(graph, source=source, job_name=application.name),
            files_changed_sensor(graph, job_name=application.name),
            *([rollout_sensor(graph, job_name=application.name)] if application.rollout.is_watched else []),
        ],
    )
