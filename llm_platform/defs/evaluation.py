"""`scores` and `report`: how good the answers are, and whether that is good enough."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.application import Application
from llm_platform.defs.failures import dagster_failures
from llm_platform.defs.graph import Graph
from llm_platform.evaluation.report import Report
from llm_platform.operations.evaluation import Reported, report_releases, score_releases
from llm_platform.operations.releases import CHAMPION
from llm_platform.records import content_hash
from llm_platform.resources.warehouse import WarehouseResource


def scores_asset(graph: Graph, deps: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """One grade per answer that has a known answer."""

    @dg.asset(
        key=graph.key("scores"),
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"python"},
        code_version="1",
        description="Grades in [0, 1], or ungraded with a reason; one per release, document and known answer.",
    )
    def scores(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:
        with dagster_failures(context), warehouse.open() as lake:
            graded = score_releases(lake, graph.candidates)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(content_hash(graded.versions)),
            metadata={"snapshot": graded.snapshot_id, **graded.counts},
        )

    return scores


def report_asset(graph: Graph, deps: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """Metrics with intervals against minimums, and the card that shows them."""
    application = graph.application
    key = graph.key("report")
    gates = [name for name in ("accuracy", "valid_rate") if getattr(application.evaluation.gates, name) is not None]

    @dg.asset(
        key=key,
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"python"},
        code_version=content_hash(application.evaluation.model_dump(mode="json")),
        check_specs=[
            dg.AssetCheckSpec(
                f"{variant}_{gate}_at_least_minimum",
                asset=key,
                description=f"The lower bound of {gate} of {variant!r} reaches the application's minimum.",
            )
            for variant in (*application.variants, CHAMPION)
            for gate in gates
        ],
        description="Accuracy, validity, slices and cost of every variant on the evaluation split, with intervals.",
    )
    def report(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        with dagster_failures(context), warehouse.open() as lake:
            made = report_releases(
                lake,
                graph.candidates,
                cards_folder=graph.cards_folder,
                git_commit=graph.settings.git_commit,
            )
            yield from _gate_results(application, made, gates)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(content_hash(sorted(report.report_id for report in made.reports.values()))),
            metadata={
                "card": dg.MetadataValue.path(str(made.card)),
                "card_link": dg.MetadataValue.url(made.card.as_uri()),
                "snapshot": made.snapshot_id,
                **_numbers(made.reports),
            },
        )

    return report


def _gate_results(application: Application, made: Reported, gates: Sequence[str]) -> Iterator[dg.AssetCheckResult]:
    for variant in application.variants:
        # A candidate that is refused is a finding, not a fault of what is published.
        yield from _held(variant, made.reports.get(variant), gates, dg.AssetCheckSeverity.WARN)
    yield from _held(CHAMPION, made.champion, gates, dg.AssetCheckSeverity.ERROR)


def _held(
    variant: str, report: Report | None, gates: Sequence[str], severity: dg.AssetCheckSeverity
) -> Iterator[dg.AssetCheckResult]:
    results = {gate.name: gate for gate in report.gates} if report is not None else {}
    for name in gates:
        gate = results.get(name)
        check = f"{variant}_{name}_at_least_minimum"
        if gate is None:
            # No report is no evidence; only a champion may be absent without being a failure.
            absent = variant == CHAMPION and report is None
            note = "nothing is published yet" if absent else "no report"
            yield dg.AssetCheckResult(check_name=check, passed=absent, severity=severity, metadata={"note": note})
            continue
        yield dg.AssetCheckResult(
            check_name=check,
            passed=gate.passed,
            severity=severity,
            metadata={
                "value": gate.value,
                "lower": gate.lower,
                "minimum": gate.minimum,
                "reason": gate.reason,
                "next_step": gate.next_step or "none",
            },
        )


def _numbers(reports: dict[str, Report]) -> dict[str, dg.MetadataValue]:
    numbers: dict[str, dg.MetadataValue] = {}
    for variant, report in reports.items():
        if report.accuracy is not None:
            numbers[f"{variant}_accuracy"] = dg.MetadataValue.float(report.accuracy.value)
            numbers[f"{variant}_accuracy_lower"] = dg.MetadataValue.float(report.accuracy.lower)
        numbers[f"{variant}_passed"] = dg.MetadataValue.bool(report.passed)
    return numbers
