"""`audit`: what must always be so, asked of the tables."""

from __future__ import annotations

import typer

from llm_platform.cli.console import ApplicationName, application_named, console
from llm_platform.errors import ContractBroken
from llm_platform.settings.settings import load_settings

commands = typer.Typer()


@commands.command()
def audit(application: ApplicationName) -> None:
    """Hold the tables of an application against what must always be so. Reads all of them, and writes nothing."""
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    application_named(settings, application)
    broken = []
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        for one in lake.application(application).audit.findings():
            first = "" if one.first is None else f" (first: {one.first!r})"
            console.print(f"{'no' if one.broken else 'yes'}  {one.claim}{first if one.broken else ''}", markup=False)
            broken += [f"{one.claim}: {one.broken} times not{first}"] if one.broken else []
    if broken:
        raise ContractBroken(
            f"{application}: {len(broken)} of these are not so:\n" + "\n".join(f"  {line}" for line in broken)
        )
