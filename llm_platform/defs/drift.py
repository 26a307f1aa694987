"""`drift`: whether live documents and answers are still like those that the champion was judged on."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from llm_platform.defs.failures import dagster_failures
from llm_platform.defs.graph import Graph
from llm_platform.defs.measuring import Said, Unmeasured, measuring_asset
from llm_platform.evaluation.drift import MEASUREMENTS, DriftReport, Measurement
from llm_platform.evaluation.drift_accuracy import FreshAccuracy
from llm_platform.operations.watching.drift import monitor
from llm_platform.records import content_hash
from llm_platform.resources.warehouse import WarehouseResource

LIVE_ACCURACY = "live_accuracy_not_below_minimum"


def drift_check(measurement: str) -> str:
    """Name of the check of one measurement."""
    return f"{measurement}_not_drifted"


def drift_asset(graph: Graph, deps: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """Newer documents and their answers against those from before the champion was promoted."""
    application = graph.application
    key = graph.key("drift")

    spec = dg.AssetSpec(
        key,
        deps=list(deps),
        group_name=graph.group,
        owners=graph.owners,
        kinds={"python"},
        code_version=content_hash(application.monitoring.model_dump(mode="json")),
        description="Documents and answers since the promotion against those before; which of them to label.",
    )
    checks = [
        *(
            dg.AssetCheckSpec(drift_check(name), asset=key, description=f"No drift of {name} is shown.")
            for name in MEASUREMENTS
        ),
        dg.AssetCheckSpec(
            LIVE_ACCURACY,
            asset=key,
            description="The upper bound of accuracy on live labelled documents is not below the minimum.",
        ),
    ]

    @measuring_asset(spec, checks=checks)
    def drift(context: dg.AssetExecutionContext) -> Iterator[Said]:
        warehouse: WarehouseResource = context.resources.warehouse
        with dagster_failures(context), warehouse.open() as lake:
            look = monitor(lake, graph.loaded, cards_folder=graph.cards_folder, now=datetime.now(UTC))
        for found in look.report.measurements:
            yield _measured(found)
        yield _accurate(look.report.accuracy)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(look.report.drift_id),
            metadata={
                "state": look.report.state,
                "page": dg.MetadataValue.text(str(look.page)),
                "page_link": graph.page("cards/drift"),
                "drawn_for_labelling": look.drawn_now,
                "snapshot": look.snapshot_id,
                **_numbers(look.report),
            },
        )

    return drift


def _measured(found: Measurement) -> dg.AssetCheckResult | Unmeasured:
    # Windows too small to tell are neither proof of drift nor of its absence.
    if found.verdict == "cannot tell":
        return Unmeasured(drift_check(found.name), found.note)
    return dg.AssetCheckResult(
        check_name=drift_check(found.name),
        passed=found.verdict != "drifted",
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{found.word}: {found.note}",
        metadata={
            "verdict": found.word,
            "effect": found.effect if found.effect is not None else "not measured",
            "effect_name": found.effect_name,
            "maximum": found.maximum,
            "p_value": found.p_value if found.p_value is not None else "not measured",
            "reason": found.reason,
            **found.further,
        },
    )


def _accurate(found: FreshAccuracy) -> dg.AssetCheckResult | Unmeasured:
    if found.standing == "cannot tell":
        return Unmeasured(LIVE_ACCURACY, f"{found.labelled} of the documents drawn for it are labelled")
    return dg.AssetCheckResult(
        check_name=LIVE_ACCURACY,
        passed=found.standing != "below its minimum",
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.standing,
        metadata={
            "value": found.value if found.value is not None else "no labels",
            "lower": found.lower,
            "upper": found.upper,
            "minimum": found.minimum if found.minimum is not None else "none",
            "labelled": found.labelled,
        },
    )


def _numbers(report: DriftReport) -> dict[str, dg.MetadataValue]:
    numbers = {
        "drifted": dg.MetadataValue.int(len(report.drifted)),
        "flagged": dg.MetadataValue.int(len(report.flagged)),
        "reference_texts": dg.MetadataValue.int(report.reference_texts),
        "current_texts": dg.MetadataValue.int(report.current_texts),
    }
    effects = {f"{found.name}_effect": found.effect for found in report.measurements if found.effect is not None}
    if report.accuracy.value is not None:
        effects["live_accuracy"] = report.accuracy.value
    return {**numbers, **{name: dg.MetadataValue.float(value) for name, value in effects.items()}}
