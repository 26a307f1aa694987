"""What an application does at stated times, whether or not anything has changed."""

# Annotations are evaluated here: Dagster reads those of a schedule's context.
from collections.abc import Sequence

import dagster as dg

from llm_platform.contracts.shape import contract_of
from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import under_way
from llm_platform.operations.answering.documents import FULL_TAG

KEPT_FRESH = "kept_fresh"
HOURS_A_DAY, MINUTES_AN_HOUR = 24, 60
DOES = {
    "run": "Takes up what no sensor has seen.",
    KEPT_FRESH: "Readers are promised fresh rows: where nothing changes upstream, a run says so in time.",
    "full": "Reads, counts and compares everything, whatever change feeds and watermarks say.",
    "drift": "Holds documents and answers against those of the promotion.",
}


def schedules_of(graph: Graph) -> Sequence[dg.ScheduleDefinition]:
    """The schedules that `application.yaml` states, and one that keeps a promise of freshness where it states no run.

    Dagster takes a table to be overdue that nothing was published to; a run that finds nothing to do says otherwise.
    """
    times = dict(graph.application.schedules.stated)
    hours = contract_of(graph.application).freshness_hours
    if hours is not None and "run" not in times:
        times[KEPT_FRESH] = _twice_in(hours)
    return [_schedule(graph, what, when) for what, when in times.items()]


def _twice_in(hours: float) -> str:
    """A time of cron that comes at least twice in so many hours, and at least once a day and at most once a minute."""
    minutes = max(int(hours * MINUTES_AN_HOUR / 2), 1)
    if minutes < MINUTES_AN_HOUR:
        return f"*/{minutes} * * * *"
    every = minutes // MINUTES_AN_HOUR
    return f"0 */{every} * * *" if every < HOURS_A_DAY else "0 3 * * *"


def _schedule(graph: Graph, what: str, when: str) -> dg.ScheduleDefinition:
    name = graph.application.name

    @dg.schedule(
        name=f"{name}_{what}",
        job_name=f"{name}_drift" if what == "drift" else name,
        cron_schedule=when,
        execution_timezone=graph.application.schedules.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if graph.settings.sensors else dg.DefaultScheduleStatus.STOPPED,
        description=DOES[what],
    )
    def scheduled(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        # Two runs of one application would do the same work; what is missing after this one, the next tick sees.
        if (running := under_way(context.instance, name)) is not None:
            return dg.SkipReason(f"run {running} of {name} is under way")
        tags = {"llm_platform/trigger": f"schedule {what}", **({FULL_TAG: "true"} if what == "full" else {})}
        return dg.RunRequest(tags=tags)

    return scheduled
