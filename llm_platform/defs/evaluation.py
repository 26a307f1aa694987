"""`scores` and `report`: how good the answers are, and whether that is good enough."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence
from contextlib import suppress

import dagster as dg

from llm_platform.application.model import Application
from llm_platform.defs.failures import StepEvent, failing_late
from llm_platform.defs.graph import Graph
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset, rounded
from llm_platform.defs.panels import behind_panel, stored_panels
from llm_platform.errors import PlatformError
from llm_platform.evaluation.gate_names import claim, gate_names
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import interval_text
from llm_platform.operations.evidence.evaluation import Reported, hold_champion, report_releases, score_releases
from llm_platform.operations.releases import CHAMPION
from llm_platform.records import GateResult, Interval, content_hash
from llm_platform.records.figures import figure
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.store import ApplicationStore

NO_CAUSE = "the report found no cause to hold this gate"


def scores_asset(graph: Graph, deps: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """One grade per answer that has a known answer."""

    @dg.asset(
        key=graph.key("scores"),
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"python"},
        code_version=content_hash(graph.application.evaluation.scorers)
        if graph.application.evaluation.scorers
        else "1",
        description="Grades in [0, 1], or ungraded with a reason; one per release, document and known answer.",
    )
    def scores(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> Iterator[StepEvent]:
        yield from failing_late(context, _grade(warehouse, graph))

    return scores


def _grade(warehouse: WarehouseResource, graph: Graph) -> Iterator[StepEvent]:
    with warehouse.open() as lake:
        graded = score_releases(lake, graph.loaded)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(content_hash(graded.versions)),
        metadata={"snapshot": graded.snapshot_id, **graded.counts},
    )


def report_asset(
    graph: Graph, deps: Sequence[dg.AssetsDefinition], *, stands_on: Sequence[dg.AssetsDefinition]
) -> dg.AssetsDefinition:
    """Metrics with intervals against minimums, and the card that shows them.

    Args:
        graph: The application.
        deps: What it follows.
        stands_on: What it says of that it is not up to date, if it is not.
    """
    application = graph.application
    key = graph.key("report")
    gates = gate_names(application)
    checks = [
        dg.AssetCheckSpec(
            f"{variant}_{claim(gate)}",
            asset=key,
            description=f"What {variant!r} measured, against the limit of {gate!r} in application.yaml.",
        )
        for variant in (*application.judged, CHAMPION)
        for gate in gates
    ]
    behind = [one.key for one in stands_on]
    spec = dg.AssetSpec(
        key,
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"python"},
        code_version=content_hash(application.evaluation.model_dump(mode="json")),
        description="Accuracy, validity, slices and cost of every variant on the evaluation split, with intervals.",
    )

    @measuring_asset(spec, checks=checks)
    def report(context: dg.AssetExecutionContext) -> Iterator[Said]:
        panels = behind_panel(context.instance, behind)
        made = _report(context.resources.warehouse, graph, gates, panels)
        yield from failing_late(context, made, checks=[check.name for check in checks])

    return report


def _report(
    warehouse: WarehouseResource, graph: Graph, gates: Sequence[str], panels: Sequence[Panel]
) -> Iterator[Said]:
    application = graph.application
    with warehouse.open() as lake:
        made = report_releases(
            lake,
            graph.loaded,
            cards_folder=graph.cards_folder,
            git_commit=graph.settings.git_commit,
            panels=[*panels, *stored_panels(lake.application(application.name), graph.loaded)],
            review_url=graph.settings.review_url,
        )
        yield from _gate_results(application, made, gates)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(content_hash(sorted(report.report_id for report in made.reports.values()))),
        metadata={
            "card": dg.MetadataValue.text(str(made.card)),
            "card_link": graph.page("cards/card"),
            "answers_link": graph.page("answers"),
            "verdicts": dg.MetadataValue.md(_verdicts(made)),
            "snapshot": made.snapshot_id,
            **_numbers(made.reports),
        },
    )


def _verdicts(made: Reported) -> str:
    """Who may serve and why not, as a table in Dagster's own page."""
    lines = ["| variant | may serve | score | valid | first limit that is not met |", "| --- | --- | --- | --- | --- |"]
    for name, report in made.reports.items():
        score = "–" if report.accuracy is None else interval_text(report.accuracy)
        valid = "–" if report.valid_rate is None else figure(report.valid_rate.value)
        failed = next((gate for gate in report.gates if not gate.passed), None)
        why = "" if failed is None else f"{failed.name}: {failed.comparison}"
        lines.append(f"| {name} | {report.standing} | {score} | {valid} | {why} |")
    lines += [f"| {name} | not yet | – | – | {why} |" for name, why in made.pending.items()]
    return "\n".join(lines)


