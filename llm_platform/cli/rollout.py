"""Commands that decide which release serves the published table."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import load_settings

commands = typer.Typer()


@commands.command()
def promote(
    application: ApplicationName,
    variant: Annotated[str, typer.Argument(help="A variant of application.yaml.")],
    note: Annotated[str, typer.Option(help="Why; kept with the decision.")] = "",
) -> None:
    """Let a variant serve the published table, if a report on exactly its release passed."""
    from llm_platform.operations.release.rollout import promote as promote_release
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.summary import publish_now

    settings = load_settings()
    loaded = application_named(settings, application)
    if variant not in loaded.application.judged:
        raise SpecificationError(
            f"{application} has no variant {variant!r}. There are: {', '.join(loaded.application.variants)}."
        )
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        release = loaded.release(variant, store)
        if release is None:
            first = "adapter train" if loaded.requesting(variant, store) is None else "run"
            raise SpecificationError(
                f"{application}/{variant} cannot be promoted: {loaded.pending(variant, store)}. "
                f"First: llm-platform {first} {application}"
            )
        event = promote_release(
            store,
            loaded,
            variant,
            release=release,
            by=getpass.getuser(),
            note=note,
        )
    console.print(f"{variant} (release {event.release_id}) serves from now on.")
    publish_now(settings, loaded, console=console)


@commands.command()
def rollback(
    application: ApplicationName, note: Annotated[str, typer.Option(help="Why; kept with the decision.")] = ""
) -> None:
    """Let the release that served before serve again."""
    from llm_platform.operations.release.rollout import rollback as roll_back
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.summary import publish_now

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        event = roll_back(lake.application(application), loaded, by=getpass.getuser(), note=note)
    console.print(f"{event.variant} (release {event.release_id}) serves again.")
    publish_now(settings, loaded, console=console)
