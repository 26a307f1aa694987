"""`llm-platform contract`: what readers of the published table are promised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.settings.settings import load_settings

if TYPE_CHECKING:
    from llm_platform.operations.release.contracts import ContractCheck
    from llm_platform.records.contracts import Contract

commands = typer.Typer(no_args_is_help=True, help="What readers of the published table are promised.")
Form = Literal["table", "json", "json-schema", "odcs"]


@commands.command("show")
def contract_show(
    application: ApplicationName,
    form: Annotated[Form, typer.Option("--format", help="As a table, or as a file for other tools.")] = "table",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show the contract that the files describe, in the version that it is published under."""
    from llm_platform.contracts.files import odcs_text, schema_text

    found = _check(application).tables.described.for_readers()
    if as_json or form == "json":
        typer.echo(found.model_dump_json(indent=2))
    elif form == "json-schema":
        typer.echo(schema_text(found), nl=False)
    elif form == "odcs":
        typer.echo(odcs_text(found), nl=False)
    else:
        _show(found)


@commands.command("check")
def contract_check(
    application: ApplicationName,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """Hold the files against what is published and against consumers' queries; exit status 1 if anybody breaks."""
    found = _check(application)
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    else:
        _tell(found)
    if not found.holds:
        raise typer.Exit(1)


def _check(name: str) -> ContractCheck:
    from llm_platform.operations.release.contracts import check_contract
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.warehouse.lake import NoLake

    settings = load_settings()
    loaded = application_named(settings, name)
    try:
        with WarehouseResource.of(settings).open(read_only=True) as lake:
            return check_contract(lake.application(name), loaded)
    except NoLake:
        return check_contract(None, loaded)


def _show(contract: Contract) -> None:
    console.print(f"{contract.application}.{contract.table}, contract {contract.version}", markup=False)
    promised = [
        f"owner {contract.owner or 'nobody'}",
        f"key {contract.key}",
        f"fresh within {contract.freshness_hours:g} hours" if contract.freshness_hours is not None else "",
        f"complete to {contract.completeness:g}" if contract.completeness is not None else "",
    ]
    console.print(", ".join(filter(None, promised)), markup=False)
    shown = new_table("column", "type", "promised", "meaning")
    for one in contract.columns:
        kept = [
            "never NULL beside an answer" if one.answered else "",
            f"one of {', '.join(one.values)}" if one.values else "",
            f"at most {one.max_length} characters" if one.max_length is not None else "",
            "deprecated" if one.deprecated else "",
            f"masked ({one.mask})" if one.mask is not None else "",
        ]
        shown.add_row(one.name, one.sql_type, "; ".join(filter(None, kept)), one.description)
    show(shown)


def _tell(found: ContractCheck) -> None:
    tables = found.tables
    described = tables.described
    before = tables.published.get(described.number)
    there = "nothing is published under that number yet" if before is None else f"{before.version} is published"
    console.print(f"{described.application}.{described.table}: {described.version} is described, {there}", markup=False)
    for change in tables.changed:
        console.print(f"  {change.kind}: {change.column or 'the table'} {change.text}", markup=False)
    for note in found.notes:
        console.print(f"  {note}", markup=False)
    if tables.broken is not None:
        console.print(f"breaks: {tables.broken}", markup=False, style="red")
    for one in found.breaks:
        console.print(f"breaks: {one}", markup=False, style="red")
    for variant, reasons in found.unfilled.items():
        console.print(f"breaks: {variant} could not be promoted: {'; '.join(reasons)}", markup=False, style="red")
    for text in found.unread:
        console.print(f"breaks: {text}", markup=False, style="red")
    if found.holds:
        console.print("Nobody breaks.")


def _as_json(found: ContractCheck) -> dict[str, Any]:
    tables = found.tables
    return {
        "application": tables.described.application,
        "holds": found.holds,
        "described": tables.described.version,
        "published": {one.table: one.version for one in tables.published.values()},
        "retired": [f"published_v{number}" for number in tables.retired],
        "broken": tables.broken,
        "changes": [{"column": one.column, "kind": one.kind, "text": one.text} for one in tables.changed],
        "breaks": [
            {"consumer": one.consumer, "query": one.query, "table": one.table, "column": one.column, "why": one.why}
            for one in found.breaks
        ],
        "unfilled": {variant: list(reasons) for variant, reasons in found.unfilled.items()},
        "unread": list(found.unread),
        "notes": list(found.notes),
    }
