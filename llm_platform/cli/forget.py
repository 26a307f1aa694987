"""`llm-platform forget`, and certificates of what was forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import (
    ApplicationName,
    application_named,
    applications_of,
    console,
    new_table,
    show,
)
from llm_platform.errors import SpecificationError
from llm_platform.settings.login import login
from llm_platform.settings.settings import load_settings
from llm_platform.tables.forms import one_form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_platform.operations.privacy.forgetting import Forgotten
    from llm_platform.records import Traces

SHOWN = 5
"""Places of keys that an error names."""

commands = typer.Typer()
certificates = typer.Typer(no_args_is_help=True, help="Certificates of what was forgotten.")


@commands.command("forget")
def forget(
    application: ApplicationName,
    document_ids: Annotated[list[str] | None, typer.Argument(help="Keys of documents.", show_default=False)] = None,
    *,
    file: Annotated[
        Path | None, typer.Option(help="File with a key a line: unlike arguments, it is in no list of processes.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the certificate; it must not say whose text it was.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is, and change nothing.")] = False,
    absent: Annotated[
        bool, typer.Option("--absent", help="Also where there is nothing of them: they are barred from coming in.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget documents and all that was made of them, in every namespace, down to the bytes; ends with a certificate.

    Without keys it finishes what an earlier call began. What is forgotten cannot be brought back, and past snapshots
    of the tables cannot be read afterwards.
    """
    from llm_platform.resources.forgetting import forgetting
    from llm_platform.resources.handed import places_of
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    # In the form that documents' keys have.
    keys = [one_form(key) for key in (*(document_ids or ()), *_lines(file))]
    loaded = application_named(settings, application).application
    work = forgetting(WarehouseResource.of(settings), copies=lambda _, namespace: places_of(loaded, namespace))
    found = work.look(application, keys) if keys else {}
    if dry_run:
        _show(found)
        console.print("Nothing was changed.")
        return
    # A certificate says of each of them that it is forgotten; a slip of one key must not pass among the others.
    if keys and not absent and (unknown := work.unknown(application, keys)):
        places = ", ".join(str(keys.index(one) + 1) for one in unknown[:SHOWN])
        raise SpecificationError(
            f"There is nothing of {len(unknown)} of these {len(keys)} documents of {application} in any namespace "
            f"({', '.join(found)}): number {places}{', …' if len(unknown) > SHOWN else ''} as they were named. Nothing "
            "was forgotten. Check the keys; they are case-sensitive. To bar them from ever coming in all the same, add "
            "--absent."
        )
    if keys:
        if not yes:
            typer.confirm(f"Forget {len(keys)} documents of {application}, for ever?", abort=True)
        work.ask(application, keys, by=login(), reason=reason)
    done = work.finish(application)
    if not done:
        console.print("There is nothing to forget.")
    for one in done:
        _show(one.request.found or {})
        console.print(f"{len(one.request.document_ids)} documents are forgotten, by request {one.request.request_id}.")
        for name, why in one.statement["predicate"]["not_reached"].items():
            console.print(f"  not reached: {name}: {why}", markup=False)
        console.print(f"Certificate: {one.path}", markup=False)


@commands.command("retention")
def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
) -> None:
    """Let go of what is older than `retention.days` of the applications and LLM_PLATFORM_RETENTION_DAYS keep it."""
    from datetime import UTC, datetime

    from llm_platform.operations.privacy.retention import KEPT_FOR_AUDIT, let_go, outdated
    from llm_platform.resources.dagster_history import forget_runs
    from llm_platform.resources.forgetting import forgetting
    from llm_platform.resources.handed import places_of
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.instance import recorded

    settings = load_settings()
    warehouse = WarehouseResource.of(settings)
    applications = [one.application for one in applications_of(settings).values()]
    now = datetime.now(UTC)
    with warehouse.open() as lake:
        done: list[Forgotten] = []
        if dry_run:
            found = outdated(lake, applications, settings.retention_days, now=now)
        else:
            known = {one.name: one for one in applications}
            work = forgetting(warehouse, copies=lambda name, namespace: places_of(known[name], namespace))
            found, done = let_go(lake, applications, settings.retention_days, forgetting=work, now=now)
    table = new_table("table", "rows that go" if dry_run else "rows that went")
    for name, count in found.rows.items():
        table.add_row(name, str(count))
    with recorded(settings) as instance:
        runs = forget_runs(instance, days=settings.retention_days["events"], now=now, dry_run=dry_run)
    table.add_row("runs of Dagster with their events", str(runs))
    show(table)
    for one in done:
        console.print(f"Certificate: {one.path}", markup=False)
    console.print(f"Kept for audits: {KEPT_FOR_AUDIT}." + (" Nothing was changed." if dry_run else ""), markup=False)


@certificates.command("verify")
def verify(
    certificate: Annotated[Path, typer.Argument(help="File of a certificate.")],
    key: Annotated[Path, typer.Option("--key", help="Public key (PEM) of who signed it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the statement as JSON.")] = False,
) -> None:
    """Verify a certificate offline, and say what it states; any changed byte is refused."""
    from llm_platform.signing.keys import verified

    statement = verified(_read(certificate), _read(key))
    if as_json:
        console.print_json(json.dumps(statement))
        return
    stated = statement.get("predicate", {})
    console.print(
        f"The signature holds. {stated.get('documents')} documents of {stated.get('application')} were forgotten, "
        f"asked by {stated.get('asked_by')} at {stated.get('asked_at')}, finished at {stated.get('finished_at')}.",
        markup=False,
    )


@certificates.command("key")
def public_key() -> None:
    """Print the public key by which this deployment's certificates are verified."""
    from llm_platform.signing.keys import signing_key

    console.print(signing_key(load_settings().signing_key_file).public_pem, end="")


def _lines(file: Path | None) -> list[str]:
    # A key may hold what Python takes for the end of a line, such as U+2028: its halves may be keys of others.
    return [] if file is None else [line for line in _read(file).replace("\r\n", "\n").split("\n") if line]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SpecificationError(f"Cannot read {str(path)!r}: {why}.") from None


def _show(found: Mapping[str, Traces]) -> None:
    table = new_table("namespace", "table", "rows about them", "other rows")
    for namespace, traces in found.items():
        for name, one in traces.tables.items():
            if one.found:
                table.add_row(namespace, name, str(one.found), str(one.kept))
    show(table)
    for namespace, traces in found.items():
        for adapter in traces.adapters:
            console.print(
                f"{namespace}: adapter {adapter} was trained on them. It may not be promoted until it is retrained, or "
                f"accepted: llm-platform adapter accept APP {adapter} --because …",
                markup=False,
            )
        for release in traces.releases:
            console.print(
                f"{namespace}: release {release} showed them as examples; it may not be promoted.", markup=False
            )
