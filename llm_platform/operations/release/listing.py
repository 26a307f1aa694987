"""Releases as people look at them: what each is made of, and what it is to readers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llm_platform.evaluation.report import Report
from llm_platform.operations.evidence.comparing import named_release
from llm_platform.operations.live import open_rollouts
from llm_platform.operations.release.rollout import withdrawn_releases
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class ListedRelease:
    """One stored release.

    Attributes:
        variants: Names under which the files point at it now.
        standing: `champion`, where it is in a rollout, `withdrawn`, `served before`, or nothing.
        answers: How many are stored.
    """

    release: Release
    variants: tuple[str, ...]
    standing: str
    answers: int
    created_at: datetime


def listed_releases(store: ApplicationStore, loaded: LoadedApplication) -> list[ListedRelease]:
    """Every stored release, oldest first."""
    pointed: dict[str, list[str]] = {}
    for name in loaded.application.judged:
        if (release := loaded.release(name, store)) is not None:
            pointed.setdefault(release.release_id, []).append(name)
    standings = _standings(store)
    return [
        ListedRelease(
            release=release,
            variants=tuple(pointed.get(release.release_id, ())),
            standing=standings.get(release.release_id, ""),
            answers=sum(store.completions.counts(release.release_id).values()),
            created_at=row["created_at"],
        )
        for row in store.releases.table().to_pylist()
        for release in [Release.model_validate_json(row["content"])]
    ]


def release_account(store: ApplicationStore, loaded: LoadedApplication, name: str) -> Iterator[str]:
    """What a release is made of, how it was judged, and when it served or challenged, in lines."""
    release = named_release(store, loaded, name)
    model, sampling = release.model, release.sampling
    yield f"Release     {release.release_id}  {_standings(store).get(release.release_id, '')}".rstrip()
    yield f"Prompt      {release.prompt.name}, version {release.prompt.version}"
    yield f"Model       {model.entry} ({model.served_name}), {model.image or model.model or model.dialect}"
    yield f"Adapter     {release.adapter or 'none'}"
    yield f"Sampling    {', '.join(f'{key} {value}' for key, value in sampling.model_dump(mode='json').items())}"
    yield f"Decision    {release.decision}{', calibrated' if release.calibration is not None else ''}"
    counts = store.completions.counts(release.release_id)
    yield f"Answers     {', '.join(f'{count} {status}' for status, count in counts.items()) or 'none'}"
    row = store.reports.latest(release.release_id)
    if row is not None:
        report = Report.model_validate_json(row.report)
        yield f"Report      {report.standing}, {row.report_id}, {report.created_at:%Y-%m-%d %H:%M}"
        yield from (f"            {gate.name}: {gate.verdict}, {gate.comparison}" for gate in report.gates)
    for event in store.rollout.history():
        if event.release_id == release.release_id:
            yield f"Decided     {event.at:%Y-%m-%d %H:%M} {event.action} as {event.variant} by {event.decider}"
    for step in store.rollout_steps.history():
        if step.release_id == release.release_id and step.decision in (None, "promote", "withdraw", "hold"):
            said = step.decision or step.kind
            yield f"Rollout     {step.at:%Y-%m-%d %H:%M} {step.short_id} {said}, {step.stage_name}, by {step.decider}"


def _standings(store: ApplicationStore) -> dict[str, str]:
    found = dict.fromkeys(withdrawn_releases(store), "withdrawn")
    for event in store.rollout.history():
        found.setdefault(event.release_id, "served before")
    for step in open_rollouts(store):
        found[step.release_id] = step.stage_name + (", held" if step.status == "held" else "")
    champion = store.rollout.champion()
    return found if champion is None else {**found, champion.release_id: "champion"}
