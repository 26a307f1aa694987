"""Who decided what about an application stands beside who looked at its texts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from llm_platform.operations.privacy.decisions import access_decisions
from llm_platform.records import Bar
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.warehouse.builders import NOON, event
from llm_platform_tests.warehouse.conftest import sqlite_location

LATER = timedelta(hours=1)


def test_promotions_accepted_bars_and_what_was_forgotten_are_decisions(tmp_path: Path) -> None:
    """An auditor asks who let it happen as often as who saw it; one list answers both."""
    with Warehouse.attach(sqlite_location(tmp_path)) as lake:
        store = lake.application("reviews")
        store.rollout.append(event("first"), expected_previous=None)
        bar = Bar(kind="adapter", subject="tuned-1", request_id="r", reason="it learned one", at=NOON + LATER)
        schema = arrow_schema("bars")
        store._session.write(
            "reviews",
            lambda transaction: (
                transaction.cursor.register("made", pa.Table.from_pylist([bar.model_dump()], schema=schema))
                and transaction.run(f"INSERT INTO {transaction.target('bars')} BY NAME SELECT * FROM made")
            ),
        )
        store.bars.accept("adapter", "tuned-1", by="eve", because="no word of it is left", at=NOON + 2 * LATER)
        store.bars.certify("r", by="ada", at=NOON + 3 * LATER, documents=2, envelope="{}")

        said = [(one.by, one.what) for one in access_decisions(store)]

    assert said[0][1].startswith("promote")
    assert said[1:] == [("eve", "accept adapter tuned-1"), ("ada", "forget 2 documents")]
