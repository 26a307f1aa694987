"""`llm-platform adapter`: adapters that were trained or imported, what is known of them, and who serves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.errors import PermanentError, SpecificationError
from llm_platform.settings.settings import Settings, load_settings

if TYPE_CHECKING:
    from llm_platform.operations.releases import LoadedApplication
    from llm_platform.records import AdapterManifest
    from llm_platform.warehouse.store import ApplicationStore

commands = typer.Typer(no_args_is_help=True, help="LoRA adapters: trained, measured, served.")

SHORTEST_REASON = 10

AdapterName = Annotated[str, typer.Argument(help="A name under 'finetuning' of application.yaml.")]
AdapterId = Annotated[str, typer.Argument(help="Id of an adapter, or its first digits; see: llm-platform adapter list")]


@commands.command("list")
def adapter_list(application: ApplicationName) -> None:
    """List the adapters of an application: what they were trained on, who serves them, who uses them."""
    from llm_platform.operations.adapters.adapters import published_names, uses
    from llm_platform.records import adapter_name
    from llm_platform.resources.handed import serving_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    table = new_table("name", "id", "made", "examples", "validation", "published", "used by")
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        users, published = uses(store, loaded), published_names(serving_of(settings), loaded.lock)
        for manifest in store.adapters.all():
            table.add_row(
                manifest.name,
                manifest.adapter_id,
                f"{manifest.created_at:%Y-%m-%d %H:%M}",
                str(manifest.data.train) if manifest.data else f"imported: {manifest.imported_from}",
                _validation(manifest),
                "yes" if adapter_name(application, manifest.adapter_id) in published else "no",
                "; ".join(users.get(manifest.adapter_id, [])) or "nobody",
            )
    show(table)


@commands.command("show")
def adapter_show(application: ApplicationName, adapter: AdapterId) -> None:
    """Print what an adapter was made from and what training measured."""
    from llm_platform.operations.adapters.adapters import uses
    from llm_platform.records import adapter_name
    from llm_platform.resources.handed import adapter_folders
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        manifest = _named(store, application, adapter)
        users = uses(store, loaded).get(manifest.adapter_id, [])
    console.print(f"adapter {manifest.adapter_id}", markup=False)
    console.print(f"  served as {adapter_name(application, manifest.adapter_id)}", markup=False)
    console.print(f"  folder {adapter_folders(settings).path(manifest.adapter_id)}", markup=False)
    console.print(f"  used by {'; '.join(users) or 'nobody'}", markup=False)
    for key, value in manifest.model_dump(mode="json", exclude={"metrics"}).items():
        console.print(f"  {key}: {value}", markup=False)
    metrics = manifest.metrics
    for one in metrics.validations if metrics else ():
        mark = " (kept)" if metrics and one.step == metrics.best_step else ""
        console.print(f"  step {one.step}: validation loss {one.loss:.4f}, accuracy {one.accuracy:.3f}{mark}")


@commands.command("compare")
def adapter_compare(application: ApplicationName, name: AdapterName) -> None:
    """Print how an adapter does beside the champion, its base and counting words, on the same held-out documents."""
    from llm_platform.evaluation.wording import interval_text, probability
    from llm_platform.operations.adapters.adapter_reports import adapted_releases
    from llm_platform.operations.evidence.adapter_evidence import stored_report, verdict
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    _require_name(loaded, name)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        reports = [stored_report(store, release) for release in adapted_releases(store, loaded, name).values()]
    found = [report for report in reports if report is not None]
    if not found:
        raise PermanentError(
            f"Adapter {name!r} of {application} has not been compared with anything yet. In Dagster's UI run the job "
            f"{application}_finetune, or: llm-platform adapter train {application}"
        )
    for report in found:
        table = new_table("compared with", "its score", f"{report.variant}", "difference", "test")
        for pair in report.pairs:
            intervals = (interval_text(one) for one in (pair.theirs, pair.ours, pair.difference))
            table.add_row(pair.name, *intervals, probability(pair.p_value))
        show(table)
        console.print(f"{report.variant}: {verdict(report)}", markup=False)


@commands.command("train")
def adapter_train(application: ApplicationName) -> None:
    """Train the adapters of an application, answer with them and judge them: <application>_finetune, then a run."""
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.runs import fetch_weights, train
    from llm_platform.workbench.summary import print_summary

    settings = load_settings()
    loaded = application_named(settings, application)
    _require_finetuning(loaded)
    fetch_weights(settings, loaded, console=console)
    checks = train(settings, application, console=console)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        print_summary(lake, loaded, settings, console=console, checks=checks)


@commands.command("accept")
def adapter_accept(
    application: ApplicationName,
    adapter: AdapterId,
    because: Annotated[str, typer.Option(help="Why it may be used although documents it learned were forgotten.")],
) -> None:
    """Take an adapter as it is that was trained on documents that were forgotten since; who and why is kept."""
    from datetime import UTC, datetime

    from llm_platform.resources.handed import adapter_folders
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.settings.login import login

    if len(because.strip()) < SHORTEST_REASON:
        raise SpecificationError(f"--because {because!r} is no reason. Say why in a sentence; it is kept for audits.")
    settings = load_settings()
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        manifest = _named(store, application, adapter)
        # What is taken as it is has to be what was trained.
        adapter_folders(settings).find(manifest.adapter_id, manifest.base)
        accepted = store.bars.accept(
            "adapter", manifest.adapter_id, by=login(), because=because.strip(), at=datetime.now(UTC)
        )
    console.print(
        f"Adapter {manifest.adapter_id} may be promoted again." if accepted else "Nothing bars this adapter.",
        markup=False,
    )


@commands.command("sign")
def adapter_sign(
    application: ApplicationName,
    adapter: AdapterId,
    key: Annotated[
        Path | None, typer.Option(help="Private Ed25519 key in PEM; the deployment's if not given.", dir_okay=False)
    ] = None,
) -> None:
    """Sign an adapter whose files are as its manifest says; what is trained or imported here is signed by itself."""
    from llm_platform.finetuning.adapter import verify
    from llm_platform.resources.handed import adapter_folders
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        manifest = _named(lake.application(application), application, adapter)
    folders = adapter_folders(settings)
    verify(folders.path(manifest.adapter_id), manifest.base)
    folders.sign(manifest.adapter_id, key=key)
    folders.store(manifest.adapter_id)
    console.print(f"Adapter {manifest.adapter_id} is signed.", markup=False)


@commands.command("publish")
def adapter_publish(application: ApplicationName, adapter: AdapterId) -> None:
    """Let the endpoints of its base model serve an adapter, and wait until each has answered with it."""
    from llm_platform.operations.adapters.adapters import serve_adapter
    from llm_platform.operations.serving.endpoints import base_urls
    from llm_platform.records import adapter_name
    from llm_platform.resources.handed import adapter_folders, local_nim, serving_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        manifest = _named(lake.application(application), application, adapter)
    entry = loaded.lock[manifest.base.entry]
    urls = base_urls(entry, local_nim(settings), cluster_namespace=settings.nim_cluster_namespace)
    name = adapter_name(application, manifest.adapter_id)
    serve_adapter(
        entry,
        serving=serving_of(settings),
        folders=adapter_folders(settings),
        name=name,
        adapter_id=manifest.adapter_id,
        base=manifest.base,
        base_urls=urls,
    )
    console.print(f"{name} answers at {', '.join(urls)}", markup=False)


@commands.command("retire")
def adapter_retire(
    application: ApplicationName,
    adapter: Annotated[str, typer.Argument(help="Id of an adapter; without one, all that no release uses.")] = "",
) -> None:
    """Take an adapter from the endpoints, or every one that no release uses; its files and its record stay."""
    from llm_platform.operations.adapters.adapters import retire_adapter, uses
    from llm_platform.resources.handed import serving_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        users = uses(store, loaded)
        unused = [manifest for manifest in store.adapters.all() if manifest.adapter_id not in users]
        chosen = [_named(store, application, adapter)] if adapter else unused
        for manifest in chosen:
            entry = loaded.lock[manifest.base.entry]
            gone = retire_adapter(store, loaded, manifest, serving=serving_of(settings), entry=entry)
            console.print(f"{manifest.adapter_id}: {'retired' if gone else 'was not published'}")
    if not chosen:
        console.print("Every adapter is used by a release.")


@commands.command("import")
def adapter_import(
    application: ApplicationName,
    name: AdapterName,
    folder: Annotated[Path, typer.Argument(help="Folder in Hugging Face layout.")],
    note: Annotated[str, typer.Option(help="Where it comes from; kept in its manifest.")] = "",
) -> None:
    """Take in an adapter that was trained elsewhere: it gets a manifest, and the same comparisons and checks."""
    from llm_platform.finetuning.adapter import import_adapter
    from llm_platform.models.lock import pin
    from llm_platform.resources.handed import adapter_folders
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    _require_name(loaded, name)
    base = pin(loaded.lock[loaded.application.finetuning[name].model])
    manifest = import_adapter(
        folder, adapter_folders(settings).folder, application=application, name=name, base=base, note=note
    )
    adapter_folders(settings).sign(manifest.adapter_id)
    adapter_folders(settings).store(manifest.adapter_id)
    with WarehouseResource.of(settings).open() as lake:
        lake.application(application).adapters.append(manifest, inputs_hash="")
    console.print(f"Adapter {manifest.adapter_id} is {name!r} of {application} now. To answer with it and judge it:")
    console.print(f"  llm-platform run {application}")


@commands.command("curve")
def adapter_curve(application: ApplicationName, name: AdapterName) -> None:
    """Train on 50 examples, on 100, and so on to all, and measure each on the held-out documents."""
    from llm_platform.operations.adapters.adapter_panels import curve_panel
    from llm_platform.operations.adapters.adapter_studies import stored_curve

    settings, loaded = _study(application, name, "learning_curve")
    with _store(application) as store:
        curve = stored_curve(store, name)
    if curve is None:
        raise PermanentError(f"The learning curve of {name!r} was not stored.")
    panel = curve_panel(curve)
    table = new_table(*panel.columns)
    for row in panel.rows:
        table.add_row(*row)
    show(table)
    console.print(f"Picture: {settings.cards_folder / loaded.application.name / 'adapters.html'}", markup=False)


@commands.command("sweep")
def adapter_sweep(application: ApplicationName, name: AdapterName) -> None:
    """Train by four recipes and compare them on validation examples; nothing held out is looked at."""
    from llm_platform.operations.adapters.adapter_studies import stored_sweep

    _study(application, name, "sweep")
    with _store(application) as store:
        found = stored_sweep(store, name)
    table = new_table("rank", "learning rate", "validation loss", "validation accuracy", "kept step", "seconds")
    for trial in found.trials if found else ():
        recipe = trial.recipe
        numbers = (f"{trial.loss:.4f}", f"{trial.accuracy:.3f}", str(trial.best_step), f"{trial.wall_seconds:.0f}")
        table.add_row(str(recipe.rank), f"{recipe.learning_rate:g}", *numbers)
    show(table)


def _study(application: str, name: str, kind: str) -> tuple[Settings, LoadedApplication]:
    from llm_platform.defs.runs import studies_job
    from llm_platform.workbench.runs import fetch_weights, materialize

    settings = load_settings()
    loaded = application_named(settings, application)
    _require_name(loaded, name)
    spec = loaded.application.finetuning[name]
    console.print(f"Several trainings of at most {spec.max_minutes:g} minutes each; none is done twice.")
    fetch_weights(settings, loaded, console=console)
    materialize(settings, application, console=console, job=studies_job(application), only=[f"{kind}_{name}"])
    return settings, loaded


@contextmanager
def _store(application: str) -> Iterator[ApplicationStore]:
    from llm_platform.resources.warehouse import WarehouseResource

    with WarehouseResource.of(load_settings()).open(read_only=True) as lake:
        yield lake.application(application)


def _named(store: ApplicationStore, application: str, adapter: str) -> AdapterManifest:
    found = [manifest for manifest in store.adapters.all() if manifest.adapter_id.startswith(adapter)]
    if len(found) != 1:
        known = ", ".join(manifest.adapter_id for manifest in store.adapters.all()) or "none"
        raise SpecificationError(
            f"{application} has {'several adapters' if found else 'no adapter'} {adapter!r}. There are: {known}."
        )
    return found[0]


def _validation(manifest: AdapterManifest) -> str:
    validations = manifest.metrics.validations if manifest.metrics else ()
    if not validations:
        return "–"
    best = min(validations, key=lambda one: one.loss)
    return f"loss {best.loss:.3f}, accuracy {best.accuracy:.3f}"


def _require_finetuning(loaded: LoadedApplication) -> None:
    if not loaded.application.finetuning:
        raise SpecificationError(
            f"{loaded.application.name} trains no adapter. Add 'finetuning' to its application.yaml; see "
            "docs/finetuning.md."
        )


def _require_name(loaded: LoadedApplication, name: str) -> None:
    _require_finetuning(loaded)
    known = loaded.application.finetuning
    if name not in known:
        raise SpecificationError(
            f"{loaded.application.name} has no adapter {name!r} under 'finetuning'. There are: {', '.join(known)}."
        )
