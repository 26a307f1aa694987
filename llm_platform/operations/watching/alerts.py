"""Who is told what: trouble that was seen becomes an alert once, and an alert is sent until it has arrived."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from llm_platform.errors import PlatformError
from llm_platform.warehouse.alerts import Alert, Event
from llm_platform.warehouse.lake import Warehouse

RUN_FAILED = "run_failed"
CONTRACT_BROKEN = "contract_broken"
STALE_AFTER = timedelta(days=7)
"""An alert that could not be delivered for so long is not sent any more: it is in the table, and too late to act on."""


class DeliveryFailed(PlatformError):
    """A channel did not take an alert; the message names no secret."""


class Channel(Protocol):
    """A way to tell people; see `alert_channels`."""

    @property
    def name(self) -> str:
        """`slack`, `email` or `webhook`."""

    def send(self, alert: Alert) -> None:
        """Deliver one alert.

        Raises:
            DeliveryFailed: it did not arrive, or nobody said that it did.
        """


@dataclass(frozen=True)
class CheckSeen:
    """One evaluated check of a run.

    Attributes:
        asset: Its path, e.g. `("tickets", "drift")`.
        is_error: Whether a failure was reported as an error, not a warning.
    """

    asset: tuple[str, ...]
    check: str
    passed: bool
    is_error: bool
    description: str = ""


@dataclass(frozen=True)
class RunSeen:
    """A run that has ended.

    Attributes:
        job: Its name.
        application: Whose run it was; empty for the platform's own.
        failed: Whether it ended without success. A cancelled run is neither, and is not seen.
        reason: What was raised, if it was raised on purpose; such messages hold no document's text.
        is_contract: Whether that was a broken contract.
    """

    run_id: str
    job: str
    application: str
    failed: bool
    reason: str
    is_contract: bool
    checks: tuple[CheckSeen, ...]


WATCHED_WARNINGS = frozenset({"drift", "endpoint_metrics"})
"""Assets whose warnings are told too; other warnings are findings about challengers, which nobody reads yet."""


def events_of_run(run: RunSeen, *, link: Callable[[RunSeen], str]) -> list[Event]:
    """What an ended run says of its own job and of every check that people are told about."""
    where = link(run)
    events = []
    if run.failed:
        kind, other = (CONTRACT_BROKEN, RUN_FAILED) if run.is_contract else (RUN_FAILED, CONTRACT_BROKEN)
        events.append(_of_run(run, kind, failing=True, link=where))
        events.append(_of_run(run, other, failing=False, link=where))
    else:
        events += [_of_run(run, kind, failing=False, link=where) for kind in (RUN_FAILED, CONTRACT_BROKEN)]
    for check in run.checks:
        event = _of_check(run, check, link=where)
        if event is not None:
            events.append(event)
    return events


def note(lake: Warehouse, events: Sequence[Event], *, now: datetime, quiet: timedelta) -> list[Alert]:
    """Store what is news; returns it. What was told within the quiet time and has not changed is not news."""
    # Nearly every event is a recovery from nothing: one reading spares it a transaction.
    troubled = {alert.subject for alert in lake.alerts.open()}
    told = [one for one in events if one.failing or (one.kind, one.application, one.variant) in troubled]
    found = (lake.alerts.note(event, now=now, quiet=quiet) for event in told)
    return [alert for alert in found if alert is not None]


@dataclass(frozen=True)
class Delivered:
    """What one attempt at everything pending did: alerts sent and alerts that failed, over all channels."""

    sent: int
    failed: int


def deliver(lake: Warehouse, channels: Sequence[Channel], *, now: datetime) -> Delivered:
    """Send what is pending, on every channel; what does not arrive stays pending and fails nothing.

    An attempt is stored after it was made: an alert may arrive twice after a crash in between, and is never lost.
    """
    sent = failed = 0
    for channel in channels:
        for alert in lake.alerts.pending(channel.name, now=now, newer_than=now - STALE_AFTER):
            error: str | None = None
            try:
                channel.send(alert)
            except DeliveryFailed as failure:
                error = str(failure)
            lake.alerts.delivered(alert.alert_id, channel.name, error=error, now=now)
            sent, failed = sent + (error is None), failed + (error is not None)
            if error is not None:
                break  # a channel that is down is not asked for every alert; the others wait with this one
    return Delivered(sent, failed)


def subject_line(alert: Alert) -> str:
    """One line that says what, where, and whether it is over."""
    what = alert.kind.replace("_", " ").replace(".", ": ")
    where = "/".join(part for part in (alert.application, alert.variant) if part)
    over = "recovered" if alert.state == "recovered" else "needs a look"
    return f"{where or 'platform'}: {what} {over}"


def trial_alert(now: datetime) -> Alert:
    """An alert that says that alerts arrive."""
    message = "This is a test of the alerts of llm_platform. Nothing is wrong."
    return Alert(uuid.uuid4().hex, "test", "", "", "recovered", message, "", "", now)


def _of_run(run: RunSeen, kind: str, *, failing: bool, link: str) -> Event:
    message = f"Run {run.run_id[:8]} of {run.job} " + (f"failed. {run.reason}" if failing else "succeeded.")
    # The job is part of the subject, so that the success of one job does not end the trouble of another.
    variant = "" if run.job == run.application else run.job
    return Event(kind, run.application, variant, failing, message.strip(), link, run.run_id)


def _of_check(run: RunSeen, check: CheckSeen, *, link: str) -> Event | None:
    """The event of a check; None for a challenger's finding."""
    name = check.asset[-1] if len(check.asset) > 1 else check.asset[0]
    belongs_to_platform = check.asset[0] in ("models", "endpoint_metrics")
    watched = check.is_error or check.asset[0] in WATCHED_WARNINGS or name in WATCHED_WARNINGS
    if not watched:
        return None
    application = "" if belongs_to_platform else check.asset[0]
    variant = "/".join(check.asset[1:]) if belongs_to_platform else ""
    asset = check.asset[0] if belongs_to_platform else "/".join(check.asset[1:])
    said = f" {check.description}" if check.description else ""
    message = f"Check {check.check} of {'/'.join(check.asset)} {'passed' if check.passed else 'failed'}.{said}"
    return Event(f"{asset}.{check.check}", application, variant, not check.passed, message, link, run.run_id)
