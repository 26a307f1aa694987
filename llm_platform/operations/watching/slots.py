"""Whether replication slots that sources are followed by hold back more WAL than their servers should keep."""

from __future__ import annotations

from collections.abc import Iterable

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken, PlatformError
from llm_platform.warehouse.alerts import Event
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.source_slots import MOST_HELD_BACK

KIND = "source.slot"


def slot_events(lake: Warehouse, applications: Iterable[Application], *, most: int = MOST_HELD_BACK) -> list[Event]:
    """What is to be told of each slot: that it holds back too much or cannot be read, or that it does well.

    It is asked for whether or not sensors and runs do what they should: that they stand still is what fills the disk. A
    branch, which acknowledges nothing, has nothing to say of it.

    Args:
        most: Bytes of WAL that a slot may hold back.
    """
    events: list[Event] = []
    for application in [] if lake.has_upstream else applications:
        if application.source.slot is None:
            continue
        try:
            standing = lake.sources.standing(application.source)
            trouble = None if standing is None else standing.trouble(most)
        except ContractBroken as error:
            trouble = str(error)
        except PlatformError:
            # Nothing is known of it, and the others may be of the same server: a look has a minute for all of them.
            return events
        said = trouble or f"Replication slot {application.source.slot!r} holds back little again."
        events.append(Event(KIND, application.name, application.source.slot, trouble is not None, said))
    return events
