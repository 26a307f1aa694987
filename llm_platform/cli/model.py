"""`llm-platform model`: what the lock file pins, whether it is what runs, and what depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from llm_platform.cli.console import ModelName, applications_of, console, entry_named, new_table, show
from llm_platform.errors import EndpointMismatch, SpecificationError
from llm_platform.settings.settings import SHIPPED, Settings, load_settings

if TYPE_CHECKING:
    from llm_platform.models.differences import FieldChange
    from llm_platform.models.entries import LockEntry
    from llm_platform.settings.connection import Connection

commands = typer.Typer(no_args_is_help=True, help="Models of the lock file.")


@commands.command("fetch")
def model_fetch(model: Annotated[str, typer.Argument(help="An embedded entry.")] = "smollm2-135m") -> None:
    """Fetch and verify the weights of an embedded model."""
    from llm_platform.models.lock import load_lock
    from llm_platform.resources.handed import local_nim

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    path = local_nim(settings).fetch(entry, lambda stage, detail: console.print(f"{stage} {detail}"))
    console.print(str(path))


@commands.command("list")
def model_list(
    names: Annotated[bool, typer.Option("--names", help="Only names of entries that can be used, one a line.")] = False,
) -> None:
    """List the models of the lock file and what they are pinned to."""
    from llm_platform.models.lock import load_lock

    table = new_table("name", "mode", "dialect", "pinned to", "context", "licence")
    lock = load_lock(load_settings().models_lock)
    if names:
        for name in lock:
            typer.echo(name)
        return
    for name, entry in lock.items():
        weights = f"weights {entry.weights.sha256[:12]}…" if entry.weights else "nothing"
        pinned = f"{entry.image.reference} ({entry.image.digest_from})" if entry.image else weights
        table.add_row(name, entry.mode, entry.dialect, pinned, str(entry.context_length), entry.licence)
    for name, mistakes in lock.broken.items():
        table.add_row(name, "-", "-", Text(f"cannot be used: {mistakes.splitlines()[0]}"), "-", "-")
    show(table)


@commands.command("lock")
def model_lock(
    model: Annotated[str, typer.Argument(help="Entry to write; made if there is none.")],
    *,
    url: Annotated[str | None, typer.Option(help="For a new external entry: root of its endpoint.")] = None,
    served_name: Annotated[str | None, typer.Option(help="For a new external entry: which model it serves.")] = None,
    licence: Annotated[str | None, typer.Option(help="For a new entry: the model's licence.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="NIMService YAML: image, profile, GPUs, service.")] = None,
    pods: Annotated[Path | None, typer.Option(help="`kubectl get pods -o json`: the digest that runs.")] = None,
) -> None:
    """Write what an endpoint (or a NIMService) says into the lock file; comments and everything else stay."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.release import models

    settings = load_settings()
    if settings.models_lock.parent == SHIPPED:
        raise SpecificationError(
            f"{settings.models_lock} is part of the installed package, and an upgrade would take its changes away. "
            f"First: cp {settings.models_lock} . && export LLM_PLATFORM_MODELS_LOCK=$PWD/models.lock.yaml"
        )
    fields: dict[str, Any] = {"licence": licence} if licence else {}
    if manifest is not None:
        fields |= models.fields_of_kubernetes(manifest, pods)
        changes = models.write_entry(settings.models_lock, model, fields)
    else:
        lock = load_lock(settings.models_lock)
        if model in lock.broken:
            raise SpecificationError(lock.broken[model])
        if model not in lock:
            fields |= _first_fields(url, served_name, settings.connection(external=True))
        changes = models.write_entry(settings.models_lock, model, fields) if fields else []
        observation = _nim(settings, model).observe(probes=True)
        entry = load_lock(settings.models_lock)[model]
        changes += models.write_entry(settings.models_lock, model, models.fields_said(entry, observation))
    _show_changes(changes)
    console.print(f"{model} is locked in {settings.models_lock}." if changes else f"{model} was locked so already.")


def _first_fields(url: str | None, served_name: str | None, connection: Connection) -> dict[str, Any]:
    from llm_platform.nim.http import EndpointClient
    from llm_platform.operations.release.models import first_fields

    if url is None:
        raise SpecificationError("The lock file has no such entry. Give --url or --manifest to make one.")
    with EndpointClient(connection) as client:
        return first_fields(url, served_name, client)


