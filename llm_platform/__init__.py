"""Run LLM applications inside a company as one asset graph, from raw documents to a published table.

Imports point one way: definitions → defs → resources → operations → stage folders → application, records → errors.
`connect` is the way in from a notebook; importing this package loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_platform.settings.settings import Settings
    from llm_platform.workbench.notebook import Platform

__all__ = ["connect"]


def connect(*, namespace: str | None = None, snapshot: int | None = None, settings: Settings | None = None) -> Platform:
    """The platform from a notebook or a script; see `workbench.notebook`. Nothing is opened or started yet.

    Args:
        namespace: Whose tables are read; None for the one that the settings name.
        snapshot: Read tables as they were at this snapshot of the lake; None for now.
        settings: Of the deployment; None reads the environment.
    """
    from llm_platform.settings.settings import load_settings
    from llm_platform.workbench.notebook import Platform

    return Platform(settings or load_settings(), namespace=namespace, snapshot=snapshot)
