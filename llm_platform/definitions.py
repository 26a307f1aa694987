"""The Definitions of this deployment: the platform, and one graph per application.

Loading reads files only: settings, the lock file and the applications' folders. No model, no network, no lake.
"""

from __future__ import annotations

import dagster as dg

from llm_platform.defs.application import application_definitions
from llm_platform.defs.deployment import shared_definitions
from llm_platform.defs.graph import Graph
from llm_platform.defs.team import team_definitions
from llm_platform.models.lock import load_lock
from llm_platform.operations.releases import load_applications
from llm_platform.settings.settings import Settings, load_settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """The whole graph of one deployment."""
    applications = load_applications(*settings.application_files)
    models, shared = shared_definitions(settings, load_lock(settings.models_lock), applications)
    graphs = [application_definitions(Graph(loaded, settings), models) for _, loaded in sorted(applications.items())]
    teams = [team_definitions(name) for name in settings.modules]
    return dg.Definitions.merge(shared, *graphs, *teams)


defs = build_definitions(load_settings())
