"""Commands that divide the work on one application: `answer` in a further process, `backfill` in many runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import ApplicationName, application_named, console
from llm_platform.errors import PermanentError, SpecificationError
from llm_platform.settings.settings import SHIPPED, Settings, load_settings

if TYPE_CHECKING:
    from llm_platform.inference.engine import Progress
    from llm_platform.operations.releases import LoadedApplication

commands = typer.Typer()

BucketsOption = Annotated[
    str | None, typer.Option("--buckets", help="Only documents in these buckets, e.g. 0-7,12; all if not given.")
]


@commands.command("answer")
def answer_command(
    application: ApplicationName,
    variant: Annotated[str | None, typer.Argument(help="Only this variant, or `champion`.")] = None,
    buckets: BucketsOption = None,
) -> None:
    """Answer documents in a further process, here or on another machine, beside others at work on the application.

    Documents are divided by themselves, and none is sent twice. Reading the source, scores and publishing are left to
    `run`.
    """
    settings = load_settings()
    share_work(settings, application_named(settings, application), variant=variant, buckets=_numbers(buckets))


def share_work(
    settings: Settings,
    loaded: LoadedApplication,
    *,
    variant: str | None = None,
    buckets: Sequence[int] | None = None,
) -> None:
    """Answer a share of the documents, with progress, and say what was done and what others hold.

    Raises:
        PermanentError: it was interrupted; what had come back is stored.
    """
    from llm_platform.resources.progress import listener
    from llm_platform.workbench.answering import answer_beside
    from llm_platform.workbench.runs import bars

    name = loaded.application.name

    def show(of: str, progress: Progress) -> None:
        if (bar := listener.get()) is not None:
            bar(f"{name}/{of}", progress)

    with bars(console), _terminated_as_interrupted():
        for done in answer_beside(settings, loaded, on_progress=show, variant=variant, buckets=buckets):
            run = done.sent.run
            console.print(f"{done.variant}: {run.stored if run else 0} answers stored")
            if done.sent.left:
                console.print(f"  {done.sent.left} documents are left to {'; '.join(done.sent.holders)}", markup=False)


@commands.command("backfill")
def backfill_command(
    application: ApplicationName,
    buckets: BucketsOption = None,
    follow: Annotated[bool, typer.Option(help="Wait until all its runs have ended.")] = True,
) -> None:
    """Read the source, then answer all variants' documents in many runs of Dagster, one a bucket; other runs go first.

    Needs Dagster's daemon, which starts them: `llm-platform dev` here, the deployment's own in a cluster.
    """
    from llm_platform.defs.completion_buckets import bucket_names
    from llm_platform.defs.runs import backfill_job
    from llm_platform.operations.answering.documents import update_documents
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.workbench.instance import prepared_dagster_home

    settings = load_settings()
    loaded = application_named(settings, application)
    count = loaded.application.documents.buckets
    wanted = _numbers(buckets)
    if wanted is not None and max(wanted) >= count:
        raise SpecificationError(f"{application} has buckets 0 to {count - 1}, and no {max(wanted)}.")
    names = bucket_names(count)
    partitions = names if wanted is None else [names[bucket] for bucket in wanted]
    with WarehouseResource.of(settings).open() as lake:
        update_documents(lake, loaded)
    mark = uuid.uuid4().hex[:12]
    arguments = ["job", "backfill", "--workspace", str(SHIPPED / "workspace.yaml"), "--job", backfill_job(application)]
    arguments += ["--partitions", ",".join(partitions), "--noprompt", "--tags", json.dumps({MARK_TAG: mark})]
    environment = {**os.environ, "DAGSTER_HOME": str(prepared_dagster_home(settings))}
    program = Path(sys.executable).with_name("dagster")
    asked = subprocess.run(
        [program, *arguments], env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if asked.returncode:
        raise PermanentError(f"Dagster did not take the backfill of {application}:\n{asked.stdout.strip()[-2000:]}")
    console.print(f"{len(partitions)} runs of {backfill_job(application)} are in the queue.")
    if follow:
        _follow(settings, application, mark)


MARK_TAG = "llm_platform/backfill"


def _follow(settings: Settings, application: str, mark: str) -> None:
    from llm_platform.workbench.instance import follow_runs

    ended = follow_runs(settings, {MARK_TAG: mark}, console=console)
    failed = [run for run, succeeded in ended.items() if not succeeded]
    if failed:
        raise PermanentError(
            f"{len(failed)} of {len(ended)} runs did not succeed, the first is {failed[0]}: see its log in Dagster's "
            f"UI. What came back is stored; ask again with: llm-platform backfill {application}"
        )
    console.print(f"All {len(ended)} runs succeeded. To score and publish: llm-platform run {application}")


def _numbers(text: str | None) -> list[int] | None:
    """`0-2,7` as numbers."""
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise SpecificationError(f"--buckets {text!r} is not a list of numbers and ranges like 0-7,12.")
        found.update(range(int(first), int(last or first) + 1))
    if not found:
        raise SpecificationError(f"--buckets {text!r} names no bucket; a range begins with its smaller number.")
    return sorted(found)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A termination ends the block like Ctrl-C: in order, within seconds, with everything stored that came back."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        raise PermanentError("Interrupted. What had come back is stored; run it again to go on from there.") from error
    finally:
        signal.signal(signal.SIGTERM, before)
