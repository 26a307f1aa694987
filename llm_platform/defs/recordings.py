"""Answers of another system as those of a variant: an asset that asks nobody."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator

import dagster as dg

from llm_platform.defs.completions import ANSWERED, answered_check
from llm_platform.defs.failures import failing_late
from llm_platform.defs.graph import Graph, column_schema
from llm_platform.defs.measuring import Said, measuring_asset
from llm_platform.operations.answering.recorded import recorded_answers, store_recorded
from llm_platform.records import content_hash
from llm_platform.records.tables import COMPLETIONS_SCHEMA
from llm_platform.resources.warehouse import WarehouseResource


def recording_asset(graph: Graph, variant: str, documents: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Recorded answers of one variant, beside the others in every report and comparison."""
    release = graph.loaded.recorded[variant]
    key = graph.key(f"completions_{variant}")

    spec = dg.AssetSpec(
        key,
        deps=[documents],
        group_name=graph.group,
        owners=graph.owners,
        kinds={"file", "duckdb"},
        code_version=release.release_id,
        metadata={"dagster/column_schema": column_schema(COMPLETIONS_SCHEMA, table="completions")},
        description="What another system answered, by the file that application.yaml names. Nothing is asked or paid.",
    )
    answered = dg.AssetCheckSpec(ANSWERED, asset=key, description="The recording has an answer to every document.")

    @measuring_asset(spec, checks=[answered])
    def recording(context: dg.AssetExecutionContext) -> Iterator[Said]:
        yield from failing_late(context, _read(context, graph, variant), checks=(ANSWERED,))

    return recording


def _read(context: dg.AssetExecutionContext, graph: Graph, variant: str) -> Iterator[Said]:
    warehouse: WarehouseResource = context.resources.warehouse
    with warehouse.open() as lake:
        store = lake.application(graph.application.name)
        found = recorded_answers(lake, graph.loaded, variant)
        release_id, stored = found.release.release_id, store_recorded(store, found)
        missing = store.completions.missing_count(release_id)
        counts = store.completions.counts(release_id)
        yield answered_check(missing=missing, stored=sum(counts.values()), severity=dg.AssetCheckSeverity.WARN)
        version = content_hash([release_id, store.completions.data_version(release_id)])
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "dagster/row_count": sum(counts.values()),
                "release": release_id,
                "stored_now": stored,
                "predictions": found.predicted,
                "of_no_document": found.unknown,
                "text_has_changed": found.moved,
                "unequal_for_equal_texts": found.unequal,
                "snapshot": lake.snapshot(),
                **{f"status_{status}": count for status, count in counts.items()},
            },
        )
