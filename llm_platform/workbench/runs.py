"""Runs of an application in this process: a job on Dagster's instance, its progress, and an account of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from llm_platform.definitions import build_definitions
from llm_platform.errors import EvidenceMissing, PermanentError
from llm_platform.evaluation.report import Report
from llm_platform.inference.engine import Progress as EngineProgress
from llm_platform.operations.evidence.evaluation import current_evaluation_id, present_report
from llm_platform.operations.release.rollout import evidence
from llm_platform.operations.releases import LoadedApplication, requesting
from llm_platform.records import Release, TokenUsage
from llm_platform.resources.handed import local_nim
from llm_platform.resources.progress import listener, training_listener
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore
from llm_platform.workbench.instance import recorded, require_idle

PLAIN_SECONDS = 20.0
"""Between two lines of progress where there is no terminal for a bar."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Checks:
    """Names of the asset checks of one run."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]


def fetch_weights(settings: Settings, loaded: LoadedApplication, *, console: Console) -> None:
    """Fetch the weights of embedded models ahead, since a first fetch takes as long as all the rest."""
    local = local_nim(settings)
    for entry in loaded.lock.values():
        if entry.mode == "embedded":
            with console.status(f"Model {entry.name}") as status:
                local.fetch(entry, lambda stage, detail: status.update(f"Model {entry.name}: {stage} {detail}"))  # noqa: B023


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
    with recorded(settings) as instance, bars(console):
        require_idle(instance, application)
        defs = build_definitions(settings)
        found = defs.resolve_job_def(job or application)
        keys = None if only is None else [dg.AssetKey([application, *name.split("/")]) for name in only]
        result = found.execute_in_process(
            instance=instance, asset_selection=keys, raise_on_error=False, run_config=QUIET, tags=dict(tags or {})
        )
    evaluations = result.get_asset_check_evaluations()
    named = [
        (f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}", evaluation.passed)
        for evaluation in evaluations
    ]
    if not result.success:
        raise PermanentError(_failure(result))
    return Checks(
        passed=tuple(name for name, passed in named if passed),
        failed=tuple(name for name, passed in named if not passed),
    )


def publish_now(settings: Settings, loaded: LoadedApplication, *, console: Console) -> None:
    """Let the published table follow a decision at once."""
    materialize(
        settings, loaded.application.name, console=console, only=["rollout", "completions_champion", "published"]
    )
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        print_summary(lake, loaded, settings, console=console, checks=None)


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """What failed and why, in the order in which it happened: what fails later often follows from what failed first."""
    lines = []
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.error and failure.error.cls_name == "DagsterExecutionInterruptedError":
                return "Interrupted. What had come back is stored; run it again to go on from there."
            reason = failure.user_failure_data.description if failure.user_failure_data else None
            lines.append(f"{event.step_key} failed: {reason or failure.error_display_string}")
    return "\n".join(lines) or f"Run {result.run_id} failed before any step; see its log in the Dagster UI."


@contextmanager
def bars(console: Console) -> Iterator[None]:
    """Progress bars for the assets that ask a model or train one, one each, while the block runs."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {}
        said = time.monotonic()

        def show(name: str, state: EngineProgress) -> None:
            nonlocal said
            speed = f"{state.tokens_per_second:,.0f} tokens/s"
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=state.total, speed="")
            progress.update(tasks[name], completed=state.done, total=state.total, speed=speed)
            if not console.is_terminal and time.monotonic() - said >= PLAIN_SECONDS:
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
            if not console.is_terminal and time.monotonic() - said >= PLAIN_SECONDS:
                said = time.monotonic()
                console.print(f"  {name}: step {event['step']} of {event['steps']}, {speed}")

        token, other = listener.set(show), training_listener.set(train)
        try:
            yield
        finally:
            listener.reset(token)
            training_listener.reset(other)


