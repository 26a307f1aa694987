"""`llm-platform nim up|down|status`: models brought up and taken down, wherever they run."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer

from llm_platform.cli.console import ModelName, console, entry_named, new_table, show
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import load_settings

Local = Annotated[bool, typer.Option("--local", help="On this machine's GPUs: a NIM's container, or vLLM.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Let the cluster check it, and change nothing.")]


def register(commands: typer.Typer) -> None:
    """Add these commands to `llm-platform nim`."""
    commands.command("up")(nim_up)
    commands.command("down")(nim_down)
    commands.command("status")(nim_status)


def nim_up(
    model: ModelName,
    *,
    local: Local = False,
    deadline_minutes: Annotated[float | None, typer.Option(min=0, help="How long to wait; 30 if not set.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Instead of LLM_PLATFORM_NIM_REPLICAS.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take over fields that others have set on our objects.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Bring a model up, or join one that is, and wait for a real token; undone when it fails or is interrupted."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.serving.bringing_up import bring_model_up, rehearse_up
    from llm_platform.resources.handed import serving_of

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    if replicas is not None:
        settings = settings.model_copy(update={"nim_replicas": replicas})
    if dry_run:
        if entry.mode == "embedded" or local:
            raise SpecificationError("--dry-run asks a cluster; there is nothing to ask on this machine.")
        console.print(f"{model}: {rehearse_up(entry, serving_of(settings), force=force)}")
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    up = bring_model_up(
        entry,
        serving_of(settings),
        report=lambda said: console.print(f"  {said}", markup=False),
        deadline_minutes=deadline_minutes,
        local=local,
        force=force,
    )
    console.print(f"{model}: up at {up.endpoint} after {up.seconds:.0f} s; {up.done}", markup=False)
    if up.image_digest is not None:
        console.print(f"  its pods run {up.image_digest}, as the lock file pins")


def nim_down(
    model: ModelName,
    *,
    local: Local = False,
    delete_cache: Annotated[
        bool, typer.Option("--delete-cache", help="Delete its downloaded weights in the cluster, too.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Take a model down: what `nim up` has made, and nothing else."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.serving.bringing_up import take_model_down
    from llm_platform.resources.handed import serving_of

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    if dry_run and (entry.mode == "embedded" or local):
        raise SpecificationError("--dry-run asks a cluster; there is nothing to ask on this machine.")
    said = take_model_down(
        entry,
        serving_of(settings),
        report=lambda state: console.print(f"  {state}", markup=False),
        local=local,
        delete_cache=delete_cache,
        dry_run=dry_run,
    )
    console.print(f"{model}: {said}", markup=False)


def nim_status(
    model: Annotated[str | None, typer.Argument(help="Entry of models.lock.yaml; every one if not given.")] = None,
) -> None:
    """Say how models are: embedded, on this machine, external, and in the cluster with their pods."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.serving.model_states import model_states
    from llm_platform.resources.handed import serving_of

    settings = load_settings()
    lock = load_lock(settings.models_lock)
    entries = list(lock.values()) if model is None else [entry_named(lock, model)]
    table = new_table("model", "mode", "where", "state")
    for one in model_states(entries, serving_of(settings)):
        table.add_row(one.entry, one.mode, one.where, one.state)
    show(table)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End, and take back what was made; pressed again while that goes on, Ctrl-C does nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
