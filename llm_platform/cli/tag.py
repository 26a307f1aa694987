"""`llm-platform tag`: tags and notes on prompts, runs, releases, documents and single answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from llm_platform.cli.console import ApplicationName, application_named, applications_of, console, new_table, show
from llm_platform.settings.login import login
from llm_platform.settings.settings import Settings, load_settings

commands = typer.Typer(no_args_is_help=True, help="Tags and notes on prompts, runs, releases, documents and answers.")

Tag = Annotated[str, typer.Argument(help="E.g. 'good example', 'use as few-shot' or 'do not use'.")]
Prompt = Annotated[str | None, typer.Option(help="Name of a prompt.")]
Run = Annotated[str | None, typer.Option(help="Id of a run.")]
Release = Annotated[str | None, typer.Option(help="Id of a release; with --document, its answer.")]
Document = Annotated[str | None, typer.Option(help="Key of a document.")]


@commands.command("add")
def tag_add(
    application: ApplicationName,
    tag: Tag,
    *,
    prompt: Prompt = None,
    run: Run = None,
    release: Release = None,
    document: Document = None,
    note: Annotated[str, typer.Option(help="Why, or what else is to be known.")] = "",
) -> None:
    """Put a tag on something; a tag on a run is shown by Dagster too."""
    from llm_platform.operations.reviewing.tags import add_tag, subject_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    by, at = login(), datetime.now(UTC)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        subject = subject_of(store, loaded, prompt=prompt, run=run, release=release, document=document)
        added = add_tag(store, subject, tag, note=note, by=by, at=at)
    told = subject.kind == "run" and _tell_dagster(settings, subject.id, tag, by)
    console.print(f"{'Tagged' if added else 'Already tagged:'} {subject.kind} {subject.id}.", markup=False)
    if subject.kind == "run" and not told:
        console.print("This namespace's Dagster has no such run, so only the lake knows of the tag.")


@commands.command("remove")
def tag_remove(
    application: ApplicationName,
    tag: Tag,
    *,
    prompt: Prompt = None,
    run: Run = None,
    release: Release = None,
    document: Document = None,
) -> None:
    """Take a tag off something, whoever put it there; the history keeps both."""
    from llm_platform.operations.reviewing.tags import remove_tag, subject_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        subject = subject_of(store, loaded, prompt=prompt, run=run, release=release, document=document)
        removed = remove_tag(store, subject, tag, by=login(), at=datetime.now(UTC))
    if subject.kind == "run" and removed:
        # Dagster can change the tags of a run and not remove one.
        _tell_dagster(settings, subject.id, tag, "removed")
    console.print(f"{removed} removed." if removed else f"{subject.kind} {subject.id} has no such tag.", markup=False)


@commands.command("list")
def tag_list(
    application: ApplicationName,
    tag: Annotated[str | None, typer.Option(help="Only what carries this tag.")] = None,
) -> None:
    """List tags and notes of an application."""
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.review.items import clean_tag

    settings = load_settings()
    application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        annotations = lake.application(application).annotations
        rows = annotations.tagged(clean_tag(tag)) if tag is not None else annotations.tags()
    _show([{"application": application, **row} for row in rows.to_pylist()])


@commands.command("search")
def tag_search(
    words: Annotated[str, typer.Argument(help="Part of a tag or a note.")],
    application: Annotated[str | None, typer.Option(help="Only this application.")] = None,
) -> None:
    """Find tags and notes that contain some words, in any application."""
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    names = [application_named(settings, application).application.name] if application else applications_of(settings)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        found = [
            {"application": name, **row}
            for name in names
            for row in lake.application(name).annotations.search(words).to_pylist()
        ]
    _show(found)


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.text import Text

    if not rows:
        console.print("Nothing found.")
        return
    table = new_table("application", "on", "id", "kind", "tag or note", "by", "at")
    for row in rows:
        at = row["at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        cells = (row["application"], row["subject_kind"], row["subject_id"], row["kind"], row["body"], row["by"], at)
        table.add_row(*(Text(cell) for cell in cells))
    show(table)


def _tell_dagster(settings: Settings, run_id: str, tag: str, value: str) -> bool:
    """Show the tag on Dagster's run too; whether it knows the run."""
    from llm_platform.resources.run_tags import tag_run
    from llm_platform.workbench.instance import recorded

    with recorded(settings) as instance:
        return tag_run(instance, run_id, tag, value)
