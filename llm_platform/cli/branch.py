"""`llm-platform branch`: namespaces that read another's tables, and what becomes of their answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from llm_platform.cli.console import applications_of, console, new_table, show
from llm_platform.cli.state import NAMESPACE, refuse_strangers
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import Settings, load_settings, namespace_name

if TYPE_CHECKING:
    from llm_platform.operations.release.branches import Branch
    from llm_platform.operations.release.merging import BranchDiff
    from llm_platform.operations.releases import LoadedApplication

commands = typer.Typer(no_args_is_help=True, help="Namespaces that read another's tables and write only their own.")

OfCluster = Annotated[
    Path | None,
    typer.Option("--cluster", help="Of a cluster: the folder that 'branch up --cluster' wrote, or one with several."),
]
OneApplication = Annotated[str | None, typer.Option("--application", help="One application; all of them if not given.")]


@commands.command("up")
def branch_up(
    name: Annotated[str, typer.Argument(help="Name of the new namespace.")],
    upstream: Annotated[
        str | None, typer.Option("--from", help="Namespace to read; the present one if not given.")
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", help="After so many days 'down --expired' takes it down.", min=0.0)
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option("--cluster", help="Folder for what makes and ends it in a cluster, to be applied.")
    ] = None,
) -> None:
    """Make a namespace that reads another's answers and champion, and writes only its own tables."""
    from llm_platform.operations.release.branches import make_branch

    settings = load_settings()
    ends = None if days is None else datetime.now(UTC) + timedelta(days=days)
    read = namespace_name(upstream or settings.namespace)
    if cluster is not None:
        _write_for_cluster(settings.in_namespace(read), namespace_name(name), cluster, ends)
        return
    branch = make_branch(settings.state, namespace_name(name), read, expires_at=ends)
    console.print(f"Namespace {branch} reads {read}. Use it with:")
    console.print(f"  export LLM_PLATFORM_NAMESPACE={branch}")


def _write_for_cluster(settings: Settings, name: str, folder: Path, ends: datetime | None) -> None:
    from llm_platform.operations.release.cluster_branches import write_cluster_branch
    from llm_platform.resources.handed import production_of

    place = write_cluster_branch(folder, name, production_of(settings), expires_at=ends)
    console.print(f"{folder} has what makes branch {name} of {settings.namespace} in a cluster, and what ends it:")
    console.print(f"  {folder}/up.sh", markup=False)
    console.print(
        f"  helm install {name.replace('_', '-')} CHART -n {place} -f PRODUCTION-VALUES -f CHART/profiles/branch.yaml "
        f"-f {folder}/values.yaml",
        markup=False,
    )
    console.print(f"  {folder}/down.sh", markup=False)


