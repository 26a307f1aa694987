"""One asset a lock entry: what its endpoints say they are."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.defs.failures import failing_late
from llm_platform.models.entries import LockEntry
from llm_platform.models.lock import lock_hash, pin
from llm_platform.operations.serving.endpoints import record, require_match
from llm_platform.records import content_hash
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.warehouse import WarehouseResource

MATCH = "endpoints_match_lock"
"""It blocks nothing: whoever sends a document verifies the endpoint first, and others may have another one."""


def model_key(entry_name: str) -> dg.AssetKey:
    """Asset key of a lock entry."""
    return dg.AssetKey(["models", f"model_{entry_name}"])


def model_asset(entry: LockEntry, applications: Sequence[str]) -> dg.AssetsDefinition:
    """What the endpoints of a lock entry say they are, recorded for every application that uses it."""
    key = model_key(entry.name)

    @dg.asset(
        key=key,
        group_name="models",
        kinds={"nim"},
        code_version=lock_hash(entry),
        required_resource_keys={"warehouse", resource_key(entry.name)},
        check_specs=[
            dg.AssetCheckSpec(
                MATCH,
                asset=key,
                description="Every endpoint serves exactly what models.lock.yaml pins.",
            )
        ],
        description=f"{entry.model}, {entry.mode}, {entry.dialect}; {entry.licence}.",
    )
    def models(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield from failing_late(context, _observe(context, entry, applications), checks=[MATCH])

    return models


def _observe(
    context: dg.AssetExecutionContext, entry: LockEntry, applications: Sequence[str]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    warehouse: WarehouseResource = context.resources.warehouse
    nim: NIMResource = getattr(context.resources, resource_key(entry.name))
    observation = nim.observe()
    with warehouse.open() as lake:
        for name in applications:
            record(lake.application(name), observation)
    yield dg.AssetCheckResult(
        check_name=MATCH,
        passed=observation.matches,
        metadata={"mismatches": "\n".join(observation.mismatches)},
    )
    require_match(observation)
    yield dg.MaterializeResult(
        # What decides answers: a changed price makes nothing stale.
        data_version=dg.DataVersion(content_hash([observation.identity_hash, pin(entry).model_dump(mode="json")])),
        metadata={
            "endpoints": len(observation.identities),
            "served_name": entry.served_name,
            "weights_sha256": entry.weights.sha256 if entry.weights else "not pinned",
            "image": entry.image.reference if entry.image else "none (embedded)",
            "context_length": entry.context_length,
            "licence": entry.licence,
        },
    )
