"""Commands of a deployment's pods: what runs in a container, and what brings its storage to this version."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from llm_platform.cli.console import OpenToOthers, console, require_guard
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import load_settings

commands = typer.Typer()


@commands.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run_with_home(
    command: Annotated[list[str], typer.Argument(help="Program and arguments, e.g. dagster-daemon run.")],
) -> None:
    """Prepare this deployment's DAGSTER_HOME, then become the program; the entry point of the images."""
    from llm_platform.workbench.instance import dagster_home

    home = dagster_home(load_settings())
    beside = Path(sys.executable).with_name(command[0])
    program = str(beside) if beside.is_file() else command[0]
    try:
        os.execvpe(program, [program, *command[1:]], {**os.environ, "DAGSTER_HOME": str(home)})
    except OSError as error:
        raise SpecificationError(
            f"Cannot start {command[0]!r}: {error.strerror}. Name a program of the image."
        ) from error


@commands.command("migrate")
def migrate() -> None:
    """Bring Dagster's storage and this namespace's lake to this version, and limit its pools; again does nothing."""
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.instance import recorded

    settings = load_settings()
    with recorded(settings) as instance:
        instance.upgrade()
        instance.reindex()
    console.print(f"Dagster's storage is that of version {_dagster_version()}.")
    with WarehouseResource.of(settings).open() as lake:
        console.print(f"The lake of namespace {settings.namespace} is at snapshot {lake.snapshot()}.")


@commands.command("daemon-alive", hidden=True)
def daemon_alive() -> None:
    """For a probe: exit status 1 if a daemon of this deployment has been silent for minutes."""
    from llm_platform.workbench.heartbeats import silent_daemons

    settings = load_settings()
    if settings.dagster_storage is None:
        raise SpecificationError("LLM_PLATFORM_DAGSTER_STORAGE is not set: heartbeats are looked for in Postgres.")
    if silent := silent_daemons(settings.dagster_storage, settings.dagster_storage_password_file):
        console.print(f"Silent for minutes: {', '.join(silent)}.")
        raise typer.Exit(1)


@commands.command("webserver")
def webserver(
    workspace: Annotated[
        Path, typer.Option(help="Where code locations are; Dagster's workspace.yaml.", exists=True, dir_okay=False)
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the web page.", min=1, max=65535)] = 3000,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="For viewers: nothing can be launched or changed.")
    ] = False,
    open_to_others: OpenToOthers = False,
) -> None:
    """Dagster's pages in a cluster, without the addresses through which anybody could report a check as passed."""
    from llm_platform.workbench.instance import dagster_home
    from llm_platform.workbench.webserver import serve_pages

    require_guard(host, "Dagster's UI", "launch runs and delete their history", open_to_others=open_to_others)
    os.environ["DAGSTER_HOME"] = str(dagster_home(load_settings()))
    serve_pages(workspace, host=host, port=port, read_only=read_only)


def _dagster_version() -> str:
    from importlib.metadata import version

    return version("dagster")
