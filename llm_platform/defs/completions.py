"""One asset a variant: its answer to every document."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import dagster as dg

from llm_platform.defs.failures import failing_late
from llm_platform.defs.graph import Graph, column_schema, share
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.defs.run_metadata import progress_line, run_metadata
from llm_platform.defs.runs import PRIORITY_TAG
from llm_platform.inference.engine import Progress
from llm_platform.operations.answering.completions import Answered, answer
from llm_platform.operations.answering.documents import require_judgeable
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.answering.spending import NOTHING, Spent, budget_line, estimate, spent_by, used_up
from llm_platform.operations.live import asked_documents
from llm_platform.operations.releases import CHAMPION, champion_release, requesting
from llm_platform.records import CompletionStatus, InferenceRun, Release, TokenUsage, content_hash
from llm_platform.records.rollout import AskedDocuments
from llm_platform.records.tables import COMPLETIONS_SCHEMA
from llm_platform.resources.asking import asking_documents
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.pools import pool_of
from llm_platform.resources.progress import listener
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

LOG_EVERY_SECONDS = 10.0
VARIANT_TAG, MODEL_TAG = "llm_platform/variant", "llm_platform/model"
NOTHING_PUBLISHED = "nothing is published yet"
ANSWERED, VALID, BUDGET = "every_document_answered", "answers_valid", "budget_not_used_up"
FIRST = {PRIORITY_TAG: "1"}
"""Of the steps that are ready, the one that readers wait for goes first: it has the first claim on a budget, too."""


def completions_asset(
    graph: Graph, variant: str, *, deps: Sequence[dg.AssetsDefinition | dg.AssetSpec], entries: Sequence[str]
) -> dg.AssetsDefinition:
    """Answers of one variant; `champion` answers with the release that is published, read from its stored content.

    Args:
        graph: The application.
        variant: A variant of `application.yaml`, or `champion`.
        deps: Documents, and what the variant's release is made of.
        entries: Lock entries whose endpoints may be asked.
    """
    application = graph.application
    key = graph.key(f"completions_{variant}")
    spec = application.variants.get(variant)

    asset = dg.AssetSpec(
        key,
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"nim", "duckdb"},
        tags={VARIANT_TAG: variant, **({} if spec is None else {MODEL_TAG: spec.model})},
        code_version=content_hash([spec.model_dump(mode="json") if spec else CHAMPION, _task(graph)]),
        metadata={"dagster/column_schema": column_schema(COMPLETIONS_SCHEMA, table="completions")},
        description=(
            "One stored answer per release and text. Only missing answers are asked for."
            if spec
            else "Answers of the release that serves the published table, which may differ from every file."
        ),
    )
    checks = [
        dg.AssetCheckSpec(ANSWERED, asset=key, description="No sendable document is left without a stored answer."),
        dg.AssetCheckSpec(VALID, asset=key, description="Answers have the form that the task asks for."),
        *budget_specs(graph, key),
    ]

    @measuring_asset(
        asset,
        checks=checks,
        resources={"warehouse", *map(resource_key, entries)},
        pool=pool_of(entries[0]),
        op_tags=FIRST if spec is None else {},
    )
    def completions(context: dg.AssetExecutionContext) -> Iterator[Said]:
        yield from failing_late(context, _answer(context, graph, variant), checks=[check.name for check in checks])

    return completions


def _answer(context: dg.AssetExecutionContext, graph: Graph, variant: str) -> Iterator[Said]:
    application = graph.application
    spec = application.variants.get(variant)
    warehouse: WarehouseResource = context.resources.warehouse
    with warehouse.open() as lake:
        store = lake.application(application.name)
        release = champion_release(store) if spec is None else graph.loaded.requesting(variant, store)
        if release is None:
            reason = NOTHING_PUBLISHED if spec is None else str(graph.loaded.pending(variant, store))
            yield from _nothing_to_ask(reason, graph)
            return
        if spec is not None:
            require_judgeable(lake, graph.loaded)
        asked = None if spec is None else asked_documents(store, application, requesting(release))
        expected = estimate(store, graph.loaded, variant, requesting(release), documents=asked)
        context.log.info(expected.line)
        answered = answer(
            store,
            release,
            application=application,
            calibrate=bool(spec and spec.calibrate),
            asking=asking(
                context,
                graph,
                release,
                variant,
                snapshot=lake.snapshot(),
                documents=asked,
                spent=spent_by(store, graph.loaded, context.run.run_id),
                expected=(expected.prompt_tokens + expected.completion_tokens, expected.cost_usd),
            ),
        )
        missing = store.completions.missing_count(answered.release.release_id, documents=asked)
        yield from budget_results(context, graph, store, [answered.run], waiting=missing)
        yield from _results(lake, store, answered, missing=missing)


def _task(graph: Graph) -> list[object]:
    application = graph.application
    long = application.long_documents.model_dump(mode="json", exclude_defaults=True)
    # Left out where it is the default, so that nothing becomes stale by an upgrade.
    return [application.task, list(application.labels), application.output_schema(), *([long] if long else [])]


def asking(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    graph: Graph,
    release: Release,
    variant: str,
    *,
    snapshot: int,
    buckets: Collection[int] | None = None,
    documents: AskedDocuments | None = None,
    spent: Spent = NOTHING,
    expected: tuple[int, float | None] | None = None,
) -> Asking:
    """How the documents of a release are sent by this step; its endpoints serve its adapter before the first one is."""
    nim: NIMResource = getattr(context.resources, resource_key(release.model.entry))
    return asking_documents(
        graph.settings,
        graph.application,
        release,
        nim=nim,
        run_id=context.run.run_id,
        snapshot=snapshot,
        on_progress=_progress(context, f"{graph.application.name}/{variant}"),
        buckets=buckets,
        documents=documents,
        spent=spent,
        expected=expected,
        on_wait=context.log.info,
    )


def _progress(context: dg.AssetExecutionContext | dg.OpExecutionContext, name: str) -> Callable[[Progress], None]:
    last = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        if (bar := listener.get()) is not None:
            bar(name, progress)
        if time.monotonic() - last >= LOG_EVERY_SECONDS:
            last = time.monotonic()
            context.log.info(progress_line(progress))

    return report


def budget_specs(graph: Graph, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The check of the application's budget; none where it has none."""
    said = "The budget of a run did not end this before everything was asked."
    return [dg.AssetCheckSpec(BUDGET, asset=key, description=said)] if graph.application.budget.is_set else []


