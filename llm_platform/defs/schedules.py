"""What an application does at stated times, whether or not anything has changed."""

# Annotations are evaluated here: Dagster reads those of a schedule's context.
from collections.abc import Sequence

import dagster as dg

from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import under_way
from llm_platform.operations.answering.documents import FULL_TAG

DOES = {
    "run": "Takes up what no sensor has seen.",
    "full": "Reads, counts and compares everything, whatever change feeds and watermarks say.",
    "drift": "Holds documents and answers against those of the promotion.",
}


def stated_schedules(graph: Graph) -> Sequence[dg.ScheduleDefinition]:
    """The schedules that `application.yaml` states."""
    return [_schedule(graph, what, when) for what, when in graph.application.schedules.stated.items()]


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
