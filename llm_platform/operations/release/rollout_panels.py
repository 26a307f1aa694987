"""A timeline of each rollout as panels of the report card: shares, verdicts, and the difference over labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llm_platform.evaluation.charts import Line, Point, line_chart
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.wording import counted, interval_text
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records.rollout import RolloutStep
from llm_platform.rollout.decision import StageEvidence
from llm_platform.warehouse.store import ApplicationStore

MOST_ROLLOUTS = 4
MOST_ROWS = 20


class SeenDecision(NamedTuple):
    """A decision and what was observed for it."""

    step: RolloutStep
    seen: StageEvidence


def rollout_panels(store: ApplicationStore, loaded: LoadedApplication) -> list[Panel]:
    """Two panels for each of the newest rollouts; nothing before the first."""
    del loaded
    newest = store.rollout_steps.newest()[-MOST_ROLLOUTS:]
    panels: list[Panel] = []
    for rollout in reversed(newest):
        panels += _of(store.rollout_steps.of(rollout.rollout_id))
    return panels


def _of(steps: Sequence[RolloutStep]) -> list[Panel]:
    newest = steps[-1]
    looked = [SeenDecision(step, StageEvidence.model_validate_json(step.evidence)) for step in steps if step.evidence]
    cost = "" if newest.spent_usd is None else f", {newest.spent_usd:.4f} USD"
    state = newest.stage_name if newest.status == "running" else f"{newest.status} at {newest.stage_name}"
    if newest.status == "champion":
        state = "the champion"
    dry = "" if newest.applied else " This is a dry run: nothing was changed."
    why = f" Last decision: {newest.decision}, {'; '.join(newest.reasons)}." if newest.decision else ""
    shown = Panel(
        title=f"Rollout of {newest.variant}: {state}",
        note=(
            f"Rollout {newest.short_id} of release {newest.release_id}, {newest.spent_tokens:,} tokens{cost}."
            f"{why}{dry} The steps are shares of documents that get its answers, from its start."
        ),
        picture=_shares(steps),
        columns=("when (UTC)", "step", "stage", "state", "documents", "labels", "difference", "by", "why"),
        rows=tuple(_row(step) for step in steps[-MOST_ROWS:]),
        wide=True,
    )
    picture = _difference(looked)
    return [shown] if picture is None else [shown, picture]


def _shares(steps: Sequence[RolloutStep]) -> str:
    """Share of documents whose readers get the challenger's answer, step by step; what is held stays where it is."""
    start = steps[0].at
    points: list[Point] = []
    before = 0.0
    for step in steps:
        hours = (step.at - start).total_seconds() / 3600.0
        share = _published_share(step)
        if share != before:
            points.append(Point(x=hours, y=before))
        points.append(Point(x=hours, y=share))
        before = share
    line = Line(name="published share", points=tuple(points))
    return line_chart([line], title="Share of documents over time", x_label="hours since its start", y_label="share")


def _published_share(step: RolloutStep) -> float:
    if step.status == "withdrawn" or not step.applied:
        return 0.0
    return 1.0 if step.status == "champion" else 0.0 if step.stage_name.startswith("shadow") else step.share


def _difference(looked: Sequence[SeenDecision]) -> Panel | None:
    known = {one.seen.labels: one.seen for one in looked if one.seen.difference is not None}
    points = [
        Point(x=labels, y=seen.difference.value, lower=seen.difference.lower, upper=seen.difference.upper)
        for labels, seen in sorted(known.items())
        if seen.difference is not None
    ]
    if not points:
        return None
    step = looked[-1].step
    picture = line_chart(
        [Line(name="difference", points=tuple(points))],
        title=f"Score of {step.variant} minus the champion's, over labels",
        x_label="labels",
        y_label="difference",
        minimum=0.0,
    )
    last = known[max(known)]
    said = "" if last.difference is None else f" Now {interval_text(last.difference)}."
    return Panel(
        title=f"{step.variant} against the champion",
        note=f"The paired difference after {counted(last.labels, 'label')}, with an interval that holds at every look."
        f"{said}",
        picture=picture,
    )


def _row(step: RolloutStep) -> tuple[str, ...]:
    seen = StageEvidence.model_validate_json(step.evidence) if step.evidence else None
    difference = "–" if seen is None or seen.difference is None else interval_text(seen.difference)
    counts = ("–", "–") if seen is None else (f"{seen.documents:,}", f"{seen.labels:,}")
    said = (step.decision or step.kind) + ("" if step.applied else " (dry run)")
    why = "; ".join(step.reasons) or step.note
    return (f"{step.at:%Y-%m-%d %H:%M}", said, step.stage_name, step.status, *counts, difference, step.decider, why)
