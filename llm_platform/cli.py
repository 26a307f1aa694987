"""The `llm-platform` command."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from llm_platform.errors import PlatformError, SpecificationError, StorageError
from llm_platform.settings import CHECKOUT, Settings, load_settings, namespace_name

if TYPE_CHECKING:
    from llm_platform.models.entries import LockEntry
    from llm_platform.operations.releases import Candidates

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run LLM applications as an asset graph: documents in, a checked and published table out.",
)
nim_app = typer.Typer(no_args_is_help=True, help="The embedded NIM: a small real model behind the NIM protocol.")
model_app = typer.Typer(no_args_is_help=True, help="Models of the lock file.")
application_app = typer.Typer(no_args_is_help=True, help="Applications: folders with an application.yaml.")
state_app = typer.Typer(no_args_is_help=True, help="The folder that holds all local state.")
branch_app = typer.Typer(no_args_is_help=True, help="Namespaces that read another's tables and write only their own.")
for name, group in {
    "nim": nim_app,
    "model": model_app,
    "application": application_app,
    "state": state_app,
    "branch": branch_app,
}.items():
    app.add_typer(group, name=name)

console = Console(highlight=False, soft_wrap=True)
ApplicationName = Annotated[str, typer.Argument(help="Name of an application; see: llm-platform application list")]
ModelName = Annotated[str, typer.Argument(help="Entry of models.lock.yaml; see: llm-platform model list")]


def main() -> None:
    """Run the command; an error raised on purpose ends with its message and exit status 1, without a traceback."""
    try:
        app()
    except PlatformError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {_plain(error)}")
        sys.exit(1)


def _plain(error: PlatformError) -> str:
    return str(error).replace("[", "\\[")


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(table: Table) -> None:
    # Read by another program, a row is one line, whatever its length.
    Console(highlight=False, width=None if console.is_terminal else 1000).print(table)


def _candidates(settings: Settings, name: str) -> Candidates:
    from llm_platform.operations.releases import candidates_of

    return candidates_of(settings, name)


@app.command()
def demo(
    documents: Annotated[int, typer.Option(help="How many documents to load.", min=20)] = 400,
    application: Annotated[str, typer.Option(help="A shipped application.")] = "movie_reviews",
) -> None:
    """Real documents through a real model to a published table, on this machine."""
    from llm_platform.demo import run_demo

    run_demo(load_settings(), application=application, documents=documents, console=console)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open Dagster's UI and daemon on this namespace, with sensors switched on."""
    from llm_platform.demo import dagster_home

    settings = load_settings()
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home(settings)), "LLM_PLATFORM_SENSORS": "1"}
    program = Path(sys.executable).with_name("dagster")
    arguments = ["dev", "--workspace", str(CHECKOUT / "workspace.yaml"), "--host", host, "--port", str(port)]
    console.print(f"Namespace {settings.namespace}. Open http://{host}:{port} and stop with Ctrl-C.")
    os.execve(program, [str(program), *arguments], environment)


