"""What is missing before the adapters of an application are trained, judged and, if they may be, published."""

from __future__ import annotations

from llm_platform.errors import EvidenceMissing
from llm_platform.operations.adapter_evidence import stored_report
from llm_platform.operations.adapter_reports import adapted_releases
from llm_platform.operations.evaluation import current_evaluation_id
from llm_platform.operations.finetuning import rules_hash, training_job
from llm_platform.operations.plan import Step, plan
from llm_platform.operations.releases import Candidates
from llm_platform.operations.rollout import evidence
from llm_platform.records import Release
from llm_platform.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore


def training_plan(lake: Warehouse, candidates: Candidates, settings: Settings) -> list[Step]:
    """Assets of the job that trains that are missing or behind, in the order in which they run."""
    store = lake.application(candidates.application.name)
    steps = plan(lake, candidates)
    for name, spec in candidates.application.finetuning.items():
        data = store.training_sets.newest(name, rules_hash=rules_hash(candidates, name))
        if data is None or data.references_version != store.references.version():
            reason = "known answers changed" if data else "not made for the present prompt and split"
            steps.append(Step(f"training_examples/{name}", reason))
            continue
        job = training_job(candidates, name, spec, data, settings)
        adapter = candidates.adapter(name, store)
        if store.adapters.trained(job.inputs_hash) is None and (adapter is None or adapter.imported_from is None):
            steps.append(Step(f"adapters/{name}", f"not trained on the present {data.train} examples"))
            continue
        steps += _judged(store, candidates, name)
    return steps


def _judged(store: ApplicationStore, candidates: Candidates, name: str) -> list[Step]:
    evaluation_id = current_evaluation_id(store, candidates)
    steps = []
    for variant, release in adapted_releases(store, candidates, name).items():
        report = stored_report(store, release)
        if report is None or report.evaluation_id != evaluation_id:
            steps.append(Step(f"adapter_reports/{name}", f"{variant} was not held against the champion"))
    return steps


def promotable(store: ApplicationStore, candidates: Candidates) -> tuple[str, Release] | None:
    """A variant with an adapter that may be published and is not: the best of them by what it was measured at."""
    evaluation_id = current_evaluation_id(store, candidates)
    champion = store.rollout.champion()
    found: list[tuple[float, str, Release]] = []
    for name in candidates.application.finetuning:
        for variant, release in adapted_releases(store, candidates, name).items():
            if champion is not None and champion.release_id == release.release_id:
                continue
            try:
                report = evidence(store, candidates.application, variant, release=release, evaluation_id=evaluation_id)
            except EvidenceMissing:
                continue
            found.append((report.accuracy.lower if report.accuracy else 0.0, variant, release))
    return max(found, key=lambda item: item[:2])[1:] if found else None
