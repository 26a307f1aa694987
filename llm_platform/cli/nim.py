"""`llm-platform nim`: the embedded NIM in the foreground; the other commands are in modules beside this one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from llm_platform.cli import nim_bench, nim_life, nim_manifests
from llm_platform.cli.console import OpenToOthers, console, entry_named, require_guard
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Models: served, brought up, taken down; Kubernetes objects.")
nim_life.register(commands)
nim_manifests.register(commands)
nim_bench.register(commands)


@commands.command("serve")
def nim_serve(
    model: Annotated[str, typer.Argument(help="An embedded entry of models.lock.yaml.")] = "smollm2-135m",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; the port that NIM uses if not given.")] = 8000,
    open_to_others: OpenToOthers = False,
) -> None:
    """Serve a model in the foreground, NIM's endpoints on a port of your choice."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.daemon import serve
    from llm_platform.resources.handed import local_nim

    require_guard(host, "the embedded NIM", "use it up and load adapters", open_to_others=open_to_others)
    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    local = replace(local_nim(settings), idle_seconds=0)
    weights = local.fetch(entry, lambda stage, detail: console.print(f"{stage} {detail}"))
    serve(local.config(entry, weights), host=host, port=port)
