"""`llm-platform application`: folders with an application.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_platform.cli.console import console, new_table, show
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Applications: folders with an application.yaml.")


@commands.command("list")
def application_list() -> None:
    """List applications, their tasks and variants."""
    from llm_platform.operations.releases import load_applications

    table = new_table("name", "task", "source", "variants", "folder")
    for name, loaded in load_applications(*load_settings().application_files).items():
        spec = loaded.application
        table.add_row(name, spec.task, spec.source.address, ", ".join(spec.judged), str(spec.folder))
    show(table)


@commands.command("check")
def application_check(
    folder: Annotated[Path | None, typer.Argument(help="One application's folder; all of them if not given.")] = None,
) -> None:
    """Read specifications, prompts and the columns of tables, and report every mistake with file and line."""
    from llm_platform.application.yaml.mistakes import raise_all
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.answering.columns import column_mistakes, source_reader
    from llm_platform.operations.releases import load_folders

    settings = load_settings()
    folders = (folder.resolve(),) if folder else settings.application_folders
    found = load_folders(folders, load_lock(settings.models_lock))
    with source_reader(settings.source_warehouses) as sources:
        checked = {name: column_mistakes(loaded.application, sources) for name, loaded in found.items()}
    raise_all(mistake for mistakes, _ in checked.values() for mistake in mistakes)
    for name, loaded in found.items():
        console.print(f"{name}: {len(loaded.application.judged)} variants, no mistakes")
        for reason in dict.fromkeys(checked[name][1]):
            console.print(f"  columns are checked before anything is sent, and could not be now: {reason}")
    if not found:
        raise SpecificationError(f"No application.yaml in {', '.join(map(str, folders))}.")


@commands.command("new")
def application_new(
    name: Annotated[str, typer.Argument(help="Name: small letters, digits and underscores.")],
    *,
    source: Annotated[str, typer.Option(help="CSV, Parquet or JSONL file, or warehouse.table.")],
    folder: Annotated[Path, typer.Option(help="Where the application's folder is made.")] = Path("applications"),
    task: Annotated[str, typer.Option(help="classify, extract or generate.")] = "classify",
    labels: Annotated[str, typer.Option(help="Labels, separated by commas; for classify.")] = "",
    key: Annotated[str | None, typer.Option(help="Column that names a document.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Column that holds the text; several with commas, or a template.")
    ] = None,
    answer: Annotated[str | None, typer.Option(help="Column that holds the known answer.")] = None,
    model: Annotated[str, typer.Option(help="Entry of models.lock.yaml.")] = "smollm2-135m",
) -> None:
    """Write a working application folder for a table of documents."""
    from llm_platform.application.scaffold.folder import new_application

    wanted = tuple(label.strip() for label in labels.split(",") if label.strip())
    path = new_application(
        name, source, folder, task=task, labels=wanted, key=key, text=text, answer=answer, model=model
    )
    console.print(f"Wrote {path}. Next:")
    console.print(f"  export LLM_PLATFORM_APPLICATIONS={folder.resolve()}")
    console.print(f"  llm-platform application check && llm-platform run {name}")
