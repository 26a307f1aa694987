"""The same answers bucket by bucket, for a table that is too large for one run."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.defs.by_name import ByName, made_by_name
from llm_platform.defs.completions import asking
from llm_platform.defs.graph import Graph
from llm_platform.defs.run_metadata import run_metadata
from llm_platform.operations.answering.completions import Sent, answer_missing
from llm_platform.operations.answering.documents import require_judgeable
from llm_platform.operations.releases import champion_release, requesting
from llm_platform.records import Release, TokenUsage, content_hash
from llm_platform.resources.nim import resource_key
from llm_platform.resources.pools import pool_of
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.store import ApplicationStore

NOTHING_TO_ASK = "no-release"


def bucket_names(count: int) -> list[str]:
    """Names of the buckets of an application's documents, as partitions: numbers of equal length."""
    return [f"{bucket:0{len(str(count - 1))}d}" for bucket in range(count)]


def buckets_of(graph: Graph) -> dg.StaticPartitionsDefinition:
    """The buckets of an application's documents, as partitions."""
    return dg.StaticPartitionsDefinition(bucket_names(graph.application.documents.buckets))


def completion_buckets_asset(
    graph: Graph, variant: str, *, deps: Sequence[dg.AssetsDefinition | dg.AssetSpec], entries: Sequence[str]
) -> ByName:
    """Answers of one variant to the documents of one bucket: what a backfill of many runs materializes.

    It writes the ledger that `completions` of the variant writes, which finds nothing left to send afterwards. It
    calibrates and checks nothing: those are statements about all documents.

    Args:
        graph: The application.
        variant: A variant of `application.yaml`, or `champion`.
        deps: Documents, and what the variant's release is made of.
        entries: Lock entries whose endpoints may be asked.
    """
    application = graph.application
    spec = application.variants.get(variant)

    asset = dg.AssetSpec(
        graph.key(f"completion_buckets_{variant}"),
        deps=list(deps),
        group_name=graph.side_group("backfill"),
        owners=graph.owners,
        kinds={"nim", "duckdb"},
        partitions_def=buckets_of(graph),
        description=(
            f"Answers that completions_{variant} would ask for, of one bucket of documents: a large table is answered "
            "by a backfill of many runs, and completions finds nothing left to send."
        ),
    )

    @made_by_name(asset, resources={"warehouse", *map(resource_key, entries)}, pool=pool_of(entries[0]))
    def completion_buckets(context: dg.OpExecutionContext) -> Iterator[dg.MaterializeResult]:
        warehouse: WarehouseResource = context.resources.warehouse
        buckets = [int(context.partition_key)]
        with warehouse.open() as lake:
            store = lake.application(application.name)
            release = champion_release(store) if spec is None else graph.loaded.requesting(variant, store)
            if release is None:
                yield dg.MaterializeResult(data_version=dg.DataVersion(NOTHING_TO_ASK))
                return
            if spec is not None:
                require_judgeable(lake, graph.loaded)
            sender = requesting(release)
            store.releases.put(sender)
            how = asking(context, graph, sender, variant, snapshot=lake.snapshot(), buckets=buckets)
            yield _result(store, sender, answer_missing(store, sender, application=application, asking=how), buckets)

    return completion_buckets


def _result(store: ApplicationStore, release: Release, sent: Sent, buckets: Sequence[int]) -> dg.MaterializeResult:
    answers = store.completions.data_version(release.release_id, buckets=buckets)
    usage = sent.run.usage if sent.run else TokenUsage()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(content_hash([release.release_id, answers])),
        metadata={
            "release": release.release_id,
            "missing": store.completions.missing_count(release.release_id, buckets=buckets),
            **{name: getattr(usage, name) for name in TokenUsage.model_fields},
            **run_metadata(sent.run),
        },
    )
