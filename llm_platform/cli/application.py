"""`llm-platform application`: folders with an application.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from llm_platform.cli.console import console, new_table, show
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import Settings, load_settings

ROWS_CHECKED = 100_000
"""Rows of each table; `source check` reads more of one."""
commands = typer.Typer(no_args_is_help=True, help="Applications: folders with an application.yaml.")


@commands.command("list")
def application_list(
    names: Annotated[
        bool, typer.Option("--names", help="Only the names of those that can be used, one a line.")
    ] = False,
) -> None:
    """List applications, their tasks and variants; and those that cannot be used, with what is wrong with them."""
    from llm_platform.operations.releases import load_applications

    found = load_applications(*load_settings().application_files)
    if names:
        for name in found:
            typer.echo(name)
        return
    table = new_table("name", "task", "source", "variants", "folder")
    for name, loaded in found.items():
        spec = loaded.application
        table.add_row(name, spec.task, spec.source.address, ", ".join(spec.judged), str(spec.folder))
    for one in found.broken:
        first, *more = one.mistakes.splitlines()
        said = f"cannot be used: {first}" + (f" (and {len(more)} more)" if more else "")
        table.add_row(one.name, "-", Text(said), "-", str(one.folder))
    show(table)


@commands.command("check")
def application_check(
    application: Annotated[
        Path | None, typer.Argument(help="One application's name, or its folder; all of them if not given.")
    ] = None,
) -> None:
    """Read specifications, prompts and the tables that can be reached, and report every mistake with file and line.

    Of all applications, it also says what Dagster would refuse, and what is wrong with entries of the lock file.
    """
    from llm_platform.definitions import build
    from llm_platform.evaluation.wording import counted
    from llm_platform.operations.answering.columns import column_mistakes, row_mistakes, source_reader
    from llm_platform.resources.handed import object_store

    settings = load_settings()
    folder = _folder_of(settings, application) if application else None
    built = build(settings, folder=folder)
    lines = [line for text in built.broken.values() for line in text.splitlines()]
    notes: dict[str, list[str]] = {}
    with source_reader(settings.source_warehouses, s3=object_store(settings)) as sources:
        checked = {name: column_mistakes(one.application, sources) for name, one in built.applications.items()}
        for name, (mistakes, unread) in checked.items():
            if not mistakes and not unread:
                found, notes[name] = row_mistakes(built.applications[name].application, sources, most=ROWS_CHECKED)
                checked[name] = (found, [])
    for name, (mistakes, unread) in checked.items():
        lines += map(str, sorted(set(mistakes)))
        if mistakes:
            continue
        variants = counted(len(built.applications[name].application.judged), "variant")
        console.print(f"{name}: {variants}, no mistakes")
        for reason in dict.fromkeys(unread):
            console.print(f"  columns are checked before anything is sent, and could not be now: {reason}")
        redaction = built.applications[name].application.redaction
        if redaction is not None and not redaction.put_back:
            console.print("  what is taken out of documents is stored nowhere: answers keep its placeholders")
        for note in notes.get(name, []):
            console.print(f"  {note}", markup=False)
    if folder is None:
        lines += [line for text in built.broken_entries.values() for line in text.splitlines()]
    if lines:
        raise SpecificationError("\n".join(dict.fromkeys(lines)))
    if not built.applications:
        folders = ", ".join(map(str, settings.application_folders))
        raise SpecificationError(
            f"No application.yaml in {folder or folders or 'any folder'}. Name folders of applications in "
            "LLM_PLATFORM_APPLICATIONS, or make one: llm-platform application new NAME --source FILE"
        )


def _folder_of(settings: Settings, application: Path) -> Path:
    """The folder itself, or else that of the application with this name."""
    from llm_platform.application.load import FILE_NAME, find_applications

    folder = application.resolve()
    if (folder / FILE_NAME).exists():
        return folder
    return find_applications(settings.application_folders).folders.get(str(application), folder)


@commands.command("new")
def application_new(
    name: Annotated[str, typer.Argument(help="Name: small letters, digits and underscores.")],
    *,
    source: Annotated[str, typer.Option(help="File, folder, pattern, s3://…, or warehouse.table.")],
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
