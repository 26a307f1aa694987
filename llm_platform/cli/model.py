"""`llm-platform model`: what the lock file pins."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_platform.cli.console import console, entry_named, new_table, show
from llm_platform.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Models of the lock file.")


@commands.command("fetch")
def model_fetch(model: Annotated[str, typer.Argument(help="An embedded entry.")] = "smollm2-135m") -> None:
    """Fetch and verify the weights of an embedded model."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    path = LocalNim.of(settings).fetch(entry, lambda stage, detail: console.print(f"{stage} {detail}"))
    console.print(str(path))


@commands.command("list")
def model_list() -> None:
    """List the models of the lock file and what they are pinned to."""
    from llm_platform.models.lock import load_lock

    table = new_table("name", "mode", "dialect", "pinned to", "context", "licence")
    for name, entry in load_lock(load_settings().models_lock).items():
        weights = f"weights {entry.weights.sha256[:12]}…" if entry.weights else "nothing"
        pinned = entry.image.reference if entry.image else weights
        table.add_row(name, entry.mode, entry.dialect, pinned, str(entry.context_length), entry.licence)
    show(table)
