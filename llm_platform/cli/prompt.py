"""`llm-platform prompt`: versions of prompts, what differs between them, and frozen examples."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Prompts: versions, differences, frozen few-shot examples.")


@commands.command("list")
def prompt_list(application: ApplicationName) -> None:
    """List every version of every prompt that was stored or tried, and those of the files that were not yet."""
    from llm_platform.operations.evidence.prompts import prompt_versions
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    table = new_table("prompt", "version", "first seen", "used by", "releases", "tags")
    with WarehouseResource.of(settings).open() as lake:
        for seen in prompt_versions(lake.application(application), loaded):
            at = "not yet" if seen.first_seen is None else f"{seen.first_seen:%Y-%m-%d %H:%M}"
            used = ", ".join(seen.used_by) or "-"
            table.add_row(seen.name, seen.version, at, used, ", ".join(seen.release_ids) or "-", ", ".join(seen.tags))
    show(table)


@commands.command("diff")
def prompt_diff(
    application: ApplicationName,
    a: Annotated[str, typer.Argument(help="A prompt name (its file), a version, a release id, or a path.")],
    b: Annotated[
        str | None, typer.Argument(help="What it is compared with; for a prompt name, the version stored before.")
    ] = None,
) -> None:
    """Print what differs between two versions of a prompt, line by line."""
    from llm_platform.operations.evidence.prompts import prompts_to_compare
    from llm_platform.prompts.text import prompt_difference
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        before, after = prompts_to_compare(lake.application(application), loaded, a, b)
    lines = prompt_difference(before.prompt, after.prompt, names=(before.title, after.title))
    for line in lines or [f"{before.title} and {after.title} ask the same."]:
        console.print(line, markup=False)


@commands.command("freeze")
def prompt_freeze(
    application: ApplicationName,
    prompt: Annotated[str, typer.Argument(help="Name of a prompt of the application, or path of a prompt file.")],
    rows: Annotated[int, typer.Option(help="How many known answers at most.", min=1)] = 500,
) -> None:
    """Freeze the known answers of the training split as examples of a prompt, and write their hash into its file."""
    from llm_platform.workbench.prompt_work import freeze_examples

    pool = freeze_examples(application, prompt, rows=rows)
    console.print(
        f"Pool {pool.name}: {len(pool.examples)} known answers, {pool.preferred} of them preferred by a tag; "
        f"{pool.left_out} left out by a tag or because the evaluation split has the same text."
    )
    console.print("Its hash stands in the file. New labels change nothing until it is frozen again.")
