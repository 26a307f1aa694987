"""Commands on documents that have no valid answer: which and why, and asking again."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from typing import Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.settings.settings import load_settings

MOST_REASONS = 20
"""For which documents cannot be sent; each may have its own."""
commands = typer.Typer()

VariantOption = Annotated[str | None, typer.Option("--variant", help="Only this variant, or `champion`.")]
StatusOption = Annotated[
    list[str] | None,
    typer.Option("--status", help="Only this one: rejected, failed, invalid or truncated. May be given several times."),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only those whose reason holds this text.")]


@commands.command("failures")
def show_failures(
    application: ApplicationName,
    variant: VariantOption = None,
    status: StatusOption = None,
    reason: ReasonOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the documents that have no valid answer, and why; and why others cannot be sent."""
    from llm_platform.operations.evidence.failures import stored_failures, unanswered
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.warehouse.failures import by_kind

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        found = stored_failures(
            lake.application(application), loaded, variant=variant, statuses=status or (), reason=reason
        )
        waiting = {} if as_json else unanswered(lake.application(application), found)
        not_sent = (
            [] if as_json or status or reason else lake.application(application).documents.not_sendable(MOST_REASONS)
        )
    if as_json:
        rows = [{"variant": one.name, **asdict(failure)} for one in found for failure in one.failures]
        console.print_json(json.dumps(rows, default=str))
        return
    for name, count in waiting.items():
        console.print(f"{name}: {count} texts have not been answered yet: llm-platform run {application}", markup=False)
    for kind, why, count, first in not_sent:
        console.print(f"cannot be sent: {count} {kind} (first: {first!r}): {why}", markup=False)
    if not any(one.failures for one in found):
        chosen = " of this kind" if status or reason else ""
        console.print(f"No answer that is stored{chosen} is a failure.")
        return
    table = new_table("variant", "document", "status", "requests", "reason")
    for one in found:
        for failure in one.failures:
            table.add_row(one.name, failure.document_id, failure.status, str(failure.attempts), failure.reason)
    show(table)
    for one in found:
        for kind, why, count in by_kind((each.status, each.reason, 1) for each in one.failures):
            console.print(f"{one.name}: {count} {kind}: {why}", markup=False)
    console.print(f"To ask them again: llm-platform retry {application} [--status …] [--reason …]", markup=False)


@commands.command("retry")
def retry_failures(
    application: ApplicationName,
    variant: VariantOption = None,
    status: StatusOption = None,
    reason: ReasonOption = None,
) -> None:
    """Ask again about documents that have no valid answer, once what refused or failed them is mended.

    Their rows leave the ledger and are kept in the table `retried_completions`. Scores and publishing are left to
    `run`, which also asks again what is missing when this is interrupted.
    """
    from llm_platform.cli.answering import share_work
    from llm_platform.operations.evidence.failures import ask_again, stored_failures
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application)
        found = stored_failures(store, loaded, variant=variant, statuses=status or (), reason=reason)
        retried = ask_again(
            store, found, journals=settings.namespace_folder / "journal", holder=f"retry-{uuid.uuid4().hex}"
        )
    for one in retried:
        if one.documents:
            what = "verdicts are asked again by the next run" if one.is_judge else "documents are asked again"
            console.print(f"{one.name}: {one.documents} {what}", markup=False)
        if one.upstream:
            console.print(
                f"{one.name}: {one.upstream} failures are of the namespace upstream; retry them there", markup=False
            )
    if not any(one.documents for one in retried):
        console.print("There is nothing to ask again.")
        return
    if any(one.documents and not one.is_judge for one in retried):
        share_work(settings, loaded, variant=variant)
    console.print(f"To score and publish: llm-platform run {application}", markup=False)
