"""The Definitions of this deployment: the platform, and one graph per application.

Loading reads files only: settings, the lock file and the applications' folders. No model, no network, no lake.
"""

from __future__ import annotations

import dagster as dg

from llm_platform.defs.alerts import alerts_sensor
from llm_platform.defs.application import application_definitions
from llm_platform.defs.failures import up_to_date_checks
from llm_platform.defs.graph import Graph
from llm_platform.defs.models import model_asset
from llm_platform.defs.monitoring import endpoint_metrics_asset, monitoring_definitions
from llm_platform.defs.nim_pods import nim_pods_definitions
from llm_platform.defs.team import team_definitions
from llm_platform.errors import SpecificationError
from llm_platform.models.lock import load_lock
from llm_platform.operations.releases import load_applications
from llm_platform.resources.alerts import AlertsResource
from llm_platform.resources.nim import NIMResource, resource_key
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings, load_settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """The whole graph of one deployment."""
    applications = load_applications(*settings.application_files)
    users: dict[str, list[str]] = {}
    entries = load_lock(settings.models_lock)
    for name, loaded in applications.items():
        for entry_name in loaded.lock:
            users.setdefault(entry_name, []).append(name)
    if len({resource_key(name) for name in entries}) < len(entries):
        raise SpecificationError(
            f"Two lock entries differ only in punctuation: {', '.join(sorted(entries))}. Rename one."
        )
    models = {name: model_asset(entries[name], named_by) for name, named_by in users.items()}
    graphs = [application_definitions(Graph(loaded, settings), models) for _, loaded in sorted(applications.items())]
    platform = dg.Definitions(
        assets=list(models.values()),
        asset_checks=[up_to_date_checks("models", list(models.values()))] if models else [],
        resources={
            "warehouse": WarehouseResource.of(settings),
            "alerts": AlertsResource.of(settings),
            **{resource_key(name): NIMResource.of(settings, name) for name in entries},
        },
        sensors=[alerts_sensor(settings)],
        executor=dg.in_process_executor,
    )
    looks = [endpoint_metrics_asset(entries[name], named_by, settings) for name, named_by in users.items()]
    teams = [team_definitions(name) for name in settings.modules]
    pods = nim_pods_definitions(list(entries.values()), settings)
    return dg.Definitions.merge(platform, monitoring_definitions(looks, settings), pods, *graphs, *teams)


defs = build_definitions(load_settings())
