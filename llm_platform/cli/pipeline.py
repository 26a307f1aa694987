"""Commands that bring an application up to date and say what it would take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import ApplicationName, OpenToOthers, application_named, console, require_guard
from llm_platform.settings.login import login
from llm_platform.settings.settings import SHIPPED, Settings, load_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

commands = typer.Typer()


@commands.command()
def demo(
    documents: Annotated[
        int | None,
        typer.Option(
            help="How many documents to load; as many as are loaded if not given, at least 400 (600 with --finetune).",
            min=20,
        ),
    ] = None,
    application: Annotated[str, typer.Option(help="A shipped application.")] = "movie_reviews",
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train an adapter, too, and publish it if it is better.")
    ] = False,
) -> None:
    """Real documents through a real model to a published table, on this machine."""
    from llm_platform.demo.demo import run_demo
    from llm_platform.demo.finetune import run_finetune_demo

    run_it = run_finetune_demo if finetune else run_demo
    run_it(load_settings(), application=application, documents=documents, console=console)


@commands.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    page_port: Annotated[int, typer.Option(help="Port of the pages of `llm-platform page`; 0 opens none.")] = 8765,
    open_to_others: OpenToOthers = False,
) -> None:
    """Open Dagster's UI and daemon on this namespace, with sensors switched on, and beside it the platform's pages."""
    from llm_platform.workbench.instance import prepared_dagster_home

    require_guard(host, "Dagster's UI", "launch runs and delete their history", open_to_others=open_to_others)
    settings = load_settings()
    home = {"DAGSTER_HOME": str(prepared_dagster_home(settings)), "LLM_PLATFORM_SENSORS": "1"}
    environment = {**os.environ, **home, **links_to_pages(settings, page_port)}
    program = Path(sys.executable).with_name("dagster")
    arguments = ["dev", "--workspace", str(SHIPPED / "workspace.yaml"), "--host", host, "--port", str(port)]
    beside = ""
    if page_port:
        page = Path(sys.executable).with_name("llm-platform")
        # This process becomes Dagster's: the page ends with it, however it ends.
        subprocess.Popen([str(page), "page", "--port", str(page_port), "--with-parent"], stdout=subprocess.DEVNULL)
        beside = f" Where things stand: http://127.0.0.1:{page_port}."
    console.print(f"Namespace {settings.namespace}. Open http://{host}:{port} and stop with Ctrl-C.{beside}")
    os.execve(program, [str(program), *arguments], environment)


def links_to_pages(settings: Settings, page_port: int) -> dict[str, str]:
    """Environment of Dagster by which links of assets lead to pages on another port than the usual one."""
    there = f"http://127.0.0.1:{page_port}"
    elsewhere = page_port and settings.review_url is None and there != settings.page_url
    return {"LLM_PLATFORM_REVIEW_URL": there} if elsewhere else {}


@commands.command("plan")
def show_plan(application: ApplicationName) -> None:
    """Say what is missing, and why, without doing it."""
    from llm_platform.operations.release.plan import plan
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        steps = plan(lake, loaded)
    for step in steps:
        console.print(f"{step.asset}: {step.reason}")
    if not steps:
        console.print("Nothing to do.")


@commands.command("notify")
def notify(application: ApplicationName) -> None:
    """Say that the source has changed: the sensor looks at it with its next tick, however seldom it looks otherwise."""
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(loaded.application.name)
        store.notices.append("command", by=login(), at=datetime.now(UTC))
    running = "" if settings.sensors else " if it is switched on in Dagster"
    console.print(f"The sensor of {application} looks at its source within {settings.sensor_seconds} s{running}.")


@commands.command("estimate")
def show_estimate(application: ApplicationName) -> None:
    """Read what is new in the source, and say what its answers will take in tokens, time and money. Asks no model."""
    from llm_platform.operations.answering.documents import update_documents
    from llm_platform.operations.answering.spending import against_budget, estimates, spent_by
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        update_documents(lake, loaded)
        store = lake.application(application)
        found, spent = estimates(store, loaded), spent_by(store, loaded, None)
    for one in found:
        console.print(one.line, markup=False)
    if (line := against_budget(found, loaded.application.budget, spent=spent)) is not None:
        console.print(line, markup=False)


@commands.command()
def run(
    application: ApplicationName,
    accept_drop: Annotated[
        bool,
        typer.Option("--accept-drop", help="The source may have lost as many rows as it has; see source.max_drop."),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            help="`champion`: its answers, published. A variant: its answers, judged; what is published stays."
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Believe nothing that was counted before: read, count and compare everything."),
    ] = False,
) -> None:
    """Bring an application up to date: the same job that schedules and sensors start.

    What goes wrong with one variant, judge or model keeps nothing of the champion's from readers; the exit status and
    the last lines say what was not done. While another run of this machine does it, this one answers a share of its
    documents, and leaves the rest to it.
    """
    from llm_platform.resources.warehouse import kept_open
    from llm_platform.workbench.instance import recorded

    settings = load_settings()
    with kept_open(), recorded(settings) as instance:
        _run(settings, instance, application, accept_drop=accept_drop, only=only, full=full)


def _run(
    settings: Settings,
    instance: DagsterInstance,
    application: str,
    *,
    accept_drop: bool,
    only: str | None,
    full: bool,
) -> None:
    from llm_platform.cli.answering import share_work
    from llm_platform.operations.answering.documents import ACCEPT_DROP_TAG, FULL_TAG
    from llm_platform.operations.release.plan import nothing_to_do
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.instance import at_work
    from llm_platform.workbench.summary import print_summary
    from llm_platform.workbench.unchanged import FILES_TAG, files_version, is_unchanged

    loaded = application_named(settings, application)
    files = files_version(settings, loaded.application)
    other = at_work(instance, application)
    ran = other is None and not (only or full or accept_drop) and is_unchanged(instance, application, files)
    if ran:
        with WarehouseResource.of(settings).open() as lake:
            if nothing_to_do(lake, loaded):
                console.print("Nothing to do. To read, count and compare everything anew: --full")
                print_summary(lake, loaded, settings, console=console, checks=None)
                return
    from llm_platform.workbench.runs import attempt, fetch_weights, steps_of

    with WarehouseResource.of(settings).open() as lake:
        steps = None if only is None else steps_of(lake, loaded, only)
        if full:
            lake.application(application).tallies.clear()
    fetch_weights(settings, loaded, console=console)
    if other is not None:
        console.print(f"{other} is bringing {application} up to date; sharing its work.")
        share_work(settings, loaded, variant=only)
        console.print("Scores and publishing are left to that run.")
        return
    tags = {ACCEPT_DROP_TAG: "true"} if accept_drop else {}
    tags |= {FULL_TAG: "true"} if full else {}
    tags |= {FILES_TAG: files} if only is None else {}
    ended = attempt(settings, application, console=console, only=steps, tags=tags)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        print_summary(lake, loaded, settings, console=console, checks=ended.checks, run_id=ended.run_id)
    ended.require_success()


@commands.command()
def explain(
    application: ApplicationName,
    document_id: Annotated[str, typer.Argument(help="Key of a document.")],
    texts: Annotated[
        bool, typer.Option("--texts", help="Show the document, the prompt and the answer as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the chain from a published row to prompt, model pin, run, snapshots and commit."""
    from llm_platform.operations.release.explain import explain_document, in_words
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        chain = explain_document(lake, loaded.application, document_id, texts=texts)
    if texts:
        WarehouseResource.of(settings).note_read(application, "explain --texts", document_ids=[document_id])
    if as_json:
        console.print_json(json.dumps(chain, default=str))
        return
    console.print(f"{in_words(loaded.application, document_id, chain)}\n", markup=False)
    for section, values in chain.items():
        console.print(section, style="bold")
        for key, value in values.items():
            console.print(f"  {key}: {value}", markup=False)
    if "published" not in chain:
        console.print(f"Nothing of this document is published yet; the last lines of 'run {application}' say why.")


@commands.command()
def compact(
    keep_days: Annotated[
        float | None,
        typer.Option(
            help="Age of snapshots that go, unless a decision rests on them; else LLM_PLATFORM_SNAPSHOT_DAYS."
        ),
    ] = None,
) -> None:
    """Merge the small files of this namespace's lake, and forget old snapshots once the catalog is copied."""
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    with WarehouseResource.of(settings).open() as lake:
        done = lake.compact(keep_days=settings.snapshot_days if keep_days is None else keep_days)
    console.print(done.line, markup=False)


@commands.command("dagster-home", hidden=True)
def print_dagster_home() -> None:
    """Prepare DAGSTER_HOME of the namespace and print it, for `export DAGSTER_HOME=$(llm-platform dagster-home)`."""
    from llm_platform.workbench.instance import prepared_dagster_home

    console.print(str(prepared_dagster_home(load_settings())))
