"""What the applications of a deployment share: models and their pods, endpoint metrics, resources, alerts."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from llm_platform.defs.alerts import alerts_sensor
from llm_platform.defs.care import care_definitions
from llm_platform.defs.failures import up_to_date_checks
from llm_platform.defs.models import model_asset
from llm_platform.defs.monitoring import endpoint_metrics_asset, monitoring_definitions
from llm_platform.defs.nim_pods import nim_pods_definitions
from llm_platform.models.entries import LockEntry
from llm_platform.operations.releases import LoadedApplication
from llm_platform.resources.alerts import AlertsResource
from llm_platform.resources.execution import on_one_lake
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.sealed import sealed
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings


def shared_definitions(
    settings: Settings, entries: Mapping[str, LockEntry], applications: Mapping[str, LoadedApplication]
) -> tuple[dict[str, dg.AssetsDefinition], dg.Definitions]:
    """(models by lock entry, the definitions that hold them and everything else that is there once).

    Args:
        settings: Of the deployment.
        entries: The lock file.
        applications: Those that name the models; a model that none names is no asset.
    """
    users: dict[str, list[str]] = {}
    for name, loaded in applications.items():
        for entry_name in loaded.lock:
            users.setdefault(entry_name, []).append(name)
    models = {name: model_asset(entries[name], named_by) for name, named_by in users.items()}
    platform = dg.Definitions(
        assets=list(models.values()),
        asset_checks=[up_to_date_checks("models", list(models.values()))] if models else [],
        resources={
            "warehouse": sealed(WarehouseResource.of(settings)),
            "alerts": sealed(AlertsResource.of(settings)),
            **{resource_key(name): sealed(NIMResource.of(settings, name)) for name in entries},
        },
        sensors=[alerts_sensor(settings, [loaded.application for loaded in applications.values()])],
        executor=on_one_lake,
    )
    looks = {name: endpoint_metrics_asset(entries[name], named_by, settings) for name, named_by in users.items()}
    pods = nim_pods_definitions(list(entries.values()), settings)
    monitoring = monitoring_definitions(looks, entries, users, settings)
    return models, dg.Definitions.merge(platform, monitoring, pods, care_definitions(settings, applications))
