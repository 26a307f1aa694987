"""`documents` and `references`: what others write, as this application reads it."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from llm_platform.defs.failures import dagster_failures, failing_late
from llm_platform.defs.graph import Graph, column_schema, share
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.errors import ContractBroken, DropHeld, TransientError
from llm_platform.operations.answering.documents import (
    ACCEPT_DROP_TAG,
    FULL_TAG,
    DocumentsUpdate,
    forgets_departed,
    known_answers,
    missing_columns,
    update_documents,
)
from llm_platform.records import content_hash
from llm_platform.records.tables import DOCUMENTS_SCHEMA, REFERENCES_SCHEMA
from llm_platform.resources.forgetting import forgetting
from llm_platform.resources.handed import places_of
from llm_platform.resources.warehouse import WarehouseResource

NO_MASS_LOSS, KNOWN_DOCUMENTS = "no_mass_loss", "known_documents"
DocumentEvent = dg.MaterializeResult | dg.AssetCheckResult


def documents_asset(graph: Graph, source: dg.AssetSpec) -> dg.AssetsDefinition:
    """Current text of every document, with a fingerprint of what prompts may read."""
    application = graph.application
    key = graph.key("documents")

    @dg.asset(
        key=key,
        deps=[source],
        group_name=graph.group,
        owners=graph.owners,
        kinds={"duckdb"},
        code_version=content_hash([application.source.model_dump(mode="json"), application.documents.model_dump()]),
        check_specs=[
            dg.AssetCheckSpec("source_columns_present", asset=key, blocking=True, description="No column is gone."),
            dg.AssetCheckSpec("keys_unique", asset=key, blocking=True, description="A key names one document."),
            dg.AssetCheckSpec(NO_MASS_LOSS, asset=key, blocking=True, description="No mass of rows has left at once."),
        ],
        metadata={"dagster/column_schema": column_schema(DOCUMENTS_SCHEMA, table="documents")},
        description="Current documents: normalized text, fingerprint, and why one cannot be sent.",
    )
    def documents(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> Iterator[DocumentEvent]:
        with dagster_failures(context), warehouse.open() as lake:
            missing = missing_columns(lake, application)
            yield dg.AssetCheckResult(
                check_name="source_columns_present", passed=not missing, metadata={"missing": ", ".join(missing)}
            )
            if missing:
                raise ContractBroken(
                    f"{application.source.address!r} has no column {', '.join(missing)} any more; documents of "
                    f"{application.name} stay as they were. Restore the column, or name another in application.yaml."
                )
            accepted, full = (context.run.tags.get(tag, "").lower() == "true" for tag in (ACCEPT_DROP_TAG, FULL_TAG))
            try:
                update = update_documents(lake, graph.loaded, accept_drop=accepted, full=full)
            except DropHeld as error:
                yield dg.AssetCheckResult(check_name="keys_unique", passed=True)
                yield dg.AssetCheckResult(check_name=NO_MASS_LOSS, passed=False, description=str(error))
                raise
            except ContractBroken as error:
                yield dg.AssetCheckResult(check_name="keys_unique", passed=False, description=str(error))
                raise
            yield dg.AssetCheckResult(check_name="keys_unique", passed=True)
            yield dg.AssetCheckResult(check_name=NO_MASS_LOSS, passed=True, metadata={"accepted": accepted})
            store = lake.application(application.name)
            counts, version = store.documents.counts(), store.documents.data_version()
            store.tallies.keep()
            forgets = forgets_departed(lake, application)
        forgotten = _forget_departed(context, warehouse, graph) if forgets else {}
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={**forgotten, **_update_metadata(update, counts)},
        )

    return documents


def _update_metadata(update: DocumentsUpdate, counts: Mapping[str, int]) -> dict[str, Any]:
    """What a look at the source changed, and how many documents there are of each status."""
    change, total = update.change, sum(counts.values())
    return {
        "dagster/row_count": total,
        "snapshot": change.snapshot_id,
        "inserted": change.inserted,
        "updated": change.updated,
        "deleted": change.deleted,
        "unchanged": change.unchanged,
        "read": f"{'everything' if update.full else 'changes only'}: {update.reason}",
        **({} if update.held_back is None else {"slot_held_back_bytes": update.held_back}),
        "sendable_share": share(counts.get("sendable", 0), total),
        **{f"status_{status}": count for status, count in counts.items()},
    }


def _forget_departed(context: dg.AssetExecutionContext, warehouse: WarehouseResource, graph: Graph) -> dict[str, str]:
    """Forget what has left the source; the certificates, for metadata."""
    application = graph.application
    work = forgetting(warehouse, copies=lambda _, namespace: places_of(application, namespace))
    work.ask_departed(application.name)
    try:
        done = work.finish(application.name)
    except TransientError as error:
        # The request stays, and the next run takes it up.
        context.log.warning(str(error))
        return {"forgotten": "not yet: see the run's log"}
    return {"forgotten": ", ".join(one.request.request_id for one in done)} if done else {}


def references_asset(
    graph: Graph, sources: Sequence[dg.AssetSpec], documents: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    """Known answers, split once into training and evaluation."""
    application = graph.application
    spec = application.references
    key = graph.key("references")

    asset = dg.AssetSpec(
        key,
        deps=[*sources, documents],
        group_name=graph.group,
        owners=graph.owners,
        kinds={"duckdb"},
        code_version=content_hash(spec.model_dump(mode="json") if spec else None),
        metadata={"dagster/column_schema": column_schema(REFERENCES_SCHEMA, table="references")},
        description="Known answers: the table's, and verdicts of people. Training and evaluation share no text.",
    )
    check = dg.AssetCheckSpec(KNOWN_DOCUMENTS, asset=key, description="Every known answer is that of a document.")

    @measuring_asset(asset, checks=[check])
    def references(context: dg.AssetExecutionContext) -> Iterator[Said]:
        read = _read_references(context.resources.warehouse, graph)
        yield from failing_late(context, read, checks=[KNOWN_DOCUMENTS])

    return references


def _read_references(warehouse: WarehouseResource, graph: Graph) -> Iterator[Said]:
    application = graph.application
    with warehouse.open() as lake:
        known = known_answers(lake, application)
        store = lake.application(application.name)
        snapshot = store.references.replace(known.rows)
        version = store.references.version()
    splits, origins = known.rows["split"].to_pylist(), known.rows["provenance"].to_pylist()
    yield (
        dg.AssetCheckResult(
            check_name=KNOWN_DOCUMENTS,
            passed=not known.unmatched,
            severity=dg.AssetCheckSeverity.WARN,
            description=known.unmatched_note or None,
        )
        if splits or known.unmatched
        else Unmeasured(KNOWN_DOCUMENTS, "there is no known answer yet")
    )
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            "dagster/row_count": len(splits),
            "train": splits.count("train"),
            "evaluation": splits.count("evaluation"),
            "unlabelled": known.unlabelled,
            "without_document": known.unmatched,
            **{f"from_{origin}": origins.count(origin) for origin in sorted(set(origins))},
            "verdicts_held_back": known.held_back,
            "verdicts_impossible": known.impossible,
            "snapshot": snapshot,
        },
    )
