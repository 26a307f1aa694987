"""What is observed of a challenger on its present stage: the evidence that its state machine decides on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.pairing import Rules
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.sample_ratio import SampleRatio, StageCounts, sample_ratio
from llm_platform.operations.evidence.deciding import difference_so_far
from llm_platform.operations.evidence.evaluation import current_evaluation_id
from llm_platform.operations.live import LiveRollouts, challenger
from llm_platform.operations.release.guards import breaches
from llm_platform.operations.release.rollout import evidence
from llm_platform.operations.release.underneath import AdapterBytes, moved, underneath
from llm_platform.operations.releases import LoadedApplication, requesting
from llm_platform.records import InferenceRun, Interval, Release, ReviewRole, RolloutEvent
from llm_platform.records.rollout import AskedDocuments, AskedShare, RolloutStage, RolloutStep
from llm_platform.rollout.decision import Approval, StageEvidence
from llm_platform.rollout.routing import LiveShare, expected_shares
from llm_platform.warehouse.store import ApplicationStore

CHAMPIONS_OWN = "champion"
RoleOf = Callable[[str], ReviewRole | None]
"""Which role somebody has now; None for somebody who has none."""
SAMPLE_RATIO_ALPHA = 0.001


@dataclass(frozen=True)
class Observed:
    """What a decision is taken on.

    Attributes:
        report: The passing report that lets its answers be published; None where there is none.
        spent_usd: Since it was entered; None where its model has no price.
    """

    evidence: StageEvidence
    champion: RolloutEvent
    report: Report | None
    spent_usd: float | None
    spent_tokens: int


def observe(
    store: ApplicationStore,
    loaded: LoadedApplication,
    live: LiveRollouts,
    steps: Sequence[RolloutStep],
    *,
    now: datetime,
    comparisons: int,
    adapter_bytes: AdapterBytes | None = None,
    role_of: RoleOf | None = None,
) -> Observed:
    """What is observed of a rollout.

    Args:
        live: All rollouts beside it.
        steps: All of its own, oldest first.
        comparisons: How many rollouts are held against the champion together.

    Raises:
        EvidenceMissing: nothing serves, so that there is nothing to hold it against; or its release is not stored.
    """
    newest, began = steps[-1], _stage_began(steps)
    stage = newest.stages().stages[newest.stage]
    champion, release = store.rollout.champion(), store.releases.get(newest.release_id)
    if champion is None or release is None:
        raise EvidenceMissing(
            f"{newest.application}: the rollout {newest.short_id} of {newest.variant!r} cannot be decided: "
            + ("nothing serves." if champion is None else f"its release {newest.release_id} is not stored.")
        )
    stored = json.loads(steps[0].underneath)
    present = underneath(store, loaded, newest.variant)
    found, labels = _difference(store, loaded, champion, release, comparisons=comparisons)
    documents, unpublished = _documents(store, loaded, live, newest, stage)
    report, refused = _report(store, loaded, newest.variant, release)
    runs = _runs_since(store, release, steps[0].at)
    on_stage = [run for run in runs if run.started_at >= began.at]
    spent_usd = _cost(loaded, release, on_stage)
    asked = _requests(steps)
    return Observed(
        evidence=StageEvidence(
            documents=documents,
            unpublished=unpublished,
            labels=labels,
            hours=max(0.0, (now - began.at).total_seconds() / 3600.0),
            spent_usd=spent_usd or 0.0,
            spent_tokens=sum(run.budget_tokens for run in on_stage),
            exhausted=_exhausted(loaded, stage, on_stage, spent_usd=spent_usd or 0.0),
            difference=found,
            split_is_as_stated=_split(store, live, steps, on_stage).is_as_stated,
            breaches=breaches(store, loaded, release, rollout_id=newest.rollout_id, share=stage.share),
            void=moved(store, loaded, steps[0], present=present, stored=stored, adapter_bytes=adapter_bytes),
            refused=refused,
            approvals=_approvals(steps, began, role_of, champion=champion.release_id),
            withdrawn_by=asked.get("withdraw"),
            held_by=asked.get("hold"),
            resumed_by=asked.get("resume"),
            serves=champion.release_id == newest.release_id,
        ),
        champion=champion,
        report=report,
        spent_usd=_cost(loaded, release, runs),
        spent_tokens=sum(run.budget_tokens for run in runs),
    )


def stage_budget(
    store: ApplicationStore, loaded: LoadedApplication, steps: Sequence[RolloutStep], release: Release
) -> tuple[int | None, float | None]:
    """Tokens and USD that a challenger's stage has left; None where it states no limit."""
    began, newest = _stage_began(steps), steps[-1]
    stage: RolloutStage = newest.stages().stages[newest.stage]
    runs = _runs_since(store, release, began.at)
    tokens = None if stage.budget_tokens is None else stage.budget_tokens - sum(run.budget_tokens for run in runs)
    spent = _cost(loaded, release, runs) or 0.0
    return tokens, None if stage.budget_usd is None else stage.budget_usd - spent


def _exhausted(
    loaded: LoadedApplication, stage: RolloutStage, runs: Sequence[InferenceRun], *, spent_usd: float
) -> bool:
    """Whether a run of the stage found no room for a document in what the stage's budget leaves.

    A run of an application that has such a budget of its own may have stopped for that one: there it is told by what
    a request has taken on average.
    """
    tokens, requests = sum(run.budget_tokens for run in runs), max(1, sum(run.sent for run in runs))
    own = loaded.application.budget
    for stated, limit, spent, cause in (
        (stage.budget_tokens, own.tokens, tokens, "stopped_budget_tokens"),
        (stage.budget_usd, own.cost_usd, spent_usd, "stopped_budget_usd"),
    ):
        if stated is None or not any(cause in run.causes for run in runs):
            continue
        if limit is None or stated - spent < spent / requests:
            return True
    return False


