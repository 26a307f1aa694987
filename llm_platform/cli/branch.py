"""`llm-platform branch`: namespaces that read another's tables."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_platform.cli.console import console
from llm_platform.settings.settings import load_settings, namespace_name

commands = typer.Typer(no_args_is_help=True, help="Namespaces that read another's tables and write only their own.")


@commands.command("up")
def branch_up(
    name: Annotated[str, typer.Argument(help="Name of the new namespace.")],
    upstream: Annotated[
        str | None, typer.Option("--from", help="Namespace to read; the present one if not given.")
    ] = None,
) -> None:
    """Make a namespace that reads another's answers and champion, and writes only its own tables."""
    from llm_platform.operations.release.branches import make_branch

    settings = load_settings()
    branch = make_branch(settings.state, namespace_name(name), namespace_name(upstream or settings.namespace))
    console.print(f"Namespace {branch} reads {namespace_name(upstream or settings.namespace)}. Use it with:")
    console.print(f"  export LLM_PLATFORM_NAMESPACE={branch}")


@commands.command("down")
def branch_down(
    name: Annotated[str, typer.Argument(help="Namespace to delete.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a namespace that `branch up` made: its catalog, data and Dagster history."""
    from llm_platform.operations.release.branches import remove_branch

    settings = load_settings()
    if not yes:
        typer.confirm(f"Delete everything of namespace {namespace_name(name)}?", abort=True)
    remove_branch(settings.state, namespace_name(name))
    console.print(f"Namespace {namespace_name(name)} is gone.")
