"""`llm-platform serve`: answers for callers that have one document now."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Annotated

import typer

from llm_platform.cli.console import applications_of, console
from llm_platform.cli.review import ServeByDefault
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import load_settings


class AnswerByDefault(ServeByDefault):
    """`llm-platform serve [APPLICATION …]` answers; the other command has a name."""

    default = "run"


commands = typer.Typer(cls=AnswerByDefault, help="Answers for callers that have one document now.")


@commands.command("run")
def serve(
    applications: Annotated[
        list[str] | None, typer.Argument(help="Names of applications; all of them if not given.")
    ] = None,
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need callers with tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the service.", min=0, max=65535)] = 8080,
) -> None:
    """Answer documents one by one over HTTP. Without a name of a command, this is what `llm-platform serve` does."""
    from llm_platform.online.callers import callers_for
    from llm_platform.operations.online.server import serve_online
    from llm_platform.operations.releases import loaded_application
    from llm_platform.resources.asking import asking_online
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    callers = callers_for(host, settings.serve_callers)
    chosen = applications or list(applications_of(settings))
    if not chosen:
        raise SpecificationError("There is no application to serve. See: llm-platform application check")
    files = settings.application_files
    loading = {name: partial(loaded_application, *files, name) for name in dict.fromkeys(chosen)}
    with contextlib.suppress(KeyboardInterrupt):
        serve_online(
            WarehouseResource.of(settings).open,
            loading,
            callers,
            host=host,
            port=port,
            journals=settings.namespace_folder / "journal",
            asking_of=lambda _: partial(asking_online, settings),
            deadline_seconds=settings.serve_deadline_seconds,
            most_queued=settings.serve_queue,
            ready=lambda url: console.print(f"Answering at {url}; stop with Ctrl-C."),
        )


@commands.command("token")
def make_token(
    name: Annotated[str, typer.Argument(help="The caller; no spaces.")],
    applications: Annotated[
        str, typer.Option(help="Applications that it may ask, joined by ','; * for all, metrics for those.")
    ] = "*",
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests in a minute.")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="Requests that may be open together.")] = None,
) -> None:
    """Make a token for a caller: the line for the file of callers, and the token, which is shown once."""
    from llm_platform.web.tokens import new_token, token_hash

    if not name.strip() or len(name.split()) != 1 or "#" in name:
        raise SpecificationError(f"Cannot name a caller {name!r}: a name has no spaces and no '#'.")
    if len(applications.split()) != 1 or "#" in applications or not all(applications.split(",")):
        raise SpecificationError(f"Cannot read the applications {applications!r}: names are joined by ',' alone.")
    token = new_token()
    limits = "".join(
        f" {limit}={value}" for limit, value in (("per_minute", per_minute), ("at_once", at_once)) if value is not None
    )
    console.print(
        f"Line for the file that LLM_PLATFORM_SERVE_CALLERS names:\n{name} {applications} {token_hash(token)}{limits}",
        markup=False,
    )
    console.print(f"Token for {name}; it is not stored anywhere:\n{token}", markup=False)
