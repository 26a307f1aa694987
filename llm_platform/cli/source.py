"""`llm-platform source`: tables of documents, as a run would read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_platform.cli.console import application_named, console, new_table, show
from llm_platform.errors import ContractBroken
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Tables of documents, as a run would read them.")


@commands.callback()
def of_sources() -> None:
    """Keep `check` a command of its own."""


@commands.command("check")
def source_check(
    target: Annotated[str, typer.Argument(help="An application, or a file that none names yet.")],
) -> None:
    """Read a table whole, and say what is in it and what a run would refuse. Writes nothing, asks no model."""
    from llm_platform.operations.answering.columns import source_reader
    from llm_platform.operations.answering.source_look import look_at_file, look_at_source
    from llm_platform.tables.files import is_table_file

    settings = load_settings()
    if is_table_file(target) or Path(target).is_file():
        look = look_at_file(Path(target).expanduser())
    else:
        loaded = application_named(settings, target)
        with source_reader(settings.source_warehouses) as sources:
            look = look_at_source(loaded.application, sources)
    console.print(f"{look.address}: {look.rows} rows", markup=False)
    table = new_table("column", "type", "read as", "empty", "different")
    for column in look.columns:
        counts = ["" if count is None else str(count) for count in (column.empty, column.values)]
        table.add_row(column.name, column.kind, column.read_as, *counts)
    show(table)
    for note in look.notes:
        console.print(note, markup=False)
    if look.refused:
        raise ContractBroken("A run would refuse this table:\n" + "\n".join(look.refused))
