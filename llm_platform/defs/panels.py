"""What the parts of the platform add to the report card of an application.

A source of panels reads what is stored and draws it; it measures nothing. `evaluation/panel.py` says how to write one;
it is added here, one line each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dagster as dg

from llm_platform.defs.failures import trouble_of
from llm_platform.evaluation.panel import Panel
from llm_platform.operations.adapters.adapter_panels import adapter_panels
from llm_platform.operations.answering.documents import known_answer_panels
from llm_platform.operations.evidence.failure_panels import failure_panels
from llm_platform.operations.evidence.judging import judge_panels
from llm_platform.operations.evidence.long_document_panels import long_document_panels
from llm_platform.operations.release.rollout_panels import rollout_panels
from llm_platform.operations.releases import LoadedApplication
from llm_platform.operations.watching.drift_panels import drift_panels
from llm_platform.warehouse.store import ApplicationStore

PanelSource = Callable[[ApplicationStore, LoadedApplication], Sequence[Panel]]

PANELS: tuple[PanelSource, ...] = (
    known_answer_panels,
    rollout_panels,
    failure_panels,
    judge_panels,
    long_document_panels,
    drift_panels,
    adapter_panels,
)
"""In the order of the page."""


def behind_panel(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> list[Panel]:
    """What of the card is older than the rest, because it could not be brought up to date; nothing if all was."""
    troubles = {"/".join(key.path[1:]): trouble_of(instance, key) for key in keys}
    rows = tuple((name, trouble) for name, trouble in troubles.items() if trouble is not None)
    if not rows:
        return []
    return [
        Panel(
            title="Not brought up to date",
            note="What is said of these rests on what was stored before, and on nothing newer.",
            columns=("What", "Why"),
            rows=rows,
            wide=True,
        )
    ]


def stored_panels(store: ApplicationStore, loaded: LoadedApplication) -> list[Panel]:
    """Every panel that there is something to show in."""
    return [panel for source in PANELS for panel in source(store, loaded)]
