"""What the commands share: the terminal, arguments, and how things are looked up by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import Settings

if TYPE_CHECKING:
    from llm_platform.models.entries import LockEntry
    from llm_platform.models.lock import Lock
    from llm_platform.operations.releases import Applications, LoadedApplication

# Keys, titles and patterns of people may look like markup: what is printed is what they wrote.
console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, stderr=True)
ApplicationName = Annotated[str, typer.Argument(help="Name of an application; see: llm-platform application list")]
ModelName = Annotated[str, typer.Argument(help="Entry of models.lock.yaml; see: llm-platform model list")]


OpenToOthers = Annotated[
    bool,
    typer.Option("--open-to-others", help="Others can reach it, by a proxy that signs people in."),
]


def require_guard(host: str, what: str, anybody: str, *, open_to_others: bool) -> None:
    """Refuse to listen where others can reach a page that asks nobody who they are, as the review page does.

    Args:
        what: The page, for the message.
        anybody: What whoever reaches it may do.
        open_to_others: Somebody has said that it is guarded otherwise.

    Raises:
        SpecificationError: nobody has.
    """
    from llm_platform.review.people import LOCAL_ADDRESSES

    if host in LOCAL_ADDRESSES:
        return
    if not open_to_others:
        raise SpecificationError(
            f"Cannot serve {what} on {host!r}: others can reach it, nothing asks who they are, and whoever reaches it "
            f"can {anybody}. Leave out --host and reach it through a tunnel (ssh -L); behind a proxy that signs people "
            "in, or in a network of its own, add --open-to-others."
        )
    console.print(
        f"Listening on {host}: nothing here asks who somebody is, and whoever reaches it can {anybody}.", style="yellow"
    )


def new_table(*columns: str) -> Table:
    """A table with these columns."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show(table: Table, *, empty: str = "There is nothing to list.") -> None:
    """Print a table; one without rows is a sentence."""
    if not table.rows:
        console.print(empty, markup=False)
        return
    # Read by another program, a row is one line, whatever its length.
    Console(highlight=False, markup=False, emoji=False, width=None if console.is_terminal else 1000).print(table)


def application_named(settings: Settings, name: str) -> LoadedApplication:
    """An application of the deployment, with its prompts and lock entries."""
    from llm_platform.operations.releases import loaded_application

    return loaded_application(*settings.application_files, name)


def applications_of(settings: Settings) -> Applications:
    """Every application of the deployment that can be used; that others cannot is said."""
    from llm_platform.operations.releases import load_applications

    found = load_applications(*settings.application_files)
    for one in found.broken:
        errors.print(f"left out: {one.name} cannot be used; see: llm-platform application check", markup=False)
    return found


def entry_named(lock: Lock, name: str) -> LockEntry:
    """An entry of the lock file."""
    if name in lock.broken:
        raise SpecificationError(lock.broken[name])
    if name not in lock:
        raise SpecificationError(f"models.lock.yaml has no entry {name!r}. There are: {', '.join(lock)}.")
    return lock[name]
