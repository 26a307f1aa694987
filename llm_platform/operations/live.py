"""Who answers now: the champion, the challengers beside it, and whose a document is.

What publishes and what serves callers online read the same rows here, so that both decide alike. It is read as state:
whoever keeps a `LiveRollouts` for longer than a request looks again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

from llm_platform.application.model import Application
from llm_platform.evaluation.gates import standing
from llm_platform.records import GateResult, Release
from llm_platform.records.rollout import AskedDocuments, RolloutStage, RolloutStep, Route
from llm_platform.rollout.chain import broken_at
from llm_platform.rollout.routing import LiveShare, place_of, route
from llm_platform.warehouse.store import ApplicationStore


class ServingRelease(NamedTuple):
    """A release that answers a document; `rollout_id` is None for the champion."""

    variant: str
    release_id: str
    rollout_id: str | None = None


@dataclass(frozen=True)
class Challenger:
    """A challenger whose rollout is not over.

    Attributes:
        stage: Where it is, with its share and its budget.
        is_held: Nothing more is decided until somebody resumes it: a canary keeps its documents, a shadow asks nothing.
    """

    rollout_id: str
    variant: str
    release_id: str
    stage: RolloutStage
    is_held: bool

    @property
    def publishes(self) -> bool:
        """Whether readers get its answers."""
        return self.stage.stage == "canary"

    @property
    def asks(self) -> bool:
        """Whether documents are sent to it."""
        return self.publishes or not self.is_held

    def wants(self, document_id: str) -> bool:
        """Whether a document is in its share."""
        return place_of(self.rollout_id, document_id) < self.stage.share


@dataclass(frozen=True)
class LiveRollouts:
    """The champion and the running challengers of an application, the oldest first.

    Attributes:
        champion: None while nothing was ever promoted.
    """

    champion: ServingRelease | None
    challengers: tuple[Challenger, ...] = ()

    @property
    def routes(self) -> tuple[Route, ...]:
        """Challengers that publish, as the published table is routed."""
        return tuple(
            Route(rollout_id=one.rollout_id, variant=one.variant, release_id=one.release_id, share=one.stage.share)
            for one in self.challengers
            if one.publishes
        )

    def variant_of(self, document_id: str) -> ServingRelease | None:
        """Whose a document is: whose answer its reader gets."""
        shares = [LiveShare(rollout_id=one.rollout_id, share=one.share) for one in self.routes]
        chosen = route(document_id, shares).rollout_id
        for one in self.challengers:
            if one.rollout_id == chosen:
                return ServingRelease(one.variant, one.release_id, one.rollout_id)
        return self.champion

    def shadows_of(self, document_id: str) -> tuple[Challenger, ...]:
        """Challengers that answer a document too, and whose answer nobody gets."""
        return tuple(
            one for one in self.challengers if one.stage.stage == "shadow" and one.asks and one.wants(document_id)
        )


def live_rollouts(store: ApplicationStore) -> LiveRollouts:
    """Who answers now. A dry run is not there: it changes nothing; nor is a rollout that its rows do not bear out."""
    champion = store.rollout.champion()
    found = [step for step in open_rollouts(store) if not step.stages().dry_run and not_borne_out(store, step) is None]
    return LiveRollouts(
        champion=None if champion is None else ServingRelease(champion.variant, champion.release_id),
        challengers=tuple(map(challenger, found)),
    )


def not_borne_out(store: ApplicationStore, newest: RolloutStep) -> str | None:
    """Why a rollout is not where its newest row says, in words; None where it is.

    Its rows have to follow from each other, and what publishes has to name a passing report on exactly its release.
    """
    steps = store.rollout_steps.of(newest.rollout_id)
    broken = broken_at(steps)
    if broken is not None or newest.stages().stages[newest.stage].stage == "shadow":
        return broken
    for report_id in dict.fromkeys(step.report_id for step in reversed(steps) if step.report_id is not None):
        row = store.reports.get(report_id)
        report = {} if row is None else json.loads(row.report)
        gates = tuple(GateResult.model_validate(gate) for gate in report.get("gates", ()))
        if report.get("release_id") == newest.release_id and standing(gates) == "approved":
            return None
    return f"no passing report on its release {newest.release_id} is stored"


def asked_documents(store: ApplicationStore, application: Application, release: Release) -> AskedDocuments | None:
    """Documents that a variant of the file is asked about; None means all.

    Where rollouts have stages and something serves, what does not serve is asked about what it can be judged by; the
    rest is asked of it stage by stage. Only a share of a stage costs more than that.
    """
    champion = store.rollout.champion()
    if not application.rollout.stages or champion is None:
        return None
    serving = store.releases.get(champion.release_id)
    return None if serving is not None and serving.request_id == release.request_id else AskedDocuments(known=True)


def open_rollouts(store: ApplicationStore) -> list[RolloutStep]:
    """The newest step of every rollout that is not over, dry runs too, the oldest first."""
    return [step for step in store.rollout_steps.newest() if not step.is_over]


def challenger(step: RolloutStep) -> Challenger:
    """Where a rollout is after its newest step."""
    return Challenger(
        rollout_id=step.rollout_id,
        variant=step.variant,
        release_id=step.release_id,
        stage=step.stages().stages[step.stage],
        is_held=step.status == "held",
    )