@app.command("plan")
def show_plan(application: ApplicationName) -> None:
    """Say what is missing, and why, without doing it."""
    from llm_platform.operations.plan import plan
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    candidates = _candidates(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        steps = plan(lake, candidates)
    for step in steps:
        console.print(f"{step.asset}: {step.reason}")
    if not steps:
        console.print("Nothing to do.")


@app.command()
def run(application: ApplicationName) -> None:
    """Bring an application up to date: the same job that schedules and sensors start."""
    from llm_platform.demo import fetch_weights, materialize, print_summary
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    candidates = _candidates(settings, application)
    fetch_weights(settings, candidates, console=console)
    checks = materialize(settings, application, console=console)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        print_summary(lake, candidates, settings, console=console, checks=checks)


@app.command()
def compact(
    keep_days: Annotated[float, typer.Option(help="Older snapshots are forgotten: no time travel beyond this.")] = 30.0,
) -> None:
    """Merge the small files of this namespace's lake, and forget old snapshots."""
    from llm_platform.resources.warehouse import WarehouseResource

    with WarehouseResource.of(load_settings()).open() as lake:
        done = lake.compact(keep_days=keep_days)
    console.print(
        f"{done.files_before} files became {done.files_after}; {done.snapshots_expired} snapshots and "
        f"{done.files_deleted} files that nothing refers to are gone."
    )


@app.command()
def promote(
    application: ApplicationName,
    variant: Annotated[str, typer.Argument(help="A variant of application.yaml.")],
    note: Annotated[str, typer.Option(help="Why; kept with the decision.")] = "",
) -> None:
    """Let a variant serve the published table, if a report on exactly its release passed."""
    from llm_platform.demo import publish_now
    from llm_platform.operations.evaluation import current_evaluation_id
    from llm_platform.operations.rollout import promote as promote_release
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    candidates = _candidates(settings, application)
    if variant not in candidates.application.variants:
        raise SpecificationError(
            f"{application} has no variant {variant!r}. There are: {', '.join(candidates.application.variants)}."
        )
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        release = candidates.release(variant, store)
        if release is None:
            raise SpecificationError(
                f"{application}/{variant} has no calibration yet. First: llm-platform run {application}"
            )
        event = promote_release(
            store,
            candidates.application,
            variant,
            release=release,
            evaluation_id=current_evaluation_id(store, candidates.application),
            by=getpass.getuser(),
            note=note,
        )
    console.print(f"{variant} (release {event.release_id}) serves from now on.")
    publish_now(settings, candidates, console=console)


@app.command()
def rollback(
    application: ApplicationName, note: Annotated[str, typer.Option(help="Why; kept with the decision.")] = ""
) -> None:
    """Let the release that served before serve again."""
    from llm_platform.demo import publish_now
    from llm_platform.operations.rollout import rollback as roll_back
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    candidates = _candidates(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        event = roll_back(lake.application(application), candidates.application, by=getpass.getuser(), note=note)
    console.print(f"{event.variant} (release {event.release_id}) serves again.")
    publish_now(settings, candidates, console=console)


@app.command()
def explain(
    application: ApplicationName,
    document_id: Annotated[str, typer.Argument(help="Key of a document.")],
    texts: Annotated[
        bool, typer.Option("--texts", help="Show the document, the prompt and the answer as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the chain from a published row to prompt, model pin, run, snapshots and commit."""
    from llm_platform.operations.explain import explain_document
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    candidates = _candidates(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        chain = explain_document(lake, candidates.application, document_id, texts=texts)
    if as_json:
        console.print_json(json.dumps(chain, default=str))
        return
    for section, values in chain.items():
        console.print(f"[bold]{section}[/]")
        for key, value in values.items():
            console.print(f"  {key}: {value}", markup=False)


@nim_app.command("serve")
def nim_serve(
    model: Annotated[str, typer.Argument(help="An embedded entry of models.lock.yaml.")] = "smollm2-135m",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; the port that NIM uses if not given.")] = 8000,
) -> None:
    """Serve a model in the foreground, NIM's endpoints on a port of your choice."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.daemon import serve
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    entry = _entry(load_lock(settings.models_lock), model)
    local = replace(LocalNim.of(settings), idle_seconds=0)
    weights = local.fetch(entry, lambda stage, detail: console.print(f"{stage} {detail}"))
    serve(local.config(entry, weights), host=host, port=port)


@nim_app.command("status")
def nim_status() -> None:
    """Say which embedded NIMs of the state folder run."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.process import status
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    local = LocalNim.of(settings)
    for name, entry in load_lock(settings.models_lock).items():
        if entry.mode == "embedded":
            running = status(local.config(entry, local.path(entry)), state=settings.state)
            console.print(f"{name}: {f'{running.base_url}, process {running.pid}' if running else 'not running'}")


@nim_app.command("stop")
def nim_stop(model: ModelName) -> None:
    """Stop the embedded NIM of a model."""
    from llm_platform.models.lock import load_lock
    from llm_platform.nim_local.process import stop
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    entry = _entry(load_lock(settings.models_lock), model)
    local = LocalNim.of(settings)
    stopped = stop(local.config(entry, local.path(entry)), state=settings.state)
    console.print(f"{model}: {'stopped' if stopped else 'was not running'}")


@model_app.command("fetch")
def model_fetch(model: Annotated[str, typer.Argument(help="An embedded entry.")] = "smollm2-135m") -> None:
    """Fetch and verify the weights of an embedded model."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.endpoints import LocalNim

    settings = load_settings()
    entry = _entry(load_lock(settings.models_lock), model)
    path = LocalNim.of(settings).fetch(entry, lambda stage, detail: console.print(f"{stage} {detail}"))
    console.print(str(path))


@model_app.command("list")
def model_list() -> None:
    """List the models of the lock file and what they are pinned to."""
    from llm_platform.models.lock import load_lock

    table = _table("name", "mode", "dialect", "pinned to", "context", "licence")
    for name, entry in load_lock(load_settings().models_lock).items():
        weights = f"weights {entry.weights.sha256[:12]}…" if entry.weights else "nothing"
        pinned = entry.image.reference if entry.image else weights
        table.add_row(name, entry.mode, entry.dialect, pinned, str(entry.context_length), entry.licence)
    _show(table)


@application_app.command("list")
def application_list() -> None:
    """List applications, their tasks and variants."""
    from llm_platform.operations.releases import load_applications

    table = _table("name", "task", "source", "variants", "folder")
    for name, candidates in load_applications(load_settings()).items():
        spec = candidates.application
        table.add_row(name, spec.task, spec.source.address, ", ".join(spec.variants), str(spec.folder))
    _show(table)


@application_app.command("check")
def application_check(
    folder: Annotated[Path | None, typer.Argument(help="One application's folder; all of them if not given.")] = None,
) -> None:
    """Read specifications and prompts, and report every mistake with file and line."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.releases import load_candidates

    settings = load_settings()
    folders = (folder.resolve(),) if folder else settings.application_folders
    found = load_candidates(folders, load_lock(settings.models_lock))
    for name, candidates in found.items():
        console.print(f"{name}: {len(candidates.application.variants)} variants, no mistakes")
    if not found:
        raise SpecificationError(f"No application.yaml in {', '.join(map(str, folders))}.")


@application_app.command("new")
def application_new(
    name: Annotated[str, typer.Argument(help="Name: small letters, digits and underscores.")],
    *,
    source: Annotated[str, typer.Option(help="CSV, Parquet or JSONL file, or warehouse.table.")],
    folder: Annotated[Path, typer.Option(help="Where the application's folder is made.")] = Path("applications"),
    task: Annotated[str, typer.Option(help="classify, extract or generate.")] = "classify",
    labels: Annotated[str, typer.Option(help="Labels, separated by commas; for classify.")] = "",
    key: Annotated[str | None, typer.Option(help="Column that names a document.")] = None,
    text: Annotated[str | None, typer.Option(help="Column that holds the text.")] = None,
    answer: Annotated[str | None, typer.Option(help="Column that holds the known answer.")] = None,
    model: Annotated[str, typer.Option(help="Entry of models.lock.yaml.")] = "smollm2-135m",
) -> None:
    """Write a working application folder for a table of documents."""
    from llm_platform.scaffold import new_application

    wanted = tuple(label.strip() for label in labels.split(",") if label.strip())
    path = new_application(
        name, source, folder, task=task, labels=wanted, key=key, text=text, answer=answer, model=model
    )
    console.print(f"Wrote {path}. Next:")
    console.print(f"  export LLM_PLATFORM_APPLICATIONS={folder.resolve()}")
    console.print(f"  llm-platform application check && llm-platform run {name}")


@state_app.command("path")
def state_path() -> None:
    """Print the state folder."""
    console.print(str(load_settings().state))


@state_app.command("reset")
def state_reset(
    everything: Annotated[
        bool, typer.Option("--all", help="All namespaces, the sample tables and the weights.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the state of this namespace, or of all of them. What is deleted cannot be brought back."""
    settings = load_settings()
    target = settings.state if everything else settings.namespace_folder
    if not target.exists():
        console.print(f"{target} does not exist; nothing to delete.")
        return
    if not yes:
        typer.confirm(f"Delete {target}?", abort=True)
    try:
        shutil.rmtree(target)
    except OSError as error:
        raise StorageError(f"Cannot delete {target}: {error.strerror}.") from error
    console.print(f"Deleted {target}.")


@branch_app.command("up")
def branch_up(
    name: Annotated[str, typer.Argument(help="Name of the new namespace.")],
    upstream: Annotated[
        str | None, typer.Option("--from", help="Namespace to read; the present one if not given.")
    ] = None,
) -> None:
    """Make a namespace that reads another's answers and champion, and writes only its own tables."""
    from llm_platform.operations.branches import make_branch

    settings = load_settings()
    branch = make_branch(settings.state, namespace_name(name), namespace_name(upstream or settings.namespace))
    console.print(f"Namespace {branch} reads {namespace_name(upstream or settings.namespace)}. Use it with:")
    console.print(f"  export LLM_PLATFORM_NAMESPACE={branch}")


@branch_app.command("down")
def branch_down(
    name: Annotated[str, typer.Argument(help="Namespace to delete.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a namespace that `branch up` made: its catalog, data and Dagster history."""
    from llm_platform.operations.branches import remove_branch

    settings = load_settings()
    if not yes:
        typer.confirm(f"Delete everything of namespace {namespace_name(name)}?", abort=True)
    remove_branch(settings.state, namespace_name(name))
    console.print(f"Namespace {namespace_name(name)} is gone.")


@app.command("dagster-home", hidden=True)
def print_dagster_home() -> None:
    """Prepare DAGSTER_HOME of the namespace and print it, for `export DAGSTER_HOME=$(llm-platform dagster-home)`."""
    from llm_platform.demo import dagster_home

    console.print(str(dagster_home(load_settings())))


def _entry(lock: Mapping[str, LockEntry], name: str) -> LockEntry:
    if name not in lock:
        raise SpecificationError(f"models.lock.yaml has no entry {name!r}. There are: {', '.join(lock)}.")
    return lock[name]