def print_summary(
    lake: Warehouse, loaded: LoadedApplication, settings: Settings, *, console: Console, checks: Checks | None
) -> None:
    """Say what there is: documents, answers, tokens, accuracy beside its baselines, and where to look."""
    application = loaded.application
    store = lake.application(application.name)
    counts, evaluation_id = store.documents.counts(), current_evaluation_id(store, loaded)
    console.print(f"\nDocuments   {sum(counts.values())}, {counts.get('sendable', 0)} can be sent")
    for variant in application.judged:
        release = loaded.release(variant, store)
        report = present_report(store, loaded, release, evaluation_id=evaluation_id) if release else None
        if release is None or report is None:
            waits = loaded.pending(variant, store) or "no report on the present documents and answers"
            console.print(f"{variant:<11} {waits}")
            continue
        usage = store.completions.usage(requesting(release).release_id)
        withheld = _withheld(store, loaded, variant, release, report)
        console.print(_variant_lines(variant, report, usage, withheld=withheld))
    champion = store.rollout.champion()
    if checks is not None:
        console.print(f"Checks      {len(checks.passed)} passed, {len(checks.failed)} failed")
        for name in checks.failed:
            console.print(f"            failed: {name}")
    folder = settings.cards_folder / application.name
    console.print(f"Report card {folder / 'card.html'}")
    if champion is None:
        console.print("Published   nothing: no variant passed its gates")
        return
    table = f"{application.name}.published_v{application.publish.contract}"
    rows = store.published.table(application.publish.contract).num_rows
    export = folder / f"published_v{application.publish.contract}.parquet"
    console.print(f"Published   {table}, {rows} rows by {champion.variant} (release {champion.release_id})")
    if waiting := _approved_beside(store, loaded, champion.release_id):
        console.print(
            f"            also approved: {waiting}; to publish it: llm-platform promote {application.name} {waiting}"
        )
    console.print(f"            as a file: {export}")
    keys = store.published.table(application.publish.contract)["document_id"].slice(0, 1).to_pylist()
    # Keys hold spaces and brackets: a shell and the console would read something else in them.
    explained = [f"llm-platform explain {application.name} {shlex.quote(key)}" for key in keys]
    steps = ["make dev", *explained, "llm-platform application new"]
    console.print(f"Next        {'   |   '.join(steps)}", markup=False)


def _approved_beside(store: ApplicationStore, loaded: LoadedApplication, published: str) -> str | None:
    """A variant whose present release is approved and is not what is published."""
    evaluation_id = current_evaluation_id(store, loaded)
    for variant in loaded.application.variants:
        release = loaded.release(variant, store)
        if release is None or release.release_id == published:
            continue
        with suppress(EvidenceMissing):
            evidence(store, loaded, variant, release=release, evaluation_id=evaluation_id)
            return variant
    return None


def _withheld(
    store: ApplicationStore, loaded: LoadedApplication, variant: str, release: Release, report: Report
) -> str | None:
    """Why a variant whose gates passed may not be published all the same, as `promote` would say; None if it may."""
    if report.standing != "approved":
        return None
    try:
        evidence(store, loaded, variant, release=release, evaluation_id=report.evaluation_id)
    except EvidenceMissing as error:
        return str(error)
    return None


def _variant_lines(variant: str, report: Report, usage: TokenUsage, *, withheld: str | None) -> str:
    standing = report.standing if withheld is None else "refused"
    verdict = {"approved": "[green]approved[/]", "refused": "[red]refused[/]"}.get(standing, "[yellow]undecided[/]")
    accuracy, valid = report.accuracy, report.valid_rate
    parts = [f"{variant:<11} {verdict}"]
    if accuracy is not None:
        parts.append(f"accuracy {accuracy.value:.3f} [{accuracy.lower:.3f}, {accuracy.upper:.3f}] of {accuracy.count}")
    if valid is not None:
        parts.append(f"valid {valid.value:.3f}")
    speed = report.effort.tokens_per_second
    parts.append(f"{usage.total:,} tokens" + (f" at {speed:,.0f}/s" if speed else ""))
    beside = []
    if report.baseline is not None and report.baseline.accuracy is not None:
        beside.append(f"{report.baseline.name} {report.baseline.accuracy.value:.3f}")
    if report.majority is not None:
        beside.append(f"majority class {report.majority.rate:.3f}")
    refused = [gate for gate in report.gates if not gate.passed]
    lines = [", ".join(parts)]
    if beside:
        lines.append(f"            beside it: {', '.join(beside)}")
    if withheld is not None:
        lines.append(f"            {withheld}")
    lines += [f"            {gate.name}, {gate.comparison}: {gate.next_step or gate.reason}" for gate in refused]
    return "\n".join(line.replace("[0", "\\[0") for line in lines)
