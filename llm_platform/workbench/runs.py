"""Runs of an application in this process: a job on Dagster's instance, its progress, and an account of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.repository_definition.valid_definitions import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.workspace.load import location_origin_from_module_name
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from llm_platform.definitions import build
from llm_platform.defs.failures import UP_TO_DATE
from llm_platform.defs.measuring import checks_of, say_unmeasured
from llm_platform.defs.models import model_key
from llm_platform.defs.runs import FOLLOWED_TAG, finetune_job
from llm_platform.errors import EvidenceMissing, PermanentError, PlatformError, SpecificationError
from llm_platform.inference.engine import Progress as EngineProgress
from llm_platform.operations.releases import CHAMPION, LoadedApplication, champion_release
from llm_platform.resources.handed import local_nim
from llm_platform.resources.progress import listener, training_listener
from llm_platform.resources.warehouse import kept_open
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.workbench.instance import recorded, require_idle

PLAIN_SECONDS = 20.0
"""Between two lines of progress where there is no terminal for a bar."""
SHOWN = {".dagster/repository": "__repository__@llm_platform"}
"""Dagster's own: the code location of `workspace.yaml`, by which its pages find the runs of a job."""
LOCATION = "llm_platform"
STEPS = logging.getLogger("dagster._core.execution.plan.active")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Checks:
    """Names of the asset checks of one run.

    Attributes:
        unmeasured: Those that had nothing to measure: neither held nor failed.
    """

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        failure: What failed and why; None where nothing did.
    """

    run_id: str
    checks: Checks
    failure: str | None

    def require_success(self) -> Checks:
        """Its checks.

        Raises:
            PermanentError: a step failed.
        """
        if self.failure is not None:
            raise PermanentError(self.failure)
        return self.checks


def fetch_weights(settings: Settings, loaded: LoadedApplication, *, console: Console) -> None:
    """Fetch the weights of embedded models ahead, since a first fetch takes as long as all the rest.

    One that cannot be fetched is said here; what needs it fails by itself, and nothing else does.
    """
    local = local_nim(settings)
    for entry in loaded.lock.values():
        if entry.mode == "embedded":
            with console.status(f"Model {entry.name}") as status, _said(console):
                local.fetch(entry, lambda stage, detail: status.update(f"Model {entry.name}: {stage} {detail}"))  # noqa: B023


@contextmanager
def _said(console: Console) -> Iterator[None]:
    try:
        yield
    except PlatformError as error:
        console.print(str(error), markup=False)


def materialize(
    settings: Settings,
    application: str,
    *,
    console: Console,
    only: Sequence[str] | None = None,
    job: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Checks:
    """Run a job of the application, or a selection of its assets, in this process on the deployment's Dagster instance.

    Args:
        settings: Of the deployment.
        application: Its name is that of its main job, too.
        console: Where progress is shown.
        only: Assets by the rest of their key.
        job: One of its other jobs.
        tags: Of the run.

    Raises:
        LeaseHeld: another process of this machine is at it; nothing was started.
        PermanentError: a step failed.
        StorageError: Dagster's history cannot be written.
    """
    keys = None if only is None else [dg.AssetKey([application, *name.split("/")]) for name in only]
    return attempt(settings, application, console=console, only=keys, job=job, tags=tags).require_success()


def train(settings: Settings, application: str, *, console: Console) -> Checks:
    """Train the adapters of an application on the known answers as they are now, then answer with them and judge them.

    Raises:
        PermanentError: a step failed; nothing is judged that could not be trained.
    """
    tags = {FOLLOWED_TAG: "true"}
    materialize(settings, application, console=console, only=["documents", "references"])
    materialize(settings, application, console=console, job=finetune_job(application), tags=tags)
    return materialize(settings, application, console=console)


def attempt(
    settings: Settings,
    application: str,
    *,
    console: Console,
    only: Sequence[dg.AssetKey] | None = None,
    job: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Ended:
    """The same, whatever became of its steps: much of a run that failed may have been done.

    Args:
        only: Assets of the job; all if not given.

    Raises:
        LeaseHeld: another process of this machine is at it; nothing was started.
        SpecificationError: its files, or those of its team, make no graph.
        StorageError: Dagster's history cannot be written.
    """
    STEPS.addFilter(_is_news)
    with kept_open(), recorded(settings) as instance, bars(console):
        require_idle(instance, application)
        built = build(settings)
        if (why := built.broken.get(application)) is not None:
            raise SpecificationError(f"There is no graph of {application!r}. {why}")
        found = built.definitions.resolve_job_def(job or application)
        with shown_as(instance, found.name):
            by_name = job is not None and only is not None
            result = found.execute_in_process(
                instance=instance,
                asset_selection=None if only is None or by_name else list(only),
                op_selection=[key.to_python_identifier() for key in only or ()] if by_name else None,
                raise_on_error=False,
                run_config=QUIET,
                tags={**SHOWN, **(tags or {})},
            )
        if not result.success:
            say_unmeasured(instance, result.run_id)
        states = checks_of(instance, result.run_id)
    return Ended(result.run_id, _sorted(states), None if result.success else _failure(result))


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a check of a step that was skipped has no result: the closing lines count those."""
    return "emitted no result" not in record.getMessage()


