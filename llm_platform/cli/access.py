"""`llm-platform access`: who looked at texts, and who decided what is published."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Who looked at texts, and who decided.")


@commands.command("log")
def access_log(
    application: ApplicationName,
    document: Annotated[str | None, typer.Option(help="Only looks at this document, by its key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List who looked at texts by the platform's own ways, and who decided what; oldest first.

    With a document, its own looks and those at whole tables, which may have held it.
    """
    from llm_platform.operations.privacy.decisions import access_decisions
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    application_named(settings, application)
    with WarehouseResource.of(settings).alone(read_only=True) as lake:
        store = lake.application(application)
        rows = store.reads.table(document_id=document).to_pylist()
        entries = [{"at": row["at"], "by": row["by"], "what": row["way"], "rows": row["rows"]} for row in rows]
        if document is None:
            entries += [{"at": one.at, "by": one.by, "what": one.what, "rows": None} for one in access_decisions(store)]
    entries.sort(key=lambda entry: entry["at"])
    if as_json:
        console.print_json(json.dumps(entries, default=str))
        return
    table = new_table("at", "by", "what", "rows")
    for entry in entries:
        count = entry["rows"]
        table.add_row(
            f"{entry['at']:%Y-%m-%d %H:%M:%S}", entry["by"], entry["what"], "" if count is None else str(count)
        )
    show(table)
