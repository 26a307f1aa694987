"""What the commands share: the terminal, arguments, and how things are looked up by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import Settings

if TYPE_CHECKING:
    from llm_platform.models.entries import LockEntry
    from llm_platform.operations.releases import LoadedApplication

console = Console(highlight=False, soft_wrap=True)
ApplicationName = Annotated[str, typer.Argument(help="Name of an application; see: llm-platform application list")]
ModelName = Annotated[str, typer.Argument(help="Entry of models.lock.yaml; see: llm-platform model list")]


def new_table(*columns: str) -> Table:
    """A table with these columns."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table."""
    # Read by another program, a row is one line, whatever its length.
    Console(highlight=False, width=None if console.is_terminal else 1000).print(table)


def application_named(settings: Settings, name: str) -> LoadedApplication:
    """An application of the deployment, with its prompts and lock entries."""
    from llm_platform.operations.releases import loaded_application

    return loaded_application(*settings.application_files, name)


def entry_named(lock: Mapping[str, LockEntry], name: str) -> LockEntry:
    """An entry of the lock file."""
    if name not in lock:
        raise SpecificationError(f"models.lock.yaml has no entry {name!r}. There are: {', '.join(lock)}.")
    return lock[name]
