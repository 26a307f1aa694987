"""What is missing: the one place that decides whether anything has to run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from llm_platform.errors import ContractBroken, EvidenceMissing, TransientError
from llm_platform.models.lock import lock_hash
from llm_platform.operations.answering.documents import consumed_and_current, read_references
from llm_platform.operations.answering.recorded import recorded_answers
from llm_platform.operations.evidence.evaluation import current_evaluation_id, judged_releases, present_report
from llm_platform.operations.live import asked_documents, live_rollouts
from llm_platform.operations.release.contracts import filled_by
from llm_platform.operations.release.publishing import served_by
from llm_platform.operations.release.rollout import evidence
from llm_platform.operations.releases import LoadedApplication, champion_release
from llm_platform.records import RolloutEvent
from llm_platform.records.rollout import AskedDocuments, AskedShare
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class Step:
    """One asset that is not what its inputs say, and why."""

    asset: str
    reason: str


def plan(lake: Warehouse, loaded: LoadedApplication) -> list[Step]:
    """Assets of an application that are missing or behind, in the order in which they run; empty if nothing is to do.

    It only reads: the lake, the source's state and the files. No model is asked.
    """
    application = loaded.application
    store = lake.application(application.name)
    consumed, current = consumed_and_current(lake, loaded)
    steps: list[Step] = []
    if consumed is None:
        steps.append(Step("documents", "never read"))
    elif consumed.token != current.token:
        steps.append(Step("documents", f"{application.source.address} or the rules for reading it changed"))
    if application.references is not None and consumed is not None:
        known, stored = read_references(lake, application), store.references.table()
        if _rows(known) != _rows(stored):
            steps.append(Step("references", "known answers changed" if stored.num_rows else "never read"))
    steps += _prompts(store, loaded) + _models(store, loaded)
    steps += _completions(store, loaded)
    if consumed is not None:
        steps += _recorded(lake, loaded)
    if steps:
        return [*steps, Step("completions, scores, report, rollout, published", "follow from the above")]
    return _judged(store, loaded)


def nothing_to_do(lake: Warehouse, loaded: LoadedApplication) -> bool:
    """Whether a run would change nothing. Where a judge scores or a rollout is under way, that is not known here."""
    store = lake.application(loaded.application.name)
    return not loaded.judges and not live_rollouts(store).challengers and not plan(lake, loaded)


def _rows(table: pa.Table) -> set[tuple[str, ...]]:
    return set(zip(*(table[name].to_pylist() for name in ("document_id", "answer", "split")), strict=True))


def _prompts(store: ApplicationStore, loaded: LoadedApplication) -> list[Step]:
    stored = store.prompts.table()
    known = set(zip(stored["name"].to_pylist(), stored["version"].to_pylist(), strict=True))
    return [
        Step(f"prompt_{name}", "changed" if any(known_name == name for known_name, _ in known) else "new")
        for name, prompt in loaded.prompts.items()
        if (name, prompt.version) not in known
    ]


def _models(store: ApplicationStore, loaded: LoadedApplication) -> list[Step]:
    steps = []
    for name, entry in loaded.lock.items():
        seen = store.models.latest(name)
        if seen is None:
            steps.append(Step(f"model_{name}", "never asked what it is"))
        elif seen.lock_hash != lock_hash(entry):
            steps.append(Step(f"model_{name}", "its lock entry changed"))
        elif not seen.matches:
            steps.append(Step(f"model_{name}", "it did not match its lock entry"))
    return steps


def _completions(store: ApplicationStore, loaded: LoadedApplication) -> list[Step]:
    steps = []
    for variant in loaded.application.variants:
        release = loaded.release(variant, store)
        if release is None:
            # Training is asked for by itself: an adapter that is not there yet leaves nothing undone.
            if loaded.requesting(variant, store) is not None:
                steps.append(Step(f"completions_{variant}", "its calibration is not fitted yet"))
            continue
        asked = asked_documents(store, loaded.application, release)
        missing = store.completions.missing_count(release.release_id, documents=asked)
        if missing:
            steps.append(
                Step(f"completions_{variant}", f"{missing} texts have no answer of release {release.release_id}")
            )
    steps += _challengers(store)
    champion = champion_release(store)
    if champion is not None and (missing := store.completions.missing_count(champion.release_id)):
        steps.append(Step("completions_champion", f"{missing} texts have no answer of release {champion.release_id}"))
    return steps


def _challengers(store: ApplicationStore) -> list[Step]:
    steps = []
    for one in live_rollouts(store).challengers:
        share = AskedDocuments(shares=(AskedShare(rollout_id=one.rollout_id, share=one.stage.share),))
        missing = store.completions.missing_count(one.release_id, documents=share) if one.asks else 0
        if missing:
            said = f"{missing} texts of {one.stage.name} have no answer of {one.variant} (release {one.release_id})"
            steps.append(Step("completions_challengers", said))
    return steps


def _recorded(lake: Warehouse, loaded: LoadedApplication) -> list[Step]:
    steps = []
    for variant in loaded.recorded:
        try:
            count = len(recorded_answers(lake, loaded, variant).rows)
        except (ContractBroken, TransientError) as error:
            # Said by the step itself, beside which the others go on.
            steps.append(Step(f"completions_{variant}", str(error)))
            continue
        if count:
            steps.append(Step(f"completions_{variant}", f"{count} recorded answers are not stored"))
    return steps


def _judged(store: ApplicationStore, loaded: LoadedApplication) -> list[Step]:
    application = loaded.application
    steps = []
    passed = False
    evaluation_id = current_evaluation_id(store, loaded)
    for variant, release in judged_releases(store, loaded).items():
        if variant in application.variants and release.adapter is None:
            with suppress(EvidenceMissing):
                passed |= bool(evidence(store, loaded, variant, release=release, evaluation_id=evaluation_id))
        if present_report(store, loaded, release, evaluation_id=evaluation_id) is None:
            steps.append(Step("report", f"{variant} has no report on the present documents and known answers"))
    champion = store.rollout.champion()
    if champion is None:
        if passed and application.rollout.first_champion == "automatic":
            steps.append(Step("rollout", "a variant passed and nothing is published yet"))
    else:
        steps += _published(store, loaded, champion)
    return steps


def _published(store: ApplicationStore, loaded: LoadedApplication, champion: RolloutEvent) -> list[Step]:
    release = store.releases.get(champion.release_id)
    if release is None:
        return []
    try:
        filled = filled_by(store, loaded.application, release)
        served = served_by(store, loaded.application, champion, filled.contracts)
    except ContractBroken as error:
        # Said by the step itself.
        return [Step("published", str(error))]
    pending = store.published.pending(served.release_id, filled.contracts, variant=served.variant, routes=served.routes)
    steps = [Step("published", f"{pending} rows differ from what the champion says")] if pending else []
    return steps + [Step("published", f"published_v{number} is retired") for number in filled.retired]
