"""`llm-platform source`: tables of documents, as a run would read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import application_named, console, new_table, show
from llm_platform.errors import ContractBroken
from llm_platform.settings.settings import load_settings

if TYPE_CHECKING:
    from llm_platform.application.source import TableRef

commands = typer.Typer(no_args_is_help=True, help="Tables of documents, as a run would read them.")


@commands.callback()
def of_sources() -> None:
    """Keep `check` a command of its own."""


@commands.command("check")
def source_check(
    target: Annotated[
        str,
        typer.Argument(
            help="An application; or a table that none names yet: a file, folder, pattern, s3:// URL, or "
            "warehouse.table."
        ),
    ],
    *,
    rows: Annotated[int, typer.Option(min=1, help="Rows that are read at most; the others are counted.")] = 1_000_000,
) -> None:
    """Read a table, and say what is in it, what a sensor would follow, and what a run would refuse. Writes nothing."""
    from llm_platform.operations.answering.columns import source_reader
    from llm_platform.operations.answering.source_look import look_at_source, look_at_table
    from llm_platform.resources.handed import object_store

    settings = load_settings()
    with source_reader(settings.source_warehouses, s3=object_store(settings)) as sources:
        if (ref := _table(target, settings.source_warehouses)) is not None:
            look = look_at_table(ref, sources, most=rows)
        else:
            look = look_at_source(application_named(settings, target).application, sources, most=rows)
    some = "" if look.about is None else f" were looked at, of about {look.about}"
    console.print(f"{look.address}: {look.rows} rows{some}", markup=False)
    table = new_table("column", "type", "read as", "empty", "different")
    for column in look.columns:
        counts = ["" if count is None else str(count) for count in (column.empty, column.values)]
        table.add_row(column.name, column.kind, column.read_as, *counts)
    show(table)
    if look.followed:
        console.print(f"A sensor follows {look.followed}.", markup=False)
    for note in look.notes:
        console.print(note, markup=False)
    if look.refused or look.answers_refused:
        raise ContractBroken("A run would refuse this table:\n" + "\n".join([*look.refused, *look.answers_refused]))


def _table(target: str, warehouses: Mapping[str, str]) -> TableRef | None:
    """The table that is meant; None where it is an application."""
    from llm_platform.application.source import TableRef
    from llm_platform.tables.files import is_table_file
    from llm_platform.tables.places import is_place_of_many

    warehouse, dot, table = target.partition(".")
    if dot and table and warehouse in warehouses:
        return TableRef(warehouse=warehouse, table=table)
    if "://" in target:
        return TableRef(url=target)
    path = Path(target).expanduser()
    if is_table_file(target) or is_place_of_many(str(path)) or path.is_file():
        return TableRef(url=str(path.absolute()))
    return None
