"""The command itself: its groups, and how an error ends it."""

from __future__ import annotations

import sys
from functools import cache
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from llm_platform.cli import (
    access,
    adapter,
    answering,
    application,
    attest,
    audit,
    bom,
    branch,
    contract,
    deployment,
    failures,
    forget,
    judge,
    lake,
    model,
    monitor,
    nim,
    pages,
    pipeline,
    prompt,
    release,
    review,
    rollout,
    serve,
    settings,
    source,
    state,
    tag,
    trial,
)
from llm_platform.errors import PlatformError, is_interrupt, unexpected

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run LLM applications as an asset graph: documents in, a checked and published table out.",
)
for group in (pipeline, pages, answering, failures, forget, trial, rollout, audit, bom, settings, deployment):
    app.add_typer(group.commands)
for name, commands in {
    "nim": nim.commands,
    "model": model.commands,
    "application": application.commands,
    "contract": contract.commands,
    "source": source.commands,
    "adapter": adapter.commands,
    "prompt": prompt.commands,
    "release": release.commands,
    "rollout": rollout.rollouts,
    "judge": judge.commands,
    "review": review.commands,
    "serve": serve.commands,
    "tag": tag.commands,
    "monitor": monitor.commands,
    "lake": lake.commands,
    "state": state.commands,
    "branch": branch.commands,
    "attest": attest.commands,
    "certificate": forget.certificates,
    "access": access.commands,
}.items():
    app.add_typer(commands, name=name)


@cache
def program() -> TyperGroup:
    """Every command with its options; making it takes a tenth of a second."""
    made = typer.main.get_command(app)
    assert isinstance(made, TyperGroup)
    return made


def main() -> None:
    """Run the command; an error ends it with a message and exit status 1, Ctrl-C with 130, and no traceback.

    A traceback ends with what the exception says, which may quote documents: see `errors.unexpected`.
    """
    try:
        program()()
    except PlatformError as error:
        _end(str(error))
    except SystemExit:
        raise
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseException as error:  # noqa: BLE001 - no foreign words get further
        if is_interrupt(error):
            sys.exit(INTERRUPTED)
        _end(unexpected(error))


def _end(message: str) -> NoReturn:
    said = Text.assemble(("error:", "red"), f" {message}")
    Console(stderr=True, highlight=False, soft_wrap=True).print(said)
    sys.exit(1)