def _gate_results(application: Application, made: Reported, gates: Sequence[str]) -> Iterator[Said]:
    for variant in application.judged:
        # A challenger that is refused is a finding, not a fault of what is published.
        why = made.pending.get(variant, "no report")
        # An adapter that nobody has trained is no challenger yet, so nothing is wrong with it.
        untrained = getattr(application.variants.get(variant), "adapter", None) is not None and variant in made.pending
        severity = dg.AssetCheckSeverity.WARN
        yield from _held(variant, made.reports.get(variant), gates, severity, absent=why, excused=untrained)
    error, absent = dg.AssetCheckSeverity.ERROR, "nothing is published yet"
    yield from _held(CHAMPION, made.champion, gates, error, absent=absent, excused=True)


def hold_champion_again(instance: dg.DagsterInstance, store: ApplicationStore, graph: Graph) -> None:
    """Say of the champion's checks what holds now that there is one: the report was written before it was chosen.

    Without that, published rows stand beside "nothing is published yet" until the next run.
    """
    champion = store.rollout.champion()
    release = store.releases.get(champion.release_id) if champion is not None else None
    if champion is None or release is None:
        return
    # What cannot be measured now is said by the next report.
    with suppress(PlatformError):
        report = hold_champion(store, graph.loaded, champion.variant, release)
        gates = gate_names(graph.application)
        for result in _held(CHAMPION, report, gates, dg.AssetCheckSeverity.ERROR, absent="", excused=True):
            if isinstance(result, Unmeasured):
                continue
            instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=graph.key("report"),
                    check_name=str(result.check_name),
                    passed=result.passed,
                    metadata=rounded(result.metadata),
                    severity=result.severity,
                    description=result.description,
                )
            )


def _held(
    variant: str,
    report: Report | None,
    gates: Sequence[str],
    severity: dg.AssetCheckSeverity,
    *,
    absent: str,
    excused: bool,
) -> Iterator[dg.AssetCheckResult | Unmeasured]:
    results = {gate.name: gate for gate in report.gates} if report is not None else {}
    for name in gates:
        gate, check = results.get(name), f"{variant}_{claim(name)}"
        if gate is not None and not gate.measured:
            yield Unmeasured(check, gate.reason)
        elif gate is not None:
            yield dg.AssetCheckResult(
                check_name=check, passed=gate.passed, severity=severity, metadata=gate_metadata(gate)
            )
        elif report is not None:
            # A gate that a report leaves out had no cause: every document was answered, say.
            yield Unmeasured(check, NO_CAUSE)
        elif excused:
            yield Unmeasured(check, absent)
        else:
            # No report is no evidence.
            yield dg.AssetCheckResult(check_name=check, passed=False, severity=severity, metadata={"note": absent})


def gate_metadata(gate: GateResult) -> dict[str, float | str]:
    """One gate as metadata of its check: the numbers that are compared, and the words."""
    words = {"reason": gate.reason, "next_step": gate.next_step or "none"}
    if gate.maximum is None:
        # The same digits as in the reason beside them.
        value, lower = (float(figure(number, against=gate.limit)) for number in (gate.value, gate.lower))
        return {"value": value, "lower": lower, "minimum": gate.limit, **words}
    measured = {} if gate.upper is None else {"value": gate.value, "upper": gate.upper}
    return {**measured, "maximum": gate.maximum, **words}


def _numbers(reports: dict[str, Report]) -> dict[str, dg.MetadataValue]:
    """The few numbers of each variant that people follow from run to run."""
    numbers: dict[str, dg.MetadataValue] = {}
    for variant, report in reports.items():
        effort, accuracy = report.effort, report.accuracy
        measured = {
            "accuracy": float(figure(accuracy.value)) if accuracy else None,
            "accuracy_lower": float(figure(accuracy.lower)) if accuracy else None,
            "valid_rate": float(figure(report.valid_rate.value)) if report.valid_rate else None,
            "latency_p95_seconds": effort.latency_p95_seconds,
            "cost_usd_per_correct_answer": _value(effort.cost_usd_per_correct_answer),
            "calibration_error": report.reliability.expected_error if report.reliability else None,
        }
        found = {name: value for name, value in measured.items() if value is not None}
        numbers |= {f"{variant}_{name}": dg.MetadataValue.float(round(value, 4)) for name, value in found.items()}
        numbers[f"{variant}_passed"] = dg.MetadataValue.bool(report.passed)
    return numbers


def _value(interval: Interval | None) -> float | None:
    return interval.value if interval is not None else None
