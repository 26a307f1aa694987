"""`llm-platform review`: the page where people judge answers, and verdicts as files."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from llm_platform.cli.console import ApplicationName, application_named, applications_of, console
from llm_platform.errors import SpecificationError
from llm_platform.records import ReviewRole
from llm_platform.settings.login import login
from llm_platform.settings.settings import load_settings

PARENT_SECONDS = 1.0


class ServeByDefault(TyperGroup):
    """`llm-platform review [APPLICATION]` opens the page; the other commands have names."""

    default = "page"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the default command where none is given."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=ServeByDefault, help="The page where people judge answers; verdicts as files.")


@commands.command("page")
def serve(
    application: Annotated[str | None, typer.Argument(help="Name of an application; all of them if not given.")] = None,
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need people.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the web page.", min=0, max=65535)] = 8765,
    name: Annotated[
        str | None, typer.Option("--as", help="Who judges, on this machine; the user if not given.")
    ] = None,
    role: Annotated[str, typer.Option(help="viewer, reviewer or adjudicator, on this machine.")] = "reviewer",
    second_opinions: Annotated[
        float, typer.Option(help="Share of documents that two people judge.", min=0.0, max=1.0)
    ] = 0.2,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End with the process that started this one.")] = False,
) -> None:
    """Open the pages: where things stand, answers, cards, and where people judge. Without a name of a command, this is
    what `llm-platform review` does.

    Others than this machine's user need people with tokens, or a proxy that signs them in.
    """
    if with_parent:
        end_with_parent()
    from llm_platform.operations.reviewing.review_server import serve_review
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.review.people import access

    settings = load_settings()
    broken: dict[str, str] = {}
    if application is None:
        found = applications_of(settings)
        broken = {one.name: one.mistakes.splitlines()[0] for one in found.broken}
    chosen = found if application is None else {application: application_named(settings, application)}
    who = access(
        host=host,
        header=settings.review_identity_header,
        people_file=settings.review_people,
        local_name=name or login(),
        local_role=_role(role),
    )
    with WarehouseResource.of(settings).open() as lake, contextlib.suppress(KeyboardInterrupt):
        serve_review(
            lake, chosen, who, host=host, port=port, second_opinions=second_opinions,
            cards_folder=settings.cards_folder, progress_folder=settings.progress_folder,
            namespace=settings.namespace, broken=broken,
            ready=lambda url: console.print(f"Open {url} and stop with Ctrl-C."),
        )  # fmt: skip


@commands.command("compare")
def compare_releases(
    application: ApplicationName,
    a: Annotated[str, typer.Argument(help="A variant, `champion`, or the beginning of a release id.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
) -> None:
    """Say what the verdicts so far decide between two releases, on every text that both have answered."""
    from llm_platform.evaluation.wording import interval_text
    from llm_platform.operations.evidence.deciding import decided_so_far
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        found = decided_so_far(lake.application(application), loaded, (a, b))
    console.print(found.sentence, markup=False)
    for name, accuracy in ((a, found.labelled.accuracy_a), (b, found.labelled.accuracy_b)):
        if accuracy is not None:
            console.print(f"{name} is right on {interval_text(accuracy)} of all these texts.", markup=False)


@commands.command("export")
def export_verdicts(
    application: ApplicationName,
    to: Annotated[Path, typer.Argument(help="A .csv or .jsonl file.", dir_okay=False)],
    everything: Annotated[bool, typer.Option("--all", help="Also tags, notes, and what was taken back.")] = False,
) -> None:
    """Write verdicts to a file, which `review import` reads."""
    from llm_platform.files import write_text
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.review.files import written

    settings = load_settings()
    application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        annotations = lake.application(application).annotations
        rows: Sequence[dict[str, Any]] = (annotations.table() if everything else annotations.verdicts()).to_pylist()
    settings.require_encrypted(to, of="verdicts")
    WarehouseResource.of(settings).note_read(application, "review export", rows=len(rows))
    write_text(to, written(rows, to.suffix))
    console.print(f"Wrote {len(rows)} rows to {to}.")


@commands.command("import")
def import_verdicts(
    application: ApplicationName,
    file: Annotated[Path, typer.Argument(help="A .csv or .jsonl file with at least document_id and answer.")],
    name: Annotated[
        str | None, typer.Option("--by", help="Who judged, where a row does not say; the user if not given.")
    ] = None,
) -> None:
    """Read verdicts, tags and notes from a file; the same file twice adds nothing."""
    from llm_platform.operations.reviewing.review_files import import_annotations
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.review.files import Importing
    from llm_platform.review.people import read_people

    settings = load_settings()
    loaded = application_named(settings, application)
    people = read_people(settings.review_people) if settings.review_people is not None else {}
    user = login()
    importing = Importing(
        importer=user,
        by=name or user,
        at=datetime.now(UTC),
        roles={person.name: person.role for person in people.values()},
    )
    with WarehouseResource.of(settings).open() as lake:
        added, given = import_annotations(lake, loaded.application, file, importing=importing)
    console.print(
        f"{added} rows are new, {given - added} were there already. They are recorded as imported by "
        f"{importing.importer}, and never outrank what was decided on the page."
    )


@commands.command("token")
def make_token(
    name: Annotated[str, typer.Argument(help="The person; no spaces.")],
    role: Annotated[str, typer.Option(help="viewer, reviewer or adjudicator.")] = "reviewer",
) -> None:
    """Make a token for a person: the line for the people file, and the token, which is shown once."""
    from llm_platform.review.people import new_token, token_hash

    if not name.strip() or len(name.split()) != 1 or "#" in name:
        raise SpecificationError(f"Cannot name a person {name!r}: a name has no spaces and no '#'.")
    token = new_token()
    console.print(f"Line for the file that LLM_PLATFORM_REVIEW_PEOPLE names:\n{name} {_role(role)} {token_hash(token)}")
    console.print(f"Token for {name}; it is not stored anywhere:\n{token}")


def end_with_parent() -> None:
    """End this process when the one that started it has ended. In the main thread."""
    parent = os.getppid()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        # What the process that started this one ignores would be ignored here, too.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="llm-platform-parent", daemon=True).start()


def _role(text: str) -> ReviewRole:
    from llm_platform.review.people import ROLES

    found = next((role for role in ROLES if role == text), None)
    if found is None:
        raise SpecificationError(f"There is no role {text!r}. There are: {', '.join(ROLES)}.")
    return found
