"""`rollout`: which release serves the published table, since when, on what evidence. Append-only."""

from __future__ import annotations

import json
from typing import Any

from llm_platform.errors import TransientError
from llm_platform.records import GateResult, RolloutEvent, canonical_json
from llm_platform.records.tables import TABLES
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

COLUMNS = listed("rollout", without=["sequence"])


class RolloutTable:
    """Rollout events of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, event: RolloutEvent, *, expected_previous: str | None) -> int:
        """Store an event if the champion is still the one that the decision was made against; returns the snapshot id.

        An event that is already stored is left alone.

        Raises:
            TransientError: another event came first.
        """

        def body(transaction: Transaction) -> None:
            append_event(transaction, event, expected_previous=expected_previous)

        return self._session.write(self._application, body)[1]

    def champion(self) -> RolloutEvent | None:
        """The newest event: ours, else the upstream's; None when nothing was ever promoted."""
        for catalog in (LAKE, UPSTREAM):
            rows = self._session.rows(_newest(self._relation(catalog), COLUMNS))
            if rows:
                return _event(rows[0])
        return None

    def history(self) -> list[RolloutEvent]:
        """All events of this lake, oldest first."""
        return [
            _event(row)
            for row in self._session.rows(f'SELECT {COLUMNS} FROM {self._relation(LAKE)} ORDER BY "sequence"')
        ]

    def _relation(self, catalog: str) -> str:
        return self._session.relation(self._application, "rollout", catalog=catalog)


def append_event(transaction: Transaction, event: RolloutEvent, *, expected_previous: str | None) -> None:
    """Store an event in an open transaction, if the champion is still the one that it was decided against.

    Raises:
        TransientError: another event came first.
    """
    stored = transaction.relation("rollout")
    if transaction.run(f"SELECT 1 FROM {stored} WHERE event_id = ?", [event.event_id]):
        return
    current = transaction.run(_newest(stored, "event_id")) or transaction.run(
        _newest(transaction.upstream("rollout"), "event_id")
    )
    found = current[0][0] if current else None
    if found != expected_previous:
        raise TransientError(
            f"Cannot {event.action} {event.variant!r} of {event.application!r}: the decision was made against event "
            f"{expected_previous!r}, and the newest is {found!r}. Look at the new champion, then decide again."
        )
    sequence = transaction.count(f'SELECT coalesce(max("sequence"), 0) + 1 FROM {stored}')
    marks = ", ".join("?" * len(TABLES["rollout"]))
    target = transaction.target("rollout")
    transaction.run(f'INSERT INTO {target} ("sequence", {COLUMNS}) VALUES ({marks})', [sequence, *_values(event)])


def _newest(relation: str, columns: str) -> str:
    return f'SELECT {columns} FROM {relation} ORDER BY "sequence" DESC LIMIT 1'


def _values(event: RolloutEvent) -> list[Any]:
    evidence = canonical_json([gate.model_dump(mode="json") for gate in event.evidence])
    values = {**event.model_dump(), "evidence": evidence}
    return [values[name] for name in TABLES["rollout"] if name != "sequence"]


def _event(row: tuple[Any, ...]) -> RolloutEvent:
    values = dict(zip((name for name in TABLES["rollout"] if name != "sequence"), row, strict=True))
    values["evidence"] = tuple(GateResult.model_validate(gate) for gate in json.loads(values["evidence"]))
    return RolloutEvent(**values)
