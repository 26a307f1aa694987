"""`llm-platform demo`: real documents through a real model to a published table, and a short account of it."""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from llm_platform.operations.answering.samples import load_sample
from llm_platform.operations.release.plan import plan
from llm_platform.operations.releases import loaded_application
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.workbench.runs import fetch_weights, materialize
from llm_platform.workbench.summary import print_summary

DOCUMENTS = 400


def run_demo(settings: Settings, *, application: str, documents: int | None, console: Console) -> None:
    """Bring an application up to date on this machine, and say what happened.

    Args:
        settings: Of the deployment.
        application: One that ships documents.
        documents: How many; None takes as many as there are, at least 400.
        console: Where it is said.

    Raises:
        PermanentError: a step failed; says which, why, and what to do.
    """
    started = time.monotonic()
    loaded = loaded_application(*settings.application_files, application)
    warehouse = WarehouseResource.of(settings)
    load_documents(settings, application, documents=documents, least=DOCUMENTS)
    with warehouse.open() as lake:
        steps = plan(lake, loaded)
    if not steps:
        with warehouse.open(read_only=True) as lake:
            why = " every asset is what its inputs say. No request sent, no run started."
            console.print(Text.assemble(("Nothing to do:", "bold"), why))
            print_summary(lake, loaded, settings, console=console, checks=None)
        console.print(f"{time.monotonic() - started:.1f} s")
        return
    console.print(Text.assemble((loaded.application.title, "bold"), f" in namespace {settings.namespace}. To do:"))
    for step in steps:
        console.print(f"  {step.asset}: {step.reason}")
    fetch_weights(settings, loaded, console=console)
    checks = materialize(settings, application, console=console)
    with warehouse.open(read_only=True) as lake:
        print_summary(lake, loaded, settings, console=console, checks=checks)
    console.print(f"{time.monotonic() - started:.0f} s in all. Run it again: nothing is sent twice.")


def load_documents(settings: Settings, application: str, *, documents: int | None, least: int) -> None:
    """Load the shipped documents: so many, or as many as an earlier demo has loaded, at least `least`."""
    if documents is None:
        with WarehouseResource.of(settings).open() as lake:
            documents = max(least, sum(lake.application(application).documents.counts().values()))
    load_sample(settings.source_warehouses["upstream"], application, documents=documents)