@commands.command("verify")
def model_verify(model: ModelName) -> None:
    """Compare what runs with the lock file: what it says, how it cuts texts, and what it answers to fixed prompts."""
    from llm_platform.operations.release.models import verification

    observation = _nim(load_settings(), model).observe(probes=True)
    table = new_table("endpoint", "what", "locked", "found", "verdict")
    for url, compared in verification(observation).items():
        for one in compared:
            verdict = one.difference or ("as locked" if one.observed else "not said, not verified")
            table.add_row(url, one.name, one.locked, one.observed or "-", verdict)
    show(table)
    if not observation.matches:
        raise EndpointMismatch("\n".join(observation.mismatches))
    console.print(f"{model} is what the lock file pins, as far as it can be told.")


@commands.command("diff")
def model_diff(
    before: Annotated[str, typer.Argument(help="An entry, or a git revision of the lock file.")],
    after: Annotated[
        str | None, typer.Argument(help="An entry to compare with; the file as it is now if not given.")
    ] = None,
) -> None:
    """Say how two entries differ, or the lock file since a git revision, and what that touches."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.release.models import lock_at_revision

    settings = load_settings()
    now = load_lock(settings.models_lock)
    if after is not None:
        _diff(settings, before, entry_named(now, before), entry_named(now, after))
        return
    then = lock_at_revision(settings.models_lock, before)
    for name in dict.fromkeys([*then, *now]):
        if name not in now or name not in then:
            console.print(f"{name}: {'new' if name in now else 'gone'} since {before}")
        elif then[name] != now[name]:
            _diff(settings, name, then[name], now[name])


@commands.command("why")
def model_why(model: ModelName) -> None:
    """List what was approved on a model: decisions of `rollout`, and whether each still holds."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.release.models import approvals
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    entry = entry_named(load_lock(settings.models_lock), model)
    table = new_table("application", "variant", "decision", "at", "by", "release", "report", "evidence", "holds")
    with WarehouseResource.of(settings).open() as lake:
        for name, loaded in applications_of(settings).items():
            for approval in approvals(lake.application(name), loaded, entry):
                event = approval.event
                gates = ", ".join(f"{gate.name}: {gate.comparison}" for gate in event.evidence)
                decision = [event.variant, event.action, f"{event.at:%Y-%m-%d %H:%M}", event.decider]
                holds = f"no: {approval.void}" if approval.void else "yes"
                table.add_row(name, *decision, event.release_id, event.report_id, gates, holds)
    show(table) if table.row_count else console.print(f"Nothing was approved on {model} yet.")


def _diff(settings: Settings, name: str, before: LockEntry, after: LockEntry) -> None:
    from llm_platform.models.differences import entry_changes
    from llm_platform.operations.release.models import touched
    from llm_platform.resources.warehouse import WarehouseResource

    console.print(f"{name} → {after.name}" if after.name != name else name)
    _show_changes(entry_changes(before, after))
    table = new_table("application", "variant", "prompt", "release before", "release after", "reports void", "serves")
    with WarehouseResource.of(settings).open() as lake:
        for application, loaded in applications_of(settings).items():
            store = lake.application(application)
            for one in touched(store, loaded, entry=name, before=before, after=after):
                releases = [one.before or "-", (one.after or "-") if one.stale else "the same"]
                table.add_row(
                    one.application,
                    one.variant,
                    one.prompt,
                    *releases,
                    ", ".join(one.void) or "none",
                    "yes" if one.serves else "no",
                )
    show(table) if table.row_count else console.print(f"No variant names {name}.")


def _show_changes(changes: list[FieldChange]) -> None:
    if not changes:
        return
    table = new_table("field", "before", "after", "decides answers")
    for change in changes:
        table.add_row(change.field, change.before, change.after, "yes" if change.decides else "no")
    show(table)


def _nim(settings: Settings, model: str) -> Any:
    from llm_platform.models.lock import load_lock
    from llm_platform.resources.nim import NIMResource

    entry_named(load_lock(settings.models_lock), model)
    return NIMResource.of(settings, model)
