"""`completions_challengers`: what the challengers of running rollouts answer, each on its share."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.defs.completions import asking
from llm_platform.defs.failures import StepEvent, failing_late
from llm_platform.defs.graph import Graph
from llm_platform.operations.answering.documents import require_judgeable
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.spending import spent_by
from llm_platform.operations.live import live_rollouts
from llm_platform.operations.release.challengers import answer_challengers
from llm_platform.records import Release, content_hash
from llm_platform.records.rollout import AskedDocuments
from llm_platform.resources.nim import resource_key
from llm_platform.resources.pools import pool_of
from llm_platform.resources.warehouse import WarehouseResource

CHALLENGERS = "challengers"


def challengers_asset(
    graph: Graph, *, deps: Sequence[dg.AssetsDefinition], entries: Sequence[str]
) -> dg.AssetsDefinition:
    """Answers of the challengers, from their stored content: a file that has changed since is no matter of theirs."""

    @dg.asset(
        key=graph.key(f"completions_{CHALLENGERS}"),
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"nim", "duckdb"},
        pool=pool_of(entries[0]),
        required_resource_keys={"warehouse", *map(resource_key, entries)},
        description="Answers of running rollouts' challengers: a shadow's within its budget, a canary's for readers.",
    )
    def completions_challengers(context: dg.AssetExecutionContext) -> Iterator[StepEvent]:
        yield from failing_late(context, _answer(context, graph))

    return completions_challengers


def _answer(context: dg.AssetExecutionContext, graph: Graph) -> Iterator[StepEvent]:
    warehouse: WarehouseResource = context.resources.warehouse
    with warehouse.open() as lake:
        store = lake.application(graph.application.name)

        def how(variant: str, release: Release, documents: AskedDocuments) -> Asking:
            spent = spent_by(store, graph.loaded, context.run.run_id)
            return asking(context, graph, release, variant, snapshot=lake.snapshot(), documents=documents, spent=spent)

        if live_rollouts(store).challengers:
            require_judgeable(lake, graph.loaded)
        done = answer_challengers(store, graph.loaded, how)
        answers = [(one.challenger.rollout_id, store.completions.counts(one.challenger.release_id)) for one in done]
    metadata: dict[str, int] = {}
    for one in done:
        variant = one.challenger.variant
        metadata[f"{variant}_sent"] = one.run.sent if one.run is not None else 0
        metadata[f"{variant}_tokens"] = one.run.usage.total if one.run is not None else 0
        metadata[f"{variant}_missing"] = one.missing
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(content_hash(answers)), metadata={"challengers": len(done), **metadata}
    )
