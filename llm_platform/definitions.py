"""The Definitions of this deployment: the platform, and one graph per application.

Loading reads files only: settings, the lock file and the applications' folders. No model, no network, no lake.

Whatever is wrong with the files of one team is that team's: what cannot be used is an asset that says why, and
everything else is there. So the code location of a deployment loads whatever its applications are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg

from llm_platform.defs.application import application_definitions
from llm_platform.defs.broken import broken_assets
from llm_platform.defs.deployment import shared_definitions
from llm_platform.defs.graph import Graph
from llm_platform.defs.team import team_definitions
from llm_platform.errors import PlatformError, SpecificationError
from llm_platform.models.lock import Lock, load_lock
from llm_platform.operations.releases import LoadedApplication, load_applications
from llm_platform.settings.settings import Settings, load_settings

MODELS = "models"


@dataclass(frozen=True)
class Built:
    """The graph of a deployment, and what of its files is not in it.

    Attributes:
        applications: Those that are in it, by name.
        broken: Name of an application or a module → why it cannot be used.
        broken_entries: The same of entries of the lock file.
    """

    definitions: dg.Definitions
    applications: Mapping[str, LoadedApplication]
    broken: Mapping[str, str]
    broken_entries: Mapping[str, str]


def build_definitions(settings: Settings) -> dg.Definitions:
    """The whole graph of one deployment."""
    return build(settings).definitions


def build(settings: Settings, *, folder: Path | None = None) -> Built:
    """The graph of everything that can be used; each of the rest is an asset that says why it cannot.

    Args:
        settings: Of the deployment.
        folder: Only the application in it, and no modules of teams.
    """
    lock = _lock(settings)
    folders = settings.application_folders if folder is None else (folder,)
    applications = load_applications(folders, settings.models_lock, settings.budget_month_tokens)
    models, shared = shared_definitions(settings, lock, applications)
    graphs: dict[str, Callable[[], dg.Definitions]] = {
        name: partial(application_definitions, Graph(loaded, settings), models)
        for name, loaded in sorted(applications.items())
    }
    teams = {module: partial(team_definitions, module) for module in (settings.modules if folder is None else ())}
    broken: dict[str, str] = {}
    for one in applications.broken:
        broken[one.name] = "\n".join([*([broken[one.name]] if one.name in broken else []), one.mistakes])
    known = dg.Definitions(assets=[*broken_assets(broken), *broken_assets(lock.broken, group=MODELS)])
    definitions, refused = _together(dg.Definitions.merge(shared, known), {**graphs, **teams})
    loaded = {name: one for name, one in applications.items() if name not in refused}
    return Built(definitions, loaded, {**broken, **refused}, lock.broken)


def _lock(settings: Settings) -> Lock:
    try:
        return load_lock(settings.models_lock)
    except SpecificationError as error:
        return Lock({}, {settings.models_lock.name: str(error)})


def _together(
    base: dg.Definitions, makers: Mapping[str, Callable[[], dg.Definitions]]
) -> tuple[dg.Definitions, dict[str, str]]:
    """All of them, and why some are not: what they raise, or what Dagster says of keys that two of them have."""
    parts: dict[str, dg.Definitions] = {}
    refused: dict[str, str] = {}
    for name, make in makers.items():
        try:
            parts[name] = make()
        except Exception as error:  # noqa: BLE001 - whatever a team's files bring up is that team's
            refused[name] = f"{name}: {_in_words(error)}"
    whole = dg.Definitions.merge(base, *parts.values())
    try:
        whole.get_repository_def()
    except Exception:  # noqa: BLE001 - of each by itself, Dagster says whose it is
        whole = base
        for name, part in parts.items():
            tried = dg.Definitions.merge(whole, part)
            try:
                tried.get_repository_def()
            except Exception as error:  # noqa: BLE001
                refused[name] = f"{name}: Dagster refuses it beside the others ({_in_words(error)})"
            else:
                whole = tried
    if not refused:
        return whole, refused
    return dg.Definitions.merge(whole, dg.Definitions(assets=broken_assets(refused))), refused


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"


defs = build_definitions(load_settings())
