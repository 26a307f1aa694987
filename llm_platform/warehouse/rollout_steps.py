"""`rollout_steps`: what was asked and decided of every challenger, on what evidence. Append-only.

The newest row of a rollout says where it is. What makes a challenger the champion is written with its row of `rollout`
in one transaction: there is no moment at which one is there without the other.
"""

from __future__ import annotations

import json
from typing import Any

from llm_platform.errors import TransientError
from llm_platform.records import RolloutEvent, canonical_json
from llm_platform.records.rollout import RolloutStep
from llm_platform.records.tables import TABLES
from llm_platform.warehouse.rollout import append_event
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import LAKE, Session, Transaction

COLUMNS = listed("rollout_steps", without=["sequence"])
NAMES = [name for name in TABLES["rollout_steps"] if name != "sequence"]


class RolloutSteps:
    """Steps of all rollouts of one application. A branch has its own: it never reads or moves upstream's."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(
        self,
        step: RolloutStep,
        *,
        expected_previous: str | None,
        event: RolloutEvent | None = None,
        expected_champion: str | None = None,
    ) -> int:
        """Store a step if its rollout is still where the step was decided; returns the snapshot id.

        A step that is already stored is left alone.

        Args:
            expected_previous: Step of the same rollout that the step was decided on; None for its first one.
            event: Makes the challenger the champion, in the same transaction.
            expected_champion: Event that served when `event` was decided.

        Raises:
            TransientError: another step, or another champion, came first.
        """

        def body(transaction: Transaction) -> None:
            stored = transaction.relation("rollout_steps")
            if transaction.run(f"SELECT 1 FROM {stored} WHERE step_id = ?", [step.step_id]):
                return
            found = transaction.run(
                f'SELECT step_id FROM {stored} WHERE rollout_id = ? ORDER BY "sequence" DESC LIMIT 1', [step.rollout_id]
            )
            newest = found[0][0] if found else None
            if newest != expected_previous:
                raise TransientError(
                    f"Cannot {step.kind} the rollout of {step.variant!r} of {step.application!r}: it was looked at "
                    f"after step {expected_previous!r}, and the newest is {newest!r}. Look at it again: "
                    f"llm-platform rollout status {step.application}"
                )
            sequence = transaction.next_sequence("rollout_steps")
            marks = ", ".join("?" * len(TABLES["rollout_steps"]))
            target = transaction.target("rollout_steps")
            transaction.run(
                f'INSERT INTO {target} ("sequence", {COLUMNS}) VALUES ({marks})', [sequence, *_values(step)]
            )
            if event is not None:
                append_event(transaction, event, expected_previous=expected_champion)

        return self._session.write(self._application, body)[1]

    def history(self) -> list[RolloutStep]:
        """All steps, oldest first."""
        return [_step(row) for row in self._rows("true")]

    def of(self, rollout_id: str) -> list[RolloutStep]:
        """The steps of one rollout, oldest first."""
        return [_step(row) for row in self._rows("rollout_id = ?", rollout_id)]

    def newest(self) -> list[RolloutStep]:
        """The newest step of every rollout, in the order in which they were started."""
        relation = self._relation()
        rows = self._session.rows(
            f'SELECT {COLUMNS} FROM (SELECT *, min("sequence") OVER (PARTITION BY rollout_id) AS started '
            f'FROM {relation} QUALIFY row_number() OVER (PARTITION BY rollout_id ORDER BY "sequence" DESC) = 1) '
            "ORDER BY started"
        )
        return [_step(row) for row in rows]

    def _rows(self, where: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._session.rows(
            f'SELECT {COLUMNS} FROM {self._relation()} WHERE {where} ORDER BY "sequence"', list(parameters)
        )

    def _relation(self) -> str:
        return self._session.relation(self._application, "rollout_steps", catalog=LAKE)


def _values(step: RolloutStep) -> list[Any]:
    values = {**step.model_dump(), "reasons": canonical_json(list(step.reasons))}
    return [values[name] for name in NAMES]


def _step(row: tuple[Any, ...]) -> RolloutStep:
    values = dict(zip(NAMES, row, strict=True))
    return RolloutStep.model_validate({**values, "reasons": tuple(json.loads(values["reasons"]))})
