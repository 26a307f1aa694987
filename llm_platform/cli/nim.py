"""`llm-platform nim`: the embedded NIM, and the pods of NIMs in a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from llm_platform.cli import nim_manifests
from llm_platform.cli.console import ModelName, console, entry_named
from llm_platform.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="The embedded NIM: a small real model behind the NIM protocol.")
nim_manifests.register(commands)


@commands.command("serve")
def nim_serve(
    model: Annotated[str, typer.Argument(help="An embedded entry of models.lock.yaml.")] = "smollm2-135m",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; the port that NIM uses if not given.")] = 8000,
) -> None:
    """Serve a model in the foreground, NIM's endpoints on a port of your choice."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.daemon import serve
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    local = replace(LocalNim.of(settings), idle_seconds=0)
    weights = local.fetch(entry, lambda stage, detail: console.print(f"{stage} {detail}"))
    serve(local.config(entry, weights), host=host, port=port)


@commands.command("status")
def nim_status() -> None:
    """Say which embedded NIMs of the state folder run."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.process import status
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    local = LocalNim.of(settings)
    for name, entry in load_lock(settings.models_lock).items():
        if entry.mode == "embedded":
            running = status(local.config(entry, local.path(entry)), state=settings.state)
            console.print(f"{name}: {f'{running.base_url}, process {running.pid}' if running else 'not running'}")


@commands.command("stop")
def nim_stop(model: ModelName) -> None:
    """Stop the embedded NIM of a model."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.process import stop
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    local = LocalNim.of(settings)
    stopped = stop(local.config(entry, local.path(entry)), state=settings.state)
    console.print(f"{model}: {'stopped' if stopped else 'was not running'}")
