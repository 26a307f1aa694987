"""`rollout` and `published`: which release serves, and what readers get."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from llm_platform.contracts.shape import contract_of
from llm_platform.defs.evaluation import hold_champion_again
from llm_platform.defs.failures import StepEvent, dagster_failures, failing_late
from llm_platform.defs.graph import Graph
from llm_platform.operations.release.publishing import Publication, publish
from llm_platform.operations.release.rollout import decide
from llm_platform.operations.release.watching import watch_rollouts
from llm_platform.records import content_hash
from llm_platform.records.contracts import Contract
from llm_platform.resources.handed import attested_by, places_written, rollout_look
from llm_platform.resources.warehouse import WarehouseResource

FOLLOWS = "contract_follows"
PROMISES = "promises_kept"
SHORTEST_WINDOW = timedelta(minutes=1)
"""Dagster's own limit."""


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
        watched = watch_rollouts(
            lake,
            graph.loaded,
            look=rollout_look(graph.settings),
            quiet=timedelta(hours=graph.settings.alert_quiet_hours),
        )
        decision = decide(store, graph.loaded)
        if decision.promoted:
            hold_champion_again(context.instance, store, graph)
        waiting = {name: graph.loaded.pending(name, store) for name in application.variants}
    refused = [name for name in decision.refused if waiting.get(name) is None]
    for variant, reason in decision.refused.items():
        said = f"{variant} is not approved: {reason}" if variant in refused else f"{variant}: {reason}"
        context.log.warning(said)
    for line in watched.lines:
        context.log.info(line)
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
            **{f"rollout_{one.step.variant}": one.line for one in watched.decided},
            **{f"{name}_waits": f"{reason}" for name, reason in waiting.items() if reason is not None},
        },
    )


def published_asset(graph: Graph, deps: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """What downstream reads: one row per document, under a versioned contract."""
    application = graph.application
    key = graph.key("published")
    contract = contract_of(application)
    promises = contract.freshness_hours is not None or contract.completeness is not None
    promised = dg.AssetCheckSpec(PROMISES, asset=key, description="As fresh and as complete as the contract promises.")

    @dg.asset(
        key=key,
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"duckdb", "parquet"},
        code_version=contract.content_id,
        freshness_policy=_freshness(contract),
        check_specs=[
            dg.AssetCheckSpec(
                "contract_holds",
                asset=key,
                blocking=True,
                description="One row per document, and every column as the contract promises it.",
            ),
            dg.AssetCheckSpec(
                FOLLOWS, asset=key, description="What the files describe is what readers get, or may follow it."
            ),
            *([promised] if promises else []),
        ],
        metadata={"dagster/column_schema": _column_schema(contract)},
        description=f"Table {contract.table}: answers of the champion, for readers.",
    )
    def published(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        with dagster_failures(context), warehouse.open() as lake:
            store = lake.application(application.name)
            done = publish(
                store,
                graph.loaded,
                export_folder=graph.cards_folder,
                places=places_written(application, graph.settings),
                attested=attested_by(graph.settings),
            )
            broken = [line for one in done.contracts for line in store.published.violations(one)]
            yield dg.AssetCheckResult(
                check_name="contract_holds", passed=not broken, metadata={"violations": "\n".join(broken)}
            )
            yield _follows(done.waiting)
            if promises:
                yield _promises(contract, done)
            version = _version([store.published.data_version(one.number) for one in done.contracts])
        yield dg.MaterializeResult(data_version=dg.DataVersion(version), metadata=_publication_metadata(done))

    return published


def _publication_metadata(done: Publication) -> dict[str, Any]:
    change = done.change
    return {
        "dagster/row_count": change.inserted + change.updated + change.unchanged,
        "inserted": change.inserted,
        "updated": change.updated,
        "deleted": change.deleted,
        "release": done.release_id,
        "snapshot": change.snapshot_id,
        "export": dg.MetadataValue.text(str(done.export)),
        "contracts": ", ".join(f"{one.table} {one.version}" for one in done.contracts),
        "copies": "\n".join(done.copied) or "as they were",
        "dagster/column_schema": _column_schema(done.contracts[0]),
    }


def _freshness(contract: Contract) -> dg.FreshnessPolicy | None:
    """What the contract promises, in Dagster's terms: its pages say since when the table is overdue."""
    if contract.freshness_hours is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=max(SHORTEST_WINDOW, timedelta(hours=contract.freshness_hours)))


def _version(tables: Sequence[str]) -> str:
    """Of what readers get, from all tables."""
    return tables[0] if len(tables) == 1 else content_hash(list(tables))


def _column_schema(contract: Contract) -> dg.TableSchema:
    return dg.TableSchema(
        [dg.TableColumn(one.name, one.sql_type, description=one.description or None) for one in contract.columns]
    )


def _follows(waiting: str | None) -> dg.AssetCheckResult:
    """Whether readers get what the files describe. If not they keep what they have, which is no failure of theirs."""
    return dg.AssetCheckResult(
        check_name=FOLLOWS,
        passed=waiting is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=waiting,
    )


def _promises(contract: Contract, done: Publication) -> dg.AssetCheckResult:
    """What is promised of the table as a whole, beside what it is."""
    late = contract.freshness_hours is not None and done.waited_hours > contract.freshness_hours
    holes = contract.completeness is not None and done.completeness < contract.completeness
    return dg.AssetCheckResult(
        check_name=PROMISES,
        passed=not late and not holes,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "hours_waited": done.waited_hours,
            "freshness_hours": contract.freshness_hours if contract.freshness_hours is not None else "not promised",
            "share_with_an_answer": done.completeness,
            "completeness": contract.completeness if contract.completeness is not None else "not promised",
        },
    )