@commands.command("down")
def branch_down(
    name: Annotated[str | None, typer.Argument(help="Namespace to delete.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="All whose time is over.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    cluster: OfCluster = None,
) -> None:
    """Delete a namespace that `branch up` made: its catalog, data and Dagster history, wherever they are.

    With --cluster its pods, role, schemas and prefix of the bucket, too: by the folder's down.sh, which needs an
    administrator's CATALOG, kubectl and aws.
    """
    from llm_platform.operations.release.branches import remove_branch
    from llm_platform.operations.release.cluster_branches import end_cluster_branch
    from llm_platform.resources.handed import object_store
    from llm_platform.warehouse.lake import LakeLocation

    if (name is None) is not expired:
        raise SpecificationError("Name one branch, or give --expired for all whose time is over.")
    now, settings = datetime.now(UTC), load_settings()
    names = [one.name for one in _branches(settings.state, cluster) if one.is_expired(now)] if expired else []
    names = names if name is None else [namespace_name(name)]
    if names and not yes:
        typer.confirm(f"Delete everything of {', '.join(names)}?", abort=True)
    for one in names:
        if cluster is None:
            if (folder := settings.in_namespace(one).namespace_folder).is_dir():
                refuse_strangers(folder, NAMESPACE)
            lake = LakeLocation(*settings.in_namespace(one).location(one), s3=object_store(settings))
            remove_branch(settings.state, one, lake)
        else:
            end_cluster_branch(cluster, one)
        console.print(f"Namespace {one} is gone.")
    if not names:
        console.print("No branch's time is over.")


def _branches(state: Path, cluster: Path | None) -> list[Branch]:
    from llm_platform.operations.release.branches import list_branches
    from llm_platform.operations.release.cluster_branches import cluster_branches

    return list_branches(state) if cluster is None else cluster_branches(cluster)


@commands.command("list")
def branch_list(cluster: OfCluster = None) -> None:
    """The branches of this state folder: what they read, since when, until when, and what they take.

    With --cluster those whose files are in a folder, and their Kubernetes namespaces.
    """
    found, now = _branches(load_settings().state, cluster), datetime.now(UTC)
    if not found:
        console.print("There is no branch here. Make one: llm-platform branch up NAME")
        return
    table = new_table("branch", "reads", "since", "until", "MB" if cluster is None else "Kubernetes namespace")
    for one in found:
        until = "" if one.expires_at is None else f"{one.expires_at:%Y-%m-%d %H:%M}"
        until += " (over)" if one.is_expired(now) else ""
        since = "" if one.made_at is None else f"{one.made_at:%Y-%m-%d %H:%M}"
        table.add_row(one.name, one.upstream, since, until, one.place or f"{(one.bytes or 0) / 1e6:.1f}")
    show(table)


@commands.command("diff")
def branch_diff(
    name: Annotated[str, typer.Argument(help="A branch; it has been run.")],
    *,
    application: OneApplication = None,
    variant: Annotated[
        str | None, typer.Option(help="As if this variant were published; the branch's champion if not given.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Every published row that would change, by key.")] = False,
    answers: Annotated[bool, typer.Option("--answers", help="With the answers before and after.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a comment on a pull request.")] = False,
) -> None:
    """What a branch would change in what it reads: prompts, models, published rows, measurements, and its cost."""
    from llm_platform.operations.release import merging
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings().in_namespace(name)
    _read_by(settings)
    for loaded in _applications(settings, application):
        with WarehouseResource.of(settings).open() as lake:
            found = merging.branch_diff(lake.application(loaded.application.name), loaded, variant=variant)
        if answers and not markdown and found.rows.num_rows:
            noting = WarehouseResource.of(settings)
            noting.note_read(loaded.application.name, "branch diff --answers", rows=found.rows.num_rows)
        if markdown:
            typer.echo(_as_markdown(loaded.application.name, found))
        else:
            _show_diff(loaded.application.name, found, rows=rows or answers, answers=answers)


@commands.command("merge")
def branch_merge(
    name: Annotated[str, typer.Argument(help="A branch that has been run.")],
    application: OneApplication = None,
) -> None:
    """Make a branch's paid answers those of what it reads, once they are verified; nothing is promoted.

    The next run there, with the merged files, asks no model for what the branch was answered.
    """
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.release import merging
    from llm_platform.resources.warehouse import WarehouseResource

    of_branch = load_settings().in_namespace(name)
    into = of_branch.in_namespace(_read_by(of_branch)).model_copy(update={"upstream": of_branch.namespace})
    lock = load_lock(into.models_lock)
    for loaded in _applications(into, application):
        with WarehouseResource.of(into).open() as lake:
            done = merging.merge_branch(lake.application(loaded.application.name), lock, branch=of_branch.namespace)
        taken = {table: count for table, count in done.rows.items() if count}
        console.print(
            f"{loaded.application.name}: {taken.get('completions', 0)} answers of {of_branch.namespace} are now those "
            f"of {into.namespace}, with {taken.get('releases', 0)} releases."
        )
        for release, why in done.left.items():
            console.print(f"  release {release} stays on the branch: {why}.", markup=False)
    console.print(f"Next: merge the files, then run {into.namespace}: it asks nothing that the branch was answered.")


def _read_by(settings: Settings) -> str:
    upstream = settings.upstream_namespace
    if upstream is None or upstream == settings.namespace:
        raise SpecificationError(
            f"Namespace {settings.namespace!r} reads no other one, so it is no branch of this state folder (there are: "
            "llm-platform branch list). Of one that is made elsewhere on the same catalog, say what it reads in "
            "LLM_PLATFORM_UPSTREAM."
        )
    return upstream


def _applications(settings: Settings, application: str | None) -> list[LoadedApplication]:
    found = applications_of(settings)
    if application is not None:
        return [found.named(application)]
    return [found[one] for one in sorted(found)]


def _show_diff(name: str, found: BranchDiff, *, rows: bool, answers: bool) -> None:
    changed = found.rows.column("change").to_pylist()
    console.print(Text.assemble((name, "bold"), f": as release {found.release_id}"))
    for line in found.changes or ("no prompt, model or variant is another one",):
        console.print(f"  {line}", markup=False)
    counts = ", ".join(f"{changed.count(kind)} {kind}" for kind in ("inserted", "updated", "deleted"))
    console.print(f"  published rows that would change: {len(changed)} ({counts})")
    if found.other_documents:
        console.print(f"  {_moved(found.other_documents)}", markup=False)
    if found.measured:
        table = new_table("variant", "release", "standing", "accuracy", "labels", "valid")
        for one in found.measured:
            table.add_row(one.variant, one.release_id, one.standing, one.accuracy, str(one.labels), one.valid_rate)
        show(table)
    console.print(f"  upstream publishes: {found.upstream or 'nothing yet'}", markup=False)
    money = "" if found.cost_usd is None else f", {found.cost_usd:,.2f} USD"
    console.print(f"  paid on the branch: {found.usage.total:,} tokens{money}")
    if rows:
        shown = ("status", "answer") if answers else ("status",)
        table = new_table("document", "change", *(f"{one} {when}" for one in shown for when in ("before", "after")))
        for row in found.rows.to_pylist():
            values = (row[f"{one}_{when}"] for one in shown for when in ("before", "after"))
            table.add_row(row["document_id"], row["change"], *("" if value is None else str(value) for value in values))
        show(table)


def _moved(documents: int) -> str:
    return (
        f"Documents that are others upstream: {documents:,}. If it has read the source since, run the branch again for "
        "what would change now."
    )


# A judgement that more labels would decide is an answer; a red cross that comes and goes is not.
WORDS = {"approved": "better than every bound", "refused": "refused", "undecided": "inconclusive"}


def _as_markdown(name: str, found: BranchDiff) -> str:
    changed = found.rows.column("change").to_pylist()
    counts = ", ".join(f"{changed.count(kind)} {kind}" for kind in ("inserted", "updated", "deleted"))
    lines = [f"#### {name}", "", *(f"- {line}" for line in found.changes or ("nothing of the files is another one",))]
    lines += ["", f"Published rows that would change: **{len(changed)}** ({counts}).", ""]
    if found.other_documents:
        lines += [_moved(found.other_documents), ""]
    if found.measured:
        lines += [
            "| variant | release | standing | accuracy | labels | valid |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {one.variant} | `{one.release_id}` | {WORDS[one.standing]} | {one.accuracy} | {one.labels} | "
            f"{one.valid_rate} |"
            for one in found.measured
        ]
        lines += ["", *(f"- {one.variant}: {line}" for one in found.measured for line in one.open)]
    money = "" if found.cost_usd is None else f", {found.cost_usd:,.2f} USD"
    return "\n".join([*lines, "", f"Paid on the branch: {found.usage.total:,} tokens{money}.", ""])
