"""`llm-platform monitor`: drift, live accuracy, endpoints and alerts of a deployment that serves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_platform.cli.console import ApplicationName, application_named, console, new_table, show
from llm_platform.errors import SpecificationError, StorageError
from llm_platform.settings.settings import load_settings

commands = typer.Typer(no_args_is_help=True, help="Watch what serves: drift, live accuracy, endpoints, alerts.")


@commands.command("drift")
def show_drift(application: ApplicationName) -> None:
    """Compare live documents and answers with those the champion was judged on; calls no model."""
    from llm_platform.operations.watching.drift import monitor
    from llm_platform.records.figures import bounded
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    folder = settings.cards_folder / application
    with WarehouseResource.of(settings).open() as lake:
        look = monitor(lake, loaded, cards_folder=folder, now=datetime.now(UTC))
    report, accuracy = look.report, look.report.accuracy
    table = new_table("property", "verdict", "effect", "limit", "what was seen")
    for found in report.measurements:
        effect = "–" if found.effect is None else f"{found.effect_name} {found.effect:.3f}"
        table.add_row(found.name, found.word, effect, f"{found.maximum:g}", found.note)
    show(table)
    console.print(f"Drift: {report.state}.", markup=False)
    value = "–" if accuracy.value is None else bounded(accuracy.value, accuracy.lower, accuracy.upper)
    console.print(f"Live accuracy {value} on {accuracy.labelled} labels: {accuracy.standing}.", markup=False)
    console.print(f"{len(report.flagged)} documents flagged, {look.drawn_now} drawn for labelling. Page: {look.page}")


@commands.command("sample")
def show_sample(
    application: ApplicationName,
    output: Annotated[Path | None, typer.Option(help="Write the keys to this CSV file instead.")] = None,
) -> None:
    """List live documents that chance has drawn for labelling and that have no known answer yet."""
    from llm_platform.operations.watching.drift import boundary, draw_for_labelling, latest_report, to_label
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    loaded = application_named(settings, application)
    with WarehouseResource.of(settings).open() as lake:
        store, spec = lake.application(application), loaded.application
        report = latest_report(store)
        since, flagged = boundary(store, spec), report.flagged if report else ()
        new = draw_for_labelling(store, spec, since=since, flagged=flagged, now=datetime.now(UTC))
        rows = to_label(store)
    if output is not None:
        _write_csv(output, rows)
        console.print(f"{output}: {len(rows)} documents to label, {new} of them drawn now.")
        return
    table = new_table("document", "drawn as", "probability")
    for row in rows:
        table.add_row(str(row["document_id"]), str(row["reason"]), f"{row['probability']:g}")
    show(table)
    console.print(f"{len(rows)} documents to label, {new} of them drawn now.")


@commands.command("endpoints")
def show_endpoints(
    look: Annotated[bool, typer.Option("--look", help="Look at every endpoint now, and store what it says.")] = False,
) -> None:
    """Print what every endpoint said of itself at the last look."""
    from llm_platform.resources.handed import local_nim
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    with WarehouseResource.of(settings).open(read_only=not look) as lake:
        if look:
            from llm_platform.models.lock import load_lock
            from llm_platform.operations.serving.monitoring import Place, watch
            from llm_platform.resources.nim import NIMResource

            for name, entry in load_lock(settings.models_lock).items():
                reached = NIMResource.of(settings, name).connection()
                place = Place(local_nim(settings), reached, settings.nim_cluster_namespace)
                watched = watch(lake, entry, place, now=datetime.now(UTC))
                for held in (watched.healthy, watched.queue, watched.errors):
                    console.print(f"{name}: {'ok' if held.passed else 'NOT OK'}, {held.note}", markup=False)
        rows = lake.endpoint_metrics.latest().to_pylist()
    columns = ("running", "waiting", "kv_cache_usage", "requests", "prompt_tokens", "generation_tokens")
    table = new_table("entry", "endpoint", "looked at", "ready", *columns)
    for row in rows:
        numbers = ["–" if row[name] is None else f"{row[name]:g}" for name in columns]
        ready = "yes" if row["healthy"] else f"no: {row['reason']}"
        table.add_row(row["entry"], row["base_url"], f"{row['scraped_at']:%Y-%m-%d %H:%M:%S}", ready, *numbers)
    show(table, empty="Nobody has looked at an endpoint yet: llm-platform monitor endpoints --look")


@commands.command("alerts")
def show_alerts(
    send: Annotated[bool, typer.Option("--send", help="Try to deliver what is pending.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Send a test alert on every configured channel.")] = False,
) -> None:
    """List alerts whose trouble has not ended, and what is still to be delivered."""
    from llm_platform.operations.watching.alerts import deliver, trial_alert
    from llm_platform.resources.alerts import AlertsResource
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    alerts, now = AlertsResource.of(settings), datetime.now(UTC)
    channels = alerts.channels()
    if test and not channels:
        raise SpecificationError(
            "No channel is configured. Set LLM_PLATFORM_ALERT_SLACK_TOKEN and _SLACK_CHANNEL, _WEBHOOK_URL, or "
            "_SMTP_URL and _EMAIL_TO; see docs/monitoring.md."
        )
    for channel in channels if test else ():
        channel.send(trial_alert(now))
        console.print(f"{channel.name}: arrived")
    with WarehouseResource.of(settings).open(read_only=not send) as lake:
        if send:
            done = deliver(lake, channels, now=now)
            console.print(f"{done.sent} sent, {done.failed} not delivered.")
        table = new_table("since", "application", "variant", "kind", "message")
        for alert in lake.alerts.open():
            since = f"{alert.created_at:%Y-%m-%d %H:%M}"
            table.add_row(since, alert.application, alert.variant, alert.kind, alert.message)
    show(table, empty="No trouble is open.")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    import csv

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["document_id", "reason", "probability"])
            writer.writerows([row["document_id"], row["reason"], row["probability"]] for row in rows)
    except OSError as error:
        raise StorageError(f"Cannot write {str(path)!r}: {error.strerror}. Choose another place.") from error
