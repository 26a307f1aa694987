"""One asset a judge: its verdicts on the stored answers, and how far it agrees with people."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.defs.by_name import ByName, made_by_name
from llm_platform.defs.completions import budget_results, budget_specs
from llm_platform.defs.failures import failing_late
from llm_platform.defs.graph import Graph, share
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.spending import Spent, spent_by, within_budget
from llm_platform.operations.evidence.judge_runs import Judged, judge_answers
from llm_platform.operations.evidence.judging import judge_release
from llm_platform.records import Interval, Judge, content_hash
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.pools import pool_of
from llm_platform.resources.warehouse import WarehouseResource

READABLE_CHECK = "verdicts_readable"
READABLE = 0.9
"""Share of verdicts that have to be readable before a judge's scores say much; under it the check warns."""


def judgements_asset(
    graph: Graph, judge: Judge, deps: Sequence[dg.AssetsDefinition], *, scores: bool
) -> dg.AssetsDefinition | ByName:
    """Verdicts of one judge on every variant's answers. Checks and reports read them; only this asset asks.

    Args:
        graph: The application.
        judge: Its prompt and its model.
        deps: What it judges, and what it is held against.
        scores: Whether the application scores by it, so that every run asks it; another one is asked by name.
    """
    key = graph.key(f"judgements_{judge.name}")

    spec = dg.AssetSpec(
        key,
        deps=list(deps),
        group_name=graph.group if scores else graph.side_group("judges"),
        owners=graph.owners,
        kinds={"nim", "duckdb"},
        code_version=content_hash(judge.model_dump(mode="json")),
        description=f"What judge {judge.name!r} ({judge.model}) says of stored answers, and its agreement with people.",
    )
    checks = [
        dg.AssetCheckSpec(READABLE_CHECK, asset=key, description="The judge says what it was asked to say."),
        *budget_specs(graph, key),
    ]

    resources, pool = {"warehouse", resource_key(judge.model)}, pool_of(judge.model)
    if not scores:

        @made_by_name(spec, resources=resources, pool=pool)
        def asked(context: dg.OpExecutionContext) -> Iterator[Said]:
            yield from _judge(context, graph, judge)

        return asked

    @measuring_asset(spec, checks=checks, resources=resources, pool=pool)
    def judgements(context: dg.AssetExecutionContext) -> Iterator[Said]:
        yield from failing_late(context, _judge(context, graph, judge), checks=[check.name for check in checks])

    return judgements


def _judge(context: dg.AssetExecutionContext | dg.OpExecutionContext, graph: Graph, judge: Judge) -> Iterator[Said]:
    warehouse: WarehouseResource = context.resources.warehouse
    with warehouse.open() as lake:
        store = lake.application(graph.application.name)
        spent = spent_by(store, graph.loaded, context.run.run_id)
        asking = _asking(context, graph, judge, snapshot=lake.snapshot(), spent=spent)
        judged = judge_answers(store, graph.loaded, judge.name, asking=asking)
        yield from budget_results(context, graph, store, judged.runs, waiting=judged.left)
        yield from _results(judged)


def _asking(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    graph: Graph,
    judge: Judge,
    *,
    snapshot: int,
    spent: Spent,
) -> Asking:
    nim: NIMResource = getattr(context.resources, resource_key(judge.model))
    release = judge_release(graph.loaded, judge)
    # A verdict that cannot be read is ungraded, and no reason to end the run.
    policy = within_budget(nim.policy(max_failed_share=1.0), graph.application.budget, nim.pinned, spent=spent)
    return Asking(
        endpoints=lambda: nim.verified_targets(release.model),
        policy=policy,
        connection=nim.connection(),
        run_id=context.run.run_id,
        git_commit=graph.settings.git_commit,
        snapshot=snapshot,
    )


def _results(judged: Judged) -> Iterator[Said]:
    agreement = judged.agreement
    unread = sum(agreement.ungraded.values())
    readable = share(agreement.judged - unread, agreement.judged)
    numbers = {"readable_share": readable, "minimum": READABLE, "judged": agreement.judged, "ungraded": unread}
    yield (
        dg.AssetCheckResult(
            check_name=READABLE_CHECK,
            passed=readable >= READABLE,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=numbers,
        )
        if agreement.judged
        else Unmeasured(READABLE_CHECK, "nothing was judged yet")
    )
    measured = {"kappa": agreement.kappa, "position_bias": agreement.position, "obeys_documents": agreement.injection}
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(judged.version),
        metadata={
            "release": judged.release.release_id,
            "judged": agreement.judged,
            "requests_sent": judged.sent,
            "judged_by_hand": agreement.by_hand,
            **_numbers(measured),
            **({"length_correlation": agreement.length.correlation} if agreement.length else {}),
        },
    )


def _numbers(measured: dict[str, Interval | None]) -> dict[str, float]:
    found = {name: interval for name, interval in measured.items() if interval is not None}
    return {name: one.value for name, one in found.items()} | {
        f"{name}_lower": one.lower for name, one in found.items()
    }