def _sorted(states: Mapping[dg.AssetCheckKey, bool | None]) -> Checks:
    names: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for key, held in states.items():
        if key.name != UP_TO_DATE:
            names[held].append(f"{key.asset_key.to_user_string()}: {key.name}")
    return Checks(tuple(names[True]), tuple(names[False]), tuple(names[None]))


@contextmanager
def shown_as(instance: dg.DagsterInstance, job: str) -> Iterator[None]:
    """Runs that this process begins carry where their job is defined, as those that the pages start do.

    Without that, Dagster's timeline leaves them out. `execute_in_process` has no argument for it, and hands none on.
    """
    origin = RemoteJobOrigin(
        repository_origin=RemoteRepositoryOrigin(
            code_location_origin=location_origin_from_module_name(
                module_name="llm_platform.definitions", attribute=None, working_directory=None, location_name=LOCATION
            ),
            repository_name=SINGLETON_REPOSITORY_NAME,
        ),
        job_name=job,
    )
    given = instance.create_run_for_job
    instance.create_run_for_job = partial(given, remote_job_origin=origin)  # type: ignore[method-assign]
    try:
        yield
    finally:
        instance.create_run_for_job = given  # type: ignore[method-assign]


def steps_of(lake: Warehouse, loaded: LoadedApplication, only: str) -> list[dg.AssetKey]:
    """Assets that bring the champion's published answers up to date, or one variant's judged ones, and nothing else.

    Raises:
        SpecificationError: there is no such variant.
        EvidenceMissing: the champion is asked for, and nothing is published yet.
    """
    application = loaded.application
    names, entry = ["documents", f"completions_{only}"], None
    if only == CHAMPION:
        champion = champion_release(lake.application(application.name))
        if champion is None:
            raise EvidenceMissing(
                f"{application.name} has no champion yet. Run it without --only, or promote a variant."
            )
        entry = champion.model.entry
        names.append("published")
    elif only in application.recordings:
        names += ["scores", "report", *(["references"] if application.references is not None else [])]
    elif only in application.variants:
        variant = application.variants[only]
        entry = variant.model
        prompts = {variant.prompt, application.long_documents.prompt} - {None}
        judges = [name for name in loaded.judges if f"judge:{name}" in application.evaluation.scorers]
        names += [*(f"prompt_{name}" for name in prompts), *(f"judgements_{name}" for name in judges)]
        names += ["scores", "report", *(["references"] if application.references is not None else [])]
    else:
        raise SpecificationError(
            f"{application.name} has no variant {only!r}. There are: {', '.join([*application.judged, CHAMPION])}."
        )
    models = [model_key(entry)] if entry is not None and entry in loaded.lock else []
    return [*models, *(dg.AssetKey([application.name, name]) for name in names)]


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """What failed and why, in the order in which it happened: what fails later often follows from what failed first."""
    lines = []
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.error and failure.error.cls_name == "DagsterExecutionInterruptedError":
                return "Interrupted. What had come back is stored; run it again to go on from there."
            reason = failure.user_failure_data.description if failure.user_failure_data else None
            said = reason or failure.error_display_string
            # That of a check says of itself which assets it speaks of.
            lines.append(said if str(event.step_key).endswith(UP_TO_DATE) else f"{event.step_key} failed: {said}")
    return "\n".join(lines) or f"Run {result.run_id} failed before any step; see its log in the Dagster UI."


@contextmanager
def bars(console: Console) -> Iterator[None]:
    """Progress bars for the assets that ask a model or train one, one each, while the block runs."""
    # Asked now: inside a step, Dagster takes standard output into the step's log, which is no terminal.
    drawn = console.is_terminal
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not drawn) as progress:
        tasks = {}
        said = time.monotonic()

        def show(name: str, state: EngineProgress) -> None:
            nonlocal said
            speed = f"{state.tokens_per_second:,.0f} tokens/s"
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=state.total, speed="")
            progress.update(tasks[name], completed=state.done, total=state.total, speed=speed)
            if not drawn and time.monotonic() - said >= PLAIN_SECONDS:
                said = time.monotonic()
                console.print(f"  {name}: {state.done} of {state.total} texts, {speed}")

        def train(name: str, event: Mapping[str, Any]) -> None:
            nonlocal said
            if event["event"] != "step":
                return
            speed = f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=event["steps"], speed="")
            progress.update(tasks[name], completed=event["step"], total=event["steps"], speed=speed)
            if not drawn and time.monotonic() - said >= PLAIN_SECONDS:
                said = time.monotonic()
                console.print(f"  {name}: step {event['step']} of {event['steps']}, {speed}")

        token, other = listener.set(show), training_listener.set(train)
        try:
            yield
        finally:
            listener.reset(token)
            training_listener.reset(other)
