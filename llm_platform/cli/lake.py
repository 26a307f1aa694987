"""`llm-platform lake`: reading what is stored with other tools."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_platform.cli.console import new_table, show
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Reading what is stored with DuckDB and other tools.")


@commands.command("attach")
def lake_attach(
    namespace: Annotated[str | None, typer.Option(help="Another namespace than this one.")] = None,
) -> None:
    """Print the statements with which any DuckDB of this version reads the lake; without passwords."""
    from llm_platform.warehouse.lake import LakeLocation
    from llm_platform.warehouse.reading import reading_statements

    settings = load_settings()
    typer.echo(reading_statements(LakeLocation(*settings.location(namespace or settings.namespace))), nl=False)


@commands.command("schema")
def lake_schema(
    table: Annotated[str | None, typer.Argument(help="One table; all of them if not given.")] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/lake.md, as it should be.")] = False,
) -> None:
    """List tables of an application and their columns, and what each means."""
    from llm_platform.errors import SpecificationError
    from llm_platform.warehouse.schema_page import lake_page, tables, words_of

    if markdown:
        typer.echo(lake_page(), nl=False)
        return
    known = tables()
    if table is not None and table not in known:
        raise SpecificationError(f"The lake has no table {table!r}. It has: {', '.join(known)}.")
    shown = new_table("table", "column", "type", "meaning")
    for name in known if table is None else (table,):
        for column, sql_type in known[name].items():
            shown.add_row(name, column, sql_type, words_of(name, column).replace("`", ""))
    show(shown)
