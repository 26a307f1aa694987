"""Commands that show releases: everything that determines an answer but the document."""

from __future__ import annotations

from typing import Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.settings.settings import load_settings

commands = typer.Typer(help="Releases: prompt, pinned model, sampling, schema and adapter, by the hash of them all.")
ReleaseName = Annotated[str, typer.Argument(help="A variant, `champion`, or the beginning of a release id.")]


@commands.command("list")
def list_releases(application: ApplicationName) -> None:
    """Every release that was ever asked, what it is to readers, and how many answers of it are stored."""
    from llm_platform.operations.release.listing import listed_releases
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    table = new_table("release", "variants", "prompt", "model", "adapter", "is", "answers", "since")
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        for one in listed_releases(lake.application(application), loaded):
            prompt = f"{one.release.prompt.name} {one.release.prompt.version}"
            since = f"{one.created_at:%Y-%m-%d %H:%M}"
            model, adapter = one.release.model.entry, one.release.adapter or ""
            variants, answers = ", ".join(one.variants), str(one.answers)
            table.add_row(one.release.release_id, variants, prompt, model, adapter, one.standing, answers, since)
    show(table)


@commands.command("show")
def show_release(application: ApplicationName, release: ReleaseName) -> None:
    """What a release is made of, how it was judged, and when it served or challenged."""
    from llm_platform.operations.release.listing import release_account
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        for line in release_account(lake.application(application), loaded, release):
            console.print(line, markup=False)


@commands.command("diff")
def diff_releases(application: ApplicationName, a: ReleaseName, b: ReleaseName) -> None:
    """What makes two releases two: model pin, adapter, sampling, decision, schema, calibration, prompt."""
    from llm_platform.operations.evidence.comparing import differences, named_release
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        first, second = (named_release(store, loaded, name) for name in (a, b))
        lines = differences(first, second, names=(a, b))
    for line in lines or [f"{a} and {b} are the same release, {first.release_id}."]:
        console.print(line, markup=False)
