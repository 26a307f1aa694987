"""`llm-platform bom`: the bill of materials of this deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_platform.cli.console import applications_of, console
from llm_platform.settings.settings import load_settings

commands = typer.Typer()


@commands.command()
def bom(
    output: Annotated[Path | None, typer.Option(help="File to write; the terminal if not given.")] = None,
) -> None:
    """Write what this deployment is made of as CycloneDX 1.6: packages, images, models, adapters, prompts, data."""
    from llm_platform.files import write_text
    from llm_platform.operations.release.bom import Deployment, bill_of_materials
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    deployment = Deployment(settings.deployment, settings.namespace, settings.git_commit)
    with WarehouseResource.of(settings).open() as lake:
        text = bill_of_materials(deployment, applications_of(settings), lake)
    if output is None:
        typer.echo(text, nl=False)
        return
    write_text(output, text, shared=True)
    console.print(f"Wrote {output}: {text.count(chr(10))} lines of CycloneDX 1.6.")
