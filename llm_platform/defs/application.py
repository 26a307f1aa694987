"""The graph of one application: its assets, and the jobs, schedules and sensors that make them."""

from __future__ import annotations

from typing import Any

import dagster as dg

from llm_platform.defs.application_assets import ApplicationAssets, Models, application_assets
from llm_platform.defs.by_name import job_by_name
from llm_platform.defs.completion_buckets import buckets_of
from llm_platform.defs.describing import described
from llm_platform.defs.failures import up_to_date_checks
from llm_platform.defs.graph import Graph
from llm_platform.defs.rollout_sensor import rollout_sensor
from llm_platform.defs.runs import (
    APPLICATION_TAG,
    BACKFILL_YIELDS,
    PRIORITY_TAG,
    backfill_job,
    finetune_job,
    judge_job,
    studies_job,
)
from llm_platform.defs.schedules import schedules_of
from llm_platform.defs.sensors import (
    adapters_trained_sensor,
    files_changed_sensor,
    known_answers_changed_sensor,
    source_changed_sensor,
)


def application_definitions(graph: Graph, models: Models) -> dg.Definitions:
    """Assets, jobs, schedules and sensors of one application.

    Args:
        graph: The application.
        models: Lock entry → its asset; shared by all applications.
    """
    application = graph.application
    assets = application_assets(graph, models)
    jobs_of = {
        backfill_job(application.name): assets.buckets,
        finetune_job(application.name): [one for training in assets.trainings for one in training],
        studies_job(application.name): assets.studies,
        judge_job(application.name): assets.judges,
    }
    # The known answers may be a column of the same table.
    sources = {spec.key: spec for spec in (assets.source, *assets.known)}.values()
    return dg.Definitions(
        assets=[
            *sources,
            *described(graph, assets.everyday),
            *described(graph, [one.made_by(job) for job, made in jobs_of.items() for one in made]),
        ],
        asset_checks=[
            up_to_date_checks(application.name, assets.before_rollout),
            # A step of its own: where nothing is published yet, `rollout` and what follows it are skipped.
            up_to_date_checks(f"{application.name}_rollout", [assets.rollout]),
        ],
        jobs=[
            _everyday_job(graph, assets),
            *([_drift_job(graph, assets.drift)] if application.schedules.drift is not None else []),
            *_jobs_by_name(graph, assets),
        ],
        schedules=schedules_of(graph),
        sensors=_sensors(graph, assets),
    )


def _sensors(graph: Graph, assets: ApplicationAssets) -> list[dg.SensorDefinition]:
    application = graph.application
    return [
        source_changed_sensor(graph, source=assets.source, job_name=application.name),
        files_changed_sensor(graph, job_name=application.name),
        *([known_answers_changed_sensor(graph, job_name=application.name)] if assets.known else []),
        *([rollout_sensor(graph, job_name=application.name)] if application.rollout.is_watched else []),
        *([adapters_trained_sensor(graph, job_name=application.name)] if assets.trainings else []),
    ]


def _tags(graph: Graph, *, priority: int = 0) -> dict[str, str]:
    return {
        APPLICATION_TAG: graph.application.name,
        "llm_platform/namespace": graph.settings.namespace,
        PRIORITY_TAG: str(graph.settings.run_priority + priority),
    }


def _everyday_job(graph: Graph, assets: ApplicationAssets) -> Any:
    title = graph.application.title
    return dg.define_asset_job(
        graph.application.name,
        selection=dg.AssetSelection.assets(*assets.everyday, *assets.models),
        description=f"Bring everything of {title} up to date. What is unchanged sends nothing to a model.",
        tags=_tags(graph),
    )


def _drift_job(graph: Graph, drift: dg.AssetsDefinition) -> Any:
    """What a schedule of drift starts."""
    return dg.define_asset_job(
        f"{graph.application.name}_drift",
        selection=dg.AssetSelection.assets(drift),
        description=f"Look for drift of {graph.application.title}, and for what should be labelled. Asks no model.",
        tags=_tags(graph),
    )


def _jobs_by_name(graph: Graph, assets: ApplicationAssets) -> list[dg.JobDefinition]:
    """Jobs of what takes minutes, hours or money: nothing but a person's asking starts them."""
    name, title = graph.application.name, graph.application.title
    backfill = job_by_name(
        backfill_job(name),
        [[bucket] for bucket in assets.buckets],
        description=f"Answer the documents of {title}, a run for each bucket. What is answered is not asked again.",
        tags=_tags(graph, priority=-BACKFILL_YIELDS),
        partitions=buckets_of(graph),
    )
    ask = job_by_name(
        judge_job(name),
        [[judge] for judge in assets.judges],
        description=f"Ask the judges of {title} that score nothing yet, and measure them beside people.",
        tags=_tags(graph),
    )
    found = [backfill, *([ask] if assets.judges else [])]
    if not assets.trainings:
        return found
    train = job_by_name(
        finetune_job(name),
        assets.trainings,
        description=f"Train the adapters of {title}. The everyday job follows: it answers with them and judges them.",
        tags=_tags(graph),
    )
    study = job_by_name(
        studies_job(name),
        [[one] for one in assets.studies],
        description=f"Compare recipes and numbers of examples of {title}, for hours. Nothing is trained twice.",
        tags=_tags(graph),
    )
    return [*found, train, study]
