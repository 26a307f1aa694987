"""`alerts` and `alert_deliveries`: an outbox of what people are to be told; in the schema `platform`.

An alert is stored before anything is sent, so a channel that does not answer loses nothing. Both tables are
append-only: an alert is pending on a channel until a delivery says otherwise.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pyarrow as pa

from llm_platform.warehouse.schema import NEWEST_FIRST, OLDEST_FIRST
from llm_platform.warehouse.session import Session, Transaction

SCHEMA = "platform"
LISTED = "alert_id, kind, application, variant, state, message, link, run_id, created_at"
FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0

State = Literal["raised", "recovered"]


@dataclass(frozen=True)
class Alert:
    """Something that people are told. It names documents by nothing but their number.

    Attributes:
        kind: What it is about, e.g. `run_failed` or `drift.length_not_drifted`.
        variant: The variant or endpoint it is about; empty where there is none.
        link: Where to look; empty when no address of the UI is configured.
    """

    alert_id: str
    kind: str
    application: str
    variant: str
    state: State
    message: str
    link: str
    run_id: str
    created_at: datetime

    @property
    def subject(self) -> tuple[str, str, str]:
        """What two alerts have in common when they are the same trouble."""
        return self.kind, self.application, self.variant


@dataclass(frozen=True)
class Event:
    """What was seen of one subject: trouble, or its absence."""

    kind: str
    application: str
    variant: str
    failing: bool
    message: str
    link: str = ""
    run_id: str = ""


class Alerts:
    """Alerts of one namespace."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def note(self, event: Event, *, now: datetime, quiet: timedelta) -> Alert | None:
        """Store an alert if the event is news; returns it.

        News is trouble that was not there, trouble that is still there after the quiet time, and the end of trouble.
        Two processes that see the same event store one alert.
        """

        def body(transaction: Transaction) -> Alert | None:
            stored = transaction.relation("alerts")
            found = transaction.run(
                f"SELECT state, created_at FROM {stored} WHERE kind = ? AND application = ? AND variant = ? "
                f"ORDER BY {NEWEST_FIRST} LIMIT 1",
                [event.kind, event.application, event.variant],
            )
            state, at = found[0] if found else ("recovered", None)
            repeated = event.failing and state == "raised" and at is not None and now - at < quiet
            if repeated or (not event.failing and state == "recovered"):
                return None
            alert = _alert(event, now=now)
            values = [getattr(alert, name) for name in LISTED.split(", ")]
            sequence = transaction.next_sequence("alerts")
            transaction.run(
                f'INSERT INTO {transaction.target("alerts")} ({LISTED}, "sequence") VALUES ({_marks(10)})',
                [*values, sequence],
            )
            return alert

        return self._session.write(SCHEMA, body)[0]

    def pending(self, channel: str, *, now: datetime, newer_than: datetime) -> list[Alert]:
        """Alerts that a channel has not delivered and whose pause after the last failure is over, oldest first.

        The pause doubles with every failure, up to an hour.
        """
        rows = self._session.rows(
            f"WITH tried AS (SELECT alert_id, bool_or(delivered) AS delivered, count(*) AS attempts, "
            f"max(attempted_at) AS last FROM {self._relation('alert_deliveries')} WHERE channel = ? GROUP BY alert_id) "
            f"SELECT {', '.join('a.' + name for name in LISTED.split(', '))}, t.attempts, t.last "
            f"FROM {self._relation('alerts')} a LEFT JOIN tried t USING (alert_id) "
            "WHERE NOT coalesce(t.delivered, false) AND a.created_at > ? "
            'ORDER BY a."sequence" NULLS FIRST, a.created_at, a.alert_id',
            [channel, newer_than],
        )
        return [Alert(*row[:9]) for row in rows if row[9] is None or now >= row[10] + _pause(row[9])]

    def delivered(self, alert_id: str, channel: str, *, error: str | None, now: datetime) -> None:
        """Store one attempt; `error` is None when it arrived."""

        def body(transaction: Transaction) -> None:
            target = transaction.target("alert_deliveries")
            transaction.run(
                f"INSERT INTO {target} (alert_id, channel, delivered, error, attempted_at) VALUES (?, ?, ?, ?, ?)",
                [alert_id, channel, error is None, error, now],
            )

        self._session.write(SCHEMA, body)

    def open(self) -> list[Alert]:
        """The newest alert of every subject whose trouble has not ended."""
        return [Alert(*row) for row in self._rows("state = 'raised'")]

    def table(self) -> pa.Table:
        """All alerts, oldest first."""
        return self._session.table(f"SELECT {LISTED} FROM {self._relation('alerts')} ORDER BY {OLDEST_FIRST}, alert_id")

    def deliveries(self) -> pa.Table:
        """All attempts to deliver, oldest first."""
        return self._session.table(f"SELECT * FROM {self._relation('alert_deliveries')} ORDER BY attempted_at")

    def _rows(self, where: str) -> list[tuple[Any, ...]]:
        newest = f"QUALIFY row_number() OVER (PARTITION BY kind, application, variant ORDER BY {NEWEST_FIRST}) = 1"
        return self._session.rows(
            f"SELECT * FROM (SELECT {LISTED} FROM {self._relation('alerts')} {newest}) WHERE {where} "
            "ORDER BY created_at, alert_id"
        )

    def _relation(self, table: str) -> str:
        return self._session.relation(SCHEMA, table)


def _alert(event: Event, *, now: datetime) -> Alert:
    return Alert(
        alert_id=uuid.uuid4().hex,
        kind=event.kind,
        application=event.application,
        variant=event.variant,
        state="raised" if event.failing else "recovered",
        message=event.message,
        link=event.link,
        run_id=event.run_id,
        created_at=now,
    )


def _pause(attempts: int) -> timedelta:
    return timedelta(seconds=min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS))


def _marks(count: int) -> str:
    return ", ".join("?" * count)
