"""What a run ends with at a terminal: what there is, how good it is, what readers get, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from contextlib import suppress

from rich.console import Console
from rich.text import Text

from llm_platform.defs.measuring import check_counts
from llm_platform.errors import EvidenceMissing
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.wording import interval_text
from llm_platform.operations.answering.spending import budget_line, spent_by, used_up
from llm_platform.operations.evidence.evaluation import current_evaluation_id, present_report
from llm_platform.operations.live import live_rollouts
from llm_platform.operations.release.rollout import evidence
from llm_platform.operations.releases import LoadedApplication, champion_release, requesting
from llm_platform.records import Release, RolloutEvent, TokenUsage
from llm_platform.records.figures import figure
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore
from llm_platform.workbench.runs import Checks, materialize


def publish_now(settings: Settings, loaded: LoadedApplication, *, console: Console) -> None:
    """Let the published table follow a decision at once."""
    only = ["rollout", "completions_champion", "published"]
    if loaded.application.rollout.stages:
        only.append("completions_challengers")
    materialize(settings, loaded.application.name, console=console, only=only)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        print_summary(lake, loaded, settings, console=console, checks=None)


def print_summary(
    lake: Warehouse,
    loaded: LoadedApplication,
    settings: Settings,
    *,
    console: Console,
    checks: Checks | None,
    run_id: str = "",
) -> None:
    """Say what there is: documents, answers, tokens, accuracy beside its baselines, and where to look.

    Args:
        checks: Of the run that has just ended; None without one.
        run_id: The same run, to say what it used of a budget.
    """
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
    if checks is not None:
        _print_checks(checks, console)
    if run_id:
        _print_budget(store, loaded, run_id, console)
    console.print(f"Report card {settings.cards_folder / application.name / 'card.html'}")
    champion = store.rollout.champion()
    beside = {one.release_id for one in live_rollouts(store).challengers}
    beside |= {champion.release_id} if champion is not None else set()
    best = _best_approved(store, loaded, beside=beside)
    through = "rollout start" if champion is not None and application.rollout.stages else "promote"
    promotion = f"llm-platform {through} {application.name} {best}"
    if champion is None:
        console.print(f"Published   nothing: {_why_nothing(store, loaded, best, promotion)}")
        return
    _print_published(store, loaded, champion, settings, console=console)
    if best is not None:
        console.print(f"            also approved: {best}; to publish it: {promotion}")


def _print_budget(store: ApplicationStore, loaded: LoadedApplication, run_id: str, console: Console) -> None:
    ended = any(map(used_up, store.runs.of_run(run_id)))
    releases = [loaded.requesting(variant, store) for variant in loaded.application.variants]
    ids = {one.release_id for one in (*releases, champion_release(store)) if one is not None}
    waiting = sum(store.completions.missing_count(release_id) for release_id in ids) if ended else 0
    line = budget_line(loaded.application.budget, spent_by(store, loaded, run_id), waiting=waiting)
    if line is not None:
        console.print(f"Budget      {line}")


def _print_checks(checks: Checks, console: Console) -> None:
    counts = check_counts(len(checks.passed), len(checks.unmeasured), len(checks.failed))
    console.print(f"Checks      {counts}")
    for name in checks.failed:
        console.print(f"            failed: {name}")


def _print_published(
    store: ApplicationStore,
    loaded: LoadedApplication,
    champion: RolloutEvent,
    settings: Settings,
    *,
    console: Console,
) -> None:
    application = loaded.application
    contract = store.published.present(application.publish.contract)
    table = f"{application.name}.published_v{contract}"
    rows = store.published.releases(contract)
    export = settings.cards_folder / application.name / f"published_v{contract}.parquet"
    served = f"{champion.variant} (release {champion.release_id})"
    challengers = {one.release_id: one for one in live_rollouts(store).challengers}
    older = ", ".join(sorted(rows.keys() - {champion.release_id} - challengers.keys()))
    count = sum(rows.values())
    if not count:
        console.print(f"Published   {table} has no rows; {served} serves it")
    elif older and (own := rows.get(champion.release_id, 0)):
        left = count - sum(rows.get(one, 0) for one in (champion.release_id, *challengers))
        console.print(f"Published   {table}, {own} rows by {served}, {left} by release {older}")
    elif older:
        console.print(f"Published   {table}, {count} rows by release {older}; {served} is next")
    else:
        console.print(f"Published   {table}, {rows.get(champion.release_id, 0)} rows by {served}")
    for release_id, one in challengers.items():
        given = f"{rows.get(release_id, 0)} rows by" if one.publishes else "no rows by"
        console.print(f"            {given} {one.variant} (release {release_id}), {one.stage.name}")
    if missing := store.completions.missing_count(champion.release_id):
        console.print(f"            as it was before: {missing} documents have no answer of {champion.variant} yet")
    if not count:
        return
    console.print(f"            as a file: {export}")
    # Keys hold spaces and brackets: a shell and the console would read something else in them.
    first = store.published.first_key(contract)
    explained = f"llm-platform explain {application.name} {shlex.quote(first)}"
    console.print(f"Next        make dev   |   {explained}   |   llm-platform application new", markup=False)


def _why_nothing(store: ApplicationStore, loaded: LoadedApplication, best: str | None, promotion: str) -> str:
    if best is None:
        releases = [loaded.release(variant, store) for variant in loaded.application.judged]
        judged = any(one is not None and store.reports.latest(one.release_id) is not None for one in releases)
        return "no variant passed its gates" if judged else "no variant has been judged yet"
    if loaded.application.rollout.first_champion == "manual":
        return f"{best} is approved, and 'first_champion: manual' leaves the choice to a person: {promotion}"
    return f"{best} is approved, and serves only once somebody promotes it: {promotion}"


def _best_approved(store: ApplicationStore, loaded: LoadedApplication, *, beside: Collection[str]) -> str | None:
    """Of the variants whose present release is approved and neither serves nor runs, the one with the best accuracy.

    By the lower bound, as the first champion is chosen.
    """
    evaluation_id = current_evaluation_id(store, loaded)
    approved: dict[str, float] = {}
    for variant in loaded.application.variants:
        release = loaded.release(variant, store)
        if release is None or release.release_id in beside:
            continue
        with suppress(EvidenceMissing):
            report = evidence(store, loaded, variant, release=release, evaluation_id=evaluation_id)
            approved[variant] = report.accuracy.lower if report.accuracy else 0.0
    return max(approved, key=lambda variant: (approved[variant], variant), default=None)


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


def _variant_lines(variant: str, report: Report, usage: TokenUsage, *, withheld: str | None) -> Text:
    standing = report.standing if withheld is None else "refused"
    verdict = {"approved": ("approved", "green"), "refused": ("refused", "red")}.get(standing, ("undecided", "yellow"))
    accuracy, valid = report.accuracy, report.valid_rate
    parts = [""]
    if accuracy is not None:
        parts.append(f"accuracy {interval_text(accuracy)} of {accuracy.count}")
    if valid is not None:
        parts.append(f"valid {figure(valid.value)}")
    speed = report.effort.tokens_per_second
    parts.append(f"{usage.total:,} tokens" + (f" at {speed:,.0f}/s" if speed else ""))
    beside = []
    if report.baseline is not None and report.baseline.accuracy is not None:
        beside.append(f"{report.baseline.name} {figure(report.baseline.accuracy.value)}")
    if report.majority is not None:
        beside.append(f"majority class {figure(report.majority.rate)}")
    refused = [gate for gate in report.gates if not gate.passed]
    lines = [", ".join(parts)]
    if beside:
        lines.append(f"            beside it: {', '.join(beside)}")
    if withheld is not None:
        lines.append(f"            {withheld}")
    lines += [f"            {gate.name}, {gate.comparison}: {gate.next_step or gate.reason}" for gate in refused]
    return Text.assemble(f"{variant:<11} ", verdict, "\n".join(lines))
