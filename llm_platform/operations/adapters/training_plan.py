"""What is missing before the adapters of an application are trained, judged and, if they may be, published."""

from __future__ import annotations

from llm_platform.errors import EvidenceMissing
from llm_platform.operations.adapters.adapter_reports import adapted_releases
from llm_platform.operations.adapters.finetuning import rules_hash, training_job
from llm_platform.operations.evidence.adapter_evidence import stored_report
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.release.plan import Step, plan
from llm_platform.operations.release.rollout import evidence
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore


def training_plan(lake: Warehouse, loaded: LoadedApplication, *, gpus: int) -> list[Step]:
    """Assets of the job that trains that are missing or behind, in the order in which they run;
    `gpus` are those of a training."""
    store = lake.application(loaded.application.name)
    steps = plan(lake, loaded)
    for name, spec in loaded.application.finetuning.items():
        data = store.training_sets.newest(name, rules_hash=rules_hash(loaded, name))
        if data is None or data.references_version != store.references.version():
            reason = "known answers changed" if data else "not made for the present prompt and split"
            steps.append(Step(f"training_examples_{name}", reason))
            continue
        job = training_job(loaded, name, spec, data, gpus=gpus)
        adapter = loaded.adapter(name, store)
        if store.adapters.trained(job.inputs_hash) is None and (adapter is None or adapter.imported_from is None):
            steps.append(Step(f"adapter_{name}", f"not trained on the present {data.train} examples"))
            continue
        steps += _judged(store, loaded, name)
    return steps


def _judged(store: ApplicationStore, loaded: LoadedApplication, name: str) -> list[Step]:
    evaluation_id = current_evaluation_id(store, loaded)
    steps = []
    for variant, release in adapted_releases(store, loaded, name).items():
        report = stored_report(store, release)
        if report is None or report.evaluation_id != evaluation_id:
            steps.append(Step(f"adapter_report_{name}", f"{variant} was not held against the champion"))
    return steps


def promotable(store: ApplicationStore, loaded: LoadedApplication) -> tuple[str, Release] | None:
    """A variant with an adapter that may be published and is not: the best of them by what it was measured at."""
    evaluation_id = current_evaluation_id(store, loaded)
    champion = store.rollout.champion()
    found: list[tuple[float, str, Release]] = []
    for name in loaded.application.finetuning:
        for variant, release in adapted_releases(store, loaded, name).items():
            if champion is not None and champion.release_id == release.release_id:
                continue
            try:
                report = evidence(store, loaded, variant, release=release, evaluation_id=evaluation_id)
            except EvidenceMissing:
                continue
            found.append((report.accuracy.lower if report.accuracy else 0.0, variant, release))
    return max(found, key=lambda item: item[:2])[1:] if found else None
