"""Limits that champion and challengers are held to at every look, and which of them are broken.

A rate is broken when its interval, which holds at every look, lies beyond the limit: a guard acts without a person, so
a few unlucky documents must not be enough.
"""

from __future__ import annotations

from llm_platform.evaluation.sequential import sequence_bounds
from llm_platform.operations.releases import LoadedApplication, requesting
from llm_platform.operations.watching.drift import latest_report
from llm_platform.records import Release
from llm_platform.records.rollout import CeilingGuard, FloorGuard, RolloutGuards
from llm_platform.rollout.decision import GuardBreach
from llm_platform.warehouse.shares import ShareMeasured
from llm_platform.warehouse.store import ApplicationStore

SLOW_SHARE = 0.05
"""Of answers that may take longer than a limit on the 95th percentile."""


def breaches(
    store: ApplicationStore, loaded: LoadedApplication, release: Release, *, rollout_id: str | None, share: float = 1.0
) -> tuple[GuardBreach, ...]:
    """Guards that a release breaks on its share; the champion, without a rollout, is also held to what is live."""
    guards = loaded.application.rollout.guards
    if guards == RolloutGuards():
        return ()
    slow = guards.p95_latency_seconds
    measured = store.shares.measured(
        release.release_id,
        rollout_id=rollout_id,
        share=share,
        slower_than=slow.maximum if slow is not None else None,
    )
    confidence = loaded.application.evaluation.gates.confidence
    found = [
        _below("valid_rate", guards.valid_rate, measured.valid, measured.answered, confidence),
        _above("error_rate", guards.error_rate, measured.failed, measured.answered, confidence),
        _slow(slow, measured, confidence),
        _dear(store, loaded, release),
    ]
    if rollout_id is None:
        found += _live(store, loaded, release)
    return tuple(one for one in found if one is not None)


def _below(name: str, guard: FloorGuard | None, count: int, of: int, confidence: float) -> GuardBreach | None:
    if guard is None or of < guard.documents:
        return None
    _, upper = sequence_bounds(count / of, of, confidence=confidence)
    if upper >= guard.minimum:
        return None
    said = f"{count / of:.3f} of {of} documents (upper bound {upper:.3f}), below {guard.minimum:g}"
    return GuardBreach(name=name, measured=said, action=guard.action)


def _above(name: str, guard: CeilingGuard | None, count: int, of: int, confidence: float) -> GuardBreach | None:
    if guard is None or of < guard.documents:
        return None
    lower, _ = sequence_bounds(count / of, of, confidence=confidence)
    if lower <= guard.maximum:
        return None
    said = f"{count / of:.3f} of {of} documents (lower bound {lower:.3f}), above {guard.maximum:g}"
    return GuardBreach(name=name, measured=said, action=guard.action)


def _slow(guard: CeilingGuard | None, measured: ShareMeasured, confidence: float) -> GuardBreach | None:
    if guard is None or measured.timed < guard.documents or measured.p95_seconds is None:
        return None
    lower, _ = sequence_bounds(measured.slower / measured.timed, measured.timed, confidence=confidence)
    if lower <= SLOW_SHARE:
        return None
    said = f"{measured.p95_seconds:.2f} s over {measured.timed} answers, above {guard.maximum:g} s"
    return GuardBreach(name="p95_latency_seconds", measured=said, action=guard.action)


def _dear(store: ApplicationStore, loaded: LoadedApplication, release: Release) -> GuardBreach | None:
    guard = loaded.application.rollout.guards.cost_usd_per_document
    prices = loaded.prices(release.model.entry)
    runs = store.runs.of_release(requesting(release).release_id)
    stored = sum(run.stored for run in runs)
    if guard is None or not prices.are_known or stored < guard.documents:
        return None
    each = sum(prices.cost_usd(run.seconds, run.usage) for run in runs) / stored
    if each <= guard.maximum:
        return None
    said = f"{each:.6f} USD over {stored} answers, above {guard.maximum:g} USD"
    return GuardBreach(name="cost_usd_per_document", measured=said, action=guard.action)


def _live(store: ApplicationStore, loaded: LoadedApplication, release: Release) -> list[GuardBreach]:
    guards, report = loaded.application.rollout.guards, latest_report(store)
    if report is None or report.release_id != release.release_id:
        return []
    found = []
    if guards.drift is not None and report.drifted:
        found.append(GuardBreach(name="drift", measured=", ".join(report.drifted), action=guards.drift.action))
    live, guard = report.accuracy, guards.live_accuracy
    if guard is not None and live.value is not None and live.labelled >= guard.documents and live.upper < guard.minimum:
        said = f"{live.value:.3f} of {live.labelled} labels (upper bound {live.upper:.3f}), below {guard.minimum:g}"
        found.append(GuardBreach(name="live_accuracy", measured=said, action=guard.action))
    return found
