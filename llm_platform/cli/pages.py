"""Where things stand, at a terminal and as a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from llm_platform.cli.console import application_named, applications_of, console
from llm_platform.cli.review import serve
from llm_platform.settings.settings import load_settings

commands = typer.Typer()
commands.command("page")(serve)


@commands.command("status")
def show_status(
    application: Annotated[str | None, typer.Argument(help="Name of an application; all of them if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what serves and why, what it costs, and what waits for whom. Asks no model."""
    from llm_platform.operations.reviewing.status import platform_status
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.review.status import lines_of

    settings = load_settings()
    broken = {}
    if application is None:
        found = applications_of(settings)
        broken = {one.name: one.mistakes.splitlines()[0] for one in found.broken}
    chosen = found if application is None else {application: application_named(settings, application)}
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        status = platform_status(
            lake,
            chosen,
            namespace=settings.namespace,
            broken=broken,
            cards_folder=settings.cards_folder,
            progress_folder=settings.progress_folder,
            now=datetime.now(UTC),
        )
    if as_json:
        console.print_json(status.model_dump_json())
        return
    for line in lines_of(status):
        console.print(line, markup=False)
