"""Assets whose checks may have had nothing to measure, which is neither a pass nor a failure.

Dagster knows no third result. A check that was to be made and has none is shown as skipped, in grey; so an asset that
is made here leaves such a check out, and says in its metadata which it left out and why.
"""

# Annotations are evaluated here: Dagster reads those of an asset's context.
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

MADE, PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
NOTHING_TO_MEASURE = "nothing_to_measure"
"""Key of the metadata of an asset that lists the checks that had nothing to measure."""
SMALL = 0.001
MEASURED = "checks"
"""Key of the metadata that counts them beside the others."""


@dataclass(frozen=True)
class Unmeasured:
    """A check that had nothing to measure, and why."""

    check_name: str
    reason: str


Said = dg.MaterializeResult | dg.AssetCheckResult | Unmeasured
Body = Callable[[dg.AssetExecutionContext], Iterator[Said]]


def measuring_asset(
    spec: dg.AssetSpec,
    *,
    checks: Sequence[dg.AssetCheckSpec],
    resources: Collection[str] = ("warehouse",),
    pool: str | None = None,
    op_tags: Mapping[str, str] | None = None,
) -> Callable[[Body], dg.AssetsDefinition]:
    """A decorator: the asset `spec`, whose function yields its checks, measured or not, before it is materialized."""

    def decorated(body: Body) -> dg.AssetsDefinition:
        # Only an asset that can be made in part may leave a check out; made in part, it says what was asked of it.
        @dg.multi_asset(
            name=spec.key.to_python_identifier(),
            specs=[spec],
            check_specs=list(checks),
            can_subset=True,
            required_resource_keys=set(resources),
            pool=pool,
            op_tags=dict(op_tags or {}),
        )
        def measured(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            checked = {key.name for key in context.selected_asset_check_keys}
            for event in counted(body(context)):
                if isinstance(event, dg.AssetCheckResult):
                    wanted = event.check_name in checked
                else:
                    wanted = bool(context.selected_asset_keys)
                if wanted:
                    yield event

        return measured

    return decorated


def counted(events: Iterable[Said]) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """The events without the checks that had nothing to measure, which the materialization lists."""
    left_out: list[Unmeasured] = []
    held, failed = 0, 0
    for event in events:
        if isinstance(event, Unmeasured):
            left_out.append(event)
        elif isinstance(event, dg.AssetCheckResult):
            held, failed = held + bool(event.passed), failed + (not event.passed)
            yield event._replace(metadata=rounded(event.metadata))
        else:
            listed = {NOTHING_TO_MEASURE: dg.MetadataValue.md(_table(left_out))} if left_out else {}
            counts = {MEASURED: check_counts(held, len(left_out), failed)}
            yield dg.MaterializeResult(
                asset_key=event.asset_key,
                metadata={**rounded(event.metadata or {}), **counts, **listed},
                data_version=event.data_version,
                tags=event.tags,
            )


def rounded(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as people read them: sixteen digits of a share hide the two that count."""
    return {name: _short(value) for name, value in metadata.items()}


def _short(found: Any) -> Any:
    value = found.value if isinstance(found, dg.FloatMetadataValue) else found
    if not isinstance(value, float) or not math.isfinite(value):
        return found
    short = round(value, 4) if abs(value) >= SMALL else float(f"{value:.3g}")
    return dg.MetadataValue.float(short)


def check_counts(held: int, unmeasured: int, failed: int) -> str:
    """`15 held, 23 nothing to measure, 1 failed`; what there is none of is left out."""
    parts = [f"{held} held"]
    parts += [f"{unmeasured} nothing to measure"] if unmeasured else []
    return ", ".join([*parts, *([f"{failed} failed"] if failed else [])])


def _table(left_out: Sequence[Unmeasured]) -> str:
    lines = ["| check | why |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {one.check_name} | {one.reason.replace('|', '/')} |" for one in left_out)])


def checks_of(instance: dg.DagsterInstance, run_id: str) -> dict[dg.AssetCheckKey, bool | None]:
    """What Dagster shows of the checks of the assets that a run has made; None of those that had nothing to measure."""
    found: dict[dg.AssetCheckKey, bool | None] = {}
    for key, said in _newest(instance, run_id).items():
        measured = said is not None and NOTHING_TO_MEASURE not in said.metadata
        found[key] = said.passed if said is not None and measured else None
    return found


def say_unmeasured(instance: dg.DagsterInstance, run_id: str) -> None:
    """Say of the checks that a failed run left out that they were: Dagster would call them failed, as the run is."""
    for key in [key for key, said in _newest(instance, run_id).items() if said is None]:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={NOTHING_TO_MEASURE: True},
                description="nothing to measure; see the metadata of the asset",
            )
        )


def _newest(instance: dg.DagsterInstance, run_id: str) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation | None]:
    """Checks of the assets that a run has made, as they stand; None of those that were to be made and were not."""
    made: set[dg.AssetKey | None] = set()
    planned: list[dg.AssetCheckKey] = []
    for entry in instance.all_logs(run_id, of_type={MADE, PLANNED}):
        event = entry.get_dagster_event()
        if event.event_type == MADE:
            made.add(event.asset_key)
        else:
            planned.append(event.asset_check_planned_data.asset_check_key)
    # Another asset of the run may have said more of them, as `rollout` does of the champion's.
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(planned)
    return {
        key: None if newest[key].status.value == "PLANNED" else newest[key].evaluation
        for key in planned
        if key.asset_key in made and key in newest
    }
