"""Let go of what is older than the policy keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from llm_platform.application.model import Application
from llm_platform.operations.privacy.forgetting import Forgetting, Forgotten
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.retention import OF_DEPLOYMENT

KEPT_FOR_AUDIT = "rollout, releases, prompts, reports, certificates, bars, and counts of runs"
"""What no policy takes: it says who decided what on which evidence, and quotes no document but in frozen examples."""

DOCUMENTS = "documents"


@dataclass(frozen=True)
class Outdated:
    """What is older than a policy keeps it.

    Attributes:
        rows: `<application>.<table>` → rows.
    """

    rows: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.rows.values())


def outdated(
    lake: Warehouse, applications: Sequence[Application], days: Mapping[str, float], *, now: datetime
) -> Outdated:
    """What `let_go` would let go of; changes nothing.

    Args:
        days: Of tables that belong to no application.
    """
    rows: dict[str, int] = {}
    for application in applications:
        kept = {str(table): limit for table, limit in application.retention.days.items()}
        retention = lake.application(application.name).retention
        if DOCUMENTS in kept:
            rows[f"{application.name}.documents"] = len(retention.old_documents(kept[DOCUMENTS], now=now))
        rows |= {f"{application.name}.{table}": count for table, count in retention.due(kept, now=now).items()}
    of_none = {table: limit for table, limit in days.items() if table in OF_DEPLOYMENT}
    rows |= {f"platform.{table}": count for table, count in lake.platform_retention.due(of_none, now=now).items()}
    return Outdated(rows)


def let_go(
    lake: Warehouse,
    applications: Sequence[Application],
    days: Mapping[str, float],
    *,
    forgetting: Forgetting,
    now: datetime,
) -> tuple[Outdated, list[Forgotten]]:
    """Take out what is older than the policy keeps it, down to the bytes; documents as `forget` does.

    Raises:
        As `Forgetting.finish`.
    """
    found = outdated(lake, applications, days, now=now)
    forgotten: list[Forgotten] = []
    for application in applications:
        kept = {str(table): limit for table, limit in application.retention.days.items()}
        store = lake.application(application.name)
        store.retention.remove(kept, now=now)
        if DOCUMENTS in kept:
            old = store.retention.old_documents(kept[DOCUMENTS], now=now)
            if old:
                why = f"retention.days.documents: {kept[DOCUMENTS]:g}"
                forgetting.ask(application.name, old, by="retention", reason=why)
        forgotten += forgetting.finish(application.name)
    of_none = {table: limit for table, limit in days.items() if table in OF_DEPLOYMENT}
    lake.platform_retention.remove(of_none, now=now)
    if found.total:
        lake.erase()
    return found, forgotten