def budget_results(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    graph: Graph,
    store: ApplicationStore,
    runs: Sequence[InferenceRun | None],
    *,
    waiting: int,
) -> Iterator[dg.AssetCheckResult]:
    """What of its budget the whole run has used by now, as a line of the log and a check; nothing without one."""
    budget, ended = graph.application.budget, any(map(used_up, runs))
    line = budget_line(budget, spent_by(store, graph.loaded, context.run.run_id), waiting=waiting if ended else 0)
    if line is None:
        return
    context.log.warning(f"Budget: {line}") if ended else context.log.info(f"Budget: {line}")
    yield dg.AssetCheckResult(
        check_name=BUDGET,
        passed=not ended,
        severity=dg.AssetCheckSeverity.WARN,
        description=line,
        metadata={"budget": line, "waiting": waiting if ended else 0},
    )


def _nothing_to_ask(reason: str, graph: Graph) -> Iterator[Said]:
    for name in (ANSWERED, VALID, *([BUDGET] if graph.application.budget.is_set else [])):
        yield Unmeasured(name, reason)
    yield dg.MaterializeResult(data_version=dg.DataVersion("no-release"), metadata={"note": reason})


def _results(lake: Warehouse, store: ApplicationStore, answered: Answered, *, missing: int) -> Iterator[Said]:
    release = answered.release
    counts = store.completions.counts(release.release_id)
    stored, valid = sum(counts.values()), counts.get(CompletionStatus.VALID, 0)
    store.tallies.keep()
    yield answered_check(missing=missing, stored=stored)
    yield (
        dg.AssetCheckResult(
            check_name=VALID,
            passed=stored == valid,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"valid": valid, "stored": stored, "valid_share": share(valid, stored)},
        )
        if stored
        else Unmeasured(VALID, "no answer is stored yet")
    )
    usage = store.completions.usage(requesting(release).release_id)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(
            content_hash([release.release_id, store.completions.data_version(release.release_id)])
        ),
        metadata={
            "dagster/row_count": stored,
            "release": release.release_id,
            "prompt_version": release.prompt.version,
            "model": release.model.entry,
            "derived": answered.derived,
            **{name: getattr(usage, name) for name in TokenUsage.model_fields},
            **run_metadata(answered.run),
            "snapshot": lake.snapshot(),
            **_long_documents(store, release),
            **{f"status_{status}": count for status, count in counts.items()},
        },
    )


def answered_check(
    *, missing: int, stored: int, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult | Unmeasured:
    """Whether every document has an answer; of no document there is nothing to say."""
    if not missing and not stored:
        return Unmeasured(ANSWERED, "there is no document to answer")
    return dg.AssetCheckResult(
        check_name=ANSWERED, passed=not missing, severity=severity, metadata={"missing": missing, "stored": stored}
    )


def _long_documents(store: ApplicationStore, release: Release) -> dict[str, int]:
    """Metadata on documents that do not fit the model's context; none where there are none."""
    found = store.completions.long_documents(release.release_id)
    cut = {"documents_cut": found.cut, "cut_tokens": found.cut_tokens} if found.cut else {}
    return cut | ({"documents_in_parts": found.split, "parts": found.parts} if found.split else {})
