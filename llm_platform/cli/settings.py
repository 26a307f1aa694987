"""`llm-platform settings`: every environment variable that a deployment reads, and which of them are set."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from llm_platform.cli.console import console, new_table, show
from llm_platform.settings.page import all_settings, settings_page

commands = typer.Typer()


@commands.command("settings")
def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/settings.md, as it should be.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are not set here.")] = False,
) -> None:
    """List the environment variables that are set here, or all there are; values of secrets are not shown."""
    if markdown:
        typer.echo(settings_page(), nl=False)
        return
    table = new_table("variable", "set here", "default", "meaning")
    rows = 0
    for one in all_settings():
        value = next((os.environ[name] for name in (one.variable, *one.others) if name in os.environ), None)
        if value is None and not everything:
            continue
        shown = "" if value is None else "(secret)" if one.kind == "secret" else value
        table.add_row(one.variable, shown, one.default.replace("`", ""), one.meaning)
        rows += 1
    if not rows:
        console.print("None is set: every default holds. All there are: llm-platform settings --all")
        return
    show(table)
