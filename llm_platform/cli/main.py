"""The command itself: its groups, and how an error ends it."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from llm_platform.cli import (
    adapter,
    answering,
    application,
    bom,
    branch,
    judge,
    lake,
    model,
    monitor,
    nim,
    pipeline,
    prompt,
    review,
    rollout,
    settings,
    state,
    tag,
    trial,
)
from llm_platform.errors import PlatformError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run LLM applications as an asset graph: documents in, a checked and published table out.",
)
for group in (pipeline, answering, trial, rollout, bom, settings):
    app.add_typer(group.commands)
for name, commands in {
    "nim": nim.commands,
    "model": model.commands,
    "application": application.commands,
    "adapter": adapter.commands,
    "prompt": prompt.commands,
    "judge": judge.commands,
    "review": review.commands,
    "tag": tag.commands,
    "monitor": monitor.commands,
    "lake": lake.commands,
    "state": state.commands,
    "branch": branch.commands,
}.items():
    app.add_typer(commands, name=name)


def main() -> None:
    """Run the command; an error raised on purpose ends with its message and exit status 1, without a traceback."""
    try:
        app()
    except PlatformError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {_plain(error)}")
        sys.exit(1)


def _plain(error: PlatformError) -> str:
    return str(error).replace("[", "\\[")
