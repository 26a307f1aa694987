"""`rollout` and `published`: which release serves, and what readers get."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.defs.failures import StepEvent, dagster_failures, failing_late
from llm_platform.defs.graph import Graph
from llm_platform.operations.release.rollout import contract_violations, decide, publish
from llm_platform.records.tables import PUBLISHED
from llm_platform.resources.warehouse import WarehouseResource


def rollout_asset(graph: Graph, report: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Which release serves the published table, since when, on what evidence."""
    application = graph.application

    @dg.asset(
        key=graph.key("rollout"),
        deps=[report],
        group_name=graph.group,
        owners=graph.owners,
        kinds={"python"},
        code_version=application.rollout.first_champion,
        # With no champion there is nothing to publish: what comes after is skipped, and the run is not a failure.
        output_required=False,
        description="Append-only decisions. The first champion may be chosen here; others by `llm-platform promote`.",
    )
    def rollout(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> Iterator[StepEvent]:
        yield from failing_late(context, _decide(context, warehouse, graph))

    return rollout


def _decide(context: dg.AssetExecutionContext, warehouse: WarehouseResource, graph: Graph) -> Iterator[StepEvent]:
    application = graph.application
    with warehouse.open() as lake:
        store = lake.application(application.name)
        decision = decide(store, graph.loaded)
        waiting = {name: graph.loaded.pending(name, store) for name in application.variants}
    refused = [name for name in decision.refused if waiting.get(name) is None]
    for variant, reason in decision.refused.items():
        said = f"{variant} is not approved: {reason}" if variant in refused else f"{variant}: {reason}"
        context.log.warning(said)
    champion = decision.champion
    if champion is None:
        context.log.warning(f"{application.name} has no champion, so nothing is published.")
        return
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(champion.event_id),
        metadata={
            "champion": champion.variant,
            "release": champion.release_id,
            "promoted_now": decision.promoted,
            "refused": ", ".join(refused) or "none",
            **{f"{name}_waits": f"{reason}" for name, reason in waiting.items() if reason is not None},
        },
    )


def published_asset(graph: Graph, deps: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """What downstream reads: one row per document, under a versioned contract."""
    application = graph.application
    key = graph.key("published")

    @dg.asset(
        key=key,
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"duckdb", "parquet"},
        code_version=str(application.publish.contract),
        check_specs=[
            dg.AssetCheckSpec(
                "contract_holds",
                asset=key,
                blocking=True,
                description="One row per document, answers of the task's form, every row names its release.",
            )
        ],
        metadata={
            "dagster/column_schema": dg.TableSchema([dg.TableColumn(name, kind) for name, kind in PUBLISHED.items()])
        },
        description=f"Table published_v{application.publish.contract}: answers of the champion, for readers.",
    )
    def published(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        with dagster_failures(context), warehouse.open() as lake:
            store = lake.application(application.name)
            done = publish(store, graph.loaded, export_folder=graph.cards_folder)
            broken = contract_violations(store.published.table(application.publish.contract), application)
            yield dg.AssetCheckResult(
                check_name="contract_holds", passed=not broken, metadata={"violations": "\n".join(broken)}
            )
            version = store.published.data_version(application.publish.contract)
        change = done.change
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "dagster/row_count": change.inserted + change.updated + change.unchanged,
                "inserted": change.inserted,
                "updated": change.updated,
                "deleted": change.deleted,
                "release": done.release_id,
                "snapshot": change.snapshot_id,
                "export": dg.MetadataValue.path(str(done.export)),
            },
        )

    return published
