"""How a run is executed: its steps one after the other in one process, on one attached lake.

Not a resource that holds it: one that is taken back at the end cannot be handed to a sensor without a scope of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from llm_platform.resources.warehouse import kept_open


class OneLake(InProcessExecutor):
    """Dagster's own, with the lake that the first step opens kept open for the others."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Run the steps."""
        with kept_open():
            yield from super().execute(plan_context, execution_plan)


@dg.executor(name="in_process")
def on_one_lake(_: dg.InitExecutorContext) -> OneLake:
    """The executor of all jobs."""
    return OneLake(retries=RetryMode.ENABLED)