def _stage_began(steps: Sequence[RolloutStep]) -> RolloutStep:
    """The step with which the present stage began."""
    newest = steps[-1]
    began = newest
    for step in reversed(steps):
        if step.stage != newest.stage:
            break
        began = step
    return began


def _documents(
    store: ApplicationStore, loaded: LoadedApplication, live: LiveRollouts, newest: RolloutStep, stage: RolloutStage
) -> tuple[int, int]:
    """Documents of the stage, and those of them that readers do not have yet: of a canary, what readers have counts."""
    if stage.stage == "canary" and any(one.rollout_id == newest.rollout_id for one in live.routes):
        contract = store.published.present(loaded.application.publish.contract)
        return store.shares.published(live.routes, newest.rollout_id, contract)
    share = store.shares.measured(newest.release_id, rollout_id=newest.rollout_id, share=stage.share)
    return share.answered, 0


def _difference(
    store: ApplicationStore,
    loaded: LoadedApplication,
    champion: RolloutEvent,
    release: Release,
    *,
    comparisons: int,
) -> tuple[Interval | None, int]:
    if champion.release_id == release.release_id or store.releases.get(champion.release_id) is None:
        return None, 0
    gates = loaded.application.evaluation.gates
    # Whatever the gates are: a rollout is looked at after every run.
    rules = Rules(confidence=gates.confidence, looks="any").together(comparisons)
    found, labels = difference_so_far(store, loaded, (champion.release_id, release.release_id), rules=rules)
    return None if found.difference is None or not labels else found.difference.difference, labels


def _report(
    store: ApplicationStore, loaded: LoadedApplication, variant: str, release: Release
) -> tuple[Report | None, str | None]:
    try:
        report = evidence(store, loaded, variant, release=release, evaluation_id=current_evaluation_id(store, loaded))
    except EvidenceMissing as error:
        return None, str(error).rstrip(".")
    return report, None


def _split(
    store: ApplicationStore, live: LiveRollouts, steps: Sequence[RolloutStep], on_stage: Sequence[InferenceRun]
) -> SampleRatio:
    """Whether documents reach the challengers in the stated shares.

    Only once it was asked about its share: until then all of it is the champion's, as it must be.
    """
    newest = steps[-1]
    here, canaries = challenger(newest), [one for one in newest.stages().stages if one.stage == "canary"]
    alpha = SAMPLE_RATIO_ALPHA / max(1, len(canaries))
    if not here.publishes or not _has_been_asked(store, newest, on_stage):
        return SampleRatio(documents=0, p_value=1.0, alpha=alpha)
    routes = live.routes
    shares = expected_shares([LiveShare(rollout_id=one.rollout_id, share=one.share) for one in routes])
    counted = store.shares.routed(routes)
    # Each rollout answers for its own share: what goes wrong with another one is that one's trouble.
    own, rest = newest.rollout_id, CHAMPIONS_OWN
    share = shares.get(newest.rollout_id, 0.0)
    counts = {own: counted.get(newest.rollout_id, 0)}
    counts[rest] = sum(counted.values()) - counts[own]
    return sample_ratio([StageCounts(shares={own: share, rest: 1.0 - share}, counts=counts)], alpha=alpha)


def _has_been_asked(store: ApplicationStore, step: RolloutStep, on_stage: Sequence[InferenceRun]) -> bool:
    share = AskedDocuments(shares=(AskedShare(rollout_id=step.rollout_id, share=step.share),))
    return bool(on_stage) or store.completions.missing_count(step.release_id, documents=share) == 0


def _approvals(
    steps: Sequence[RolloutStep], began: RolloutStep, role_of: RoleOf | None, *, champion: str
) -> tuple[Approval, ...]:
    """Approvals of the next stage since the present one began, beside what serves, on what was underneath at the start.

    Whoever has another role by now, or none, has approved nothing.
    """
    since = steps[steps.index(began) :]
    same = [step for step in since if (step.underneath, step.champion_release_id) == (steps[0].underneath, champion)]
    given = [step for step in same if step.kind == "approve"]
    return tuple(
        Approval(by=step.by, role=step.role or "", authenticated=step.authenticated)
        for step in given
        if role_of is None or not step.authenticated or role_of(step.by) == step.role
    )


def _requests(steps: Sequence[RolloutStep]) -> dict[str, str]:
    """What people have asked for since the last decision: the last word on hold and resume, and any withdrawal."""
    asked: dict[str, str] = {}
    for step in reversed(steps):
        if step.kind == "decide":
            break
        if step.kind == "withdraw":
            asked["withdraw"] = step.by
        elif step.kind in ("hold", "resume") and not asked.keys() & {"hold", "resume"}:
            asked[step.kind] = step.by
    return asked


def _runs_since(store: ApplicationStore, release: Release, since: datetime) -> list[InferenceRun]:
    runs = store.runs.of_release(requesting(release).release_id)
    return [run for run in runs if run.started_at >= since]


def _cost(loaded: LoadedApplication, release: Release, runs: Sequence[InferenceRun]) -> float | None:
    prices = loaded.prices(release.model.entry)
    return sum(prices.cost_usd(run.seconds, run.usage) for run in runs) if prices.are_known else None
