"""Challengers answer their share of the documents: within the budget of their stage, beside the champion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from llm_platform.application.model import Application
from llm_platform.errors import PermanentError, PlatformError, TransientError
from llm_platform.operations.answering.completions import answer
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.live import Challenger, live_rollouts
from llm_platform.operations.release.observing import stage_budget
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import InferenceRun, Release
from llm_platform.records.rollout import AskedDocuments, AskedShare
from llm_platform.warehouse.store import ApplicationStore

Limit = TypeVar("Limit", int, float)
How = Callable[[str, Release, AskedDocuments], Asking]
"""How the documents of a share are sent, for a variant's name and its release."""


@dataclass(frozen=True)
class ChallengerAnswered:
    """What a challenger was asked.

    Attributes:
        run: None where nothing had to be sent, or nothing may be any more.
        missing: Documents of its share without an answer.
    """

    challenger: Challenger
    run: InferenceRun | None
    missing: int


def answer_challengers(store: ApplicationStore, loaded: LoadedApplication, how: How) -> list[ChallengerAnswered]:
    """Ask every challenger about the documents of its share that it has not answered.

    Raises:
        PermanentError, TransientError: one of them could not be asked; the others were.
    """
    done: list[ChallengerAnswered] = []
    troubles: list[PlatformError] = []
    for challenger in live_rollouts(store).challengers:
        release = store.releases.get(challenger.release_id)
        if release is None or not challenger.asks:
            continue
        try:
            done.append(_answered(store, loaded, challenger, release, how=how))
        except PlatformError as error:
            # What one challenger's endpoint does is no matter of the others.
            troubles.append(error)
    if troubles:
        kind = TransientError if all(isinstance(one, TransientError) for one in troubles) else PermanentError
        raise kind("\n".join(str(one) for one in troubles))
    return done


def _answered(
    store: ApplicationStore, loaded: LoadedApplication, challenger: Challenger, release: Release, *, how: How
) -> ChallengerAnswered:
    share = AskedShare(rollout_id=challenger.rollout_id, share=challenger.stage.share)
    documents = AskedDocuments(shares=(share,))
    run = None
    tokens, usd = stage_budget(store, loaded, store.rollout_steps.of(challenger.rollout_id), release)
    if (tokens is None or tokens > 0) and (usd is None or usd > 0.0):
        asking = within_stage(how(challenger.variant, release, documents), tokens=tokens, usd=usd)
        run = _sent(store, loaded.application, release, asking)
    missing = store.completions.missing_count(release.release_id, documents=documents)
    return ChallengerAnswered(challenger, run, missing)


def _sent(store: ApplicationStore, application: Application, release: Release, asking: Asking) -> InferenceRun | None:
    return answer(store, release, application=application, calibrate=False, asking=asking).run


def within_stage(asking: Asking, *, tokens: int | None, usd: float | None) -> Asking:
    """The same within what a stage has left: whichever limit is smaller ends it."""
    policy = asking.policy
    return replace(
        asking,
        policy=replace(
            policy,
            budget_tokens=_smaller(policy.budget_tokens, tokens),
            budget_usd=_smaller(policy.budget_usd, usd),
        ),
    )


def _smaller(one: Limit | None, other: Limit | None) -> Limit | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None
