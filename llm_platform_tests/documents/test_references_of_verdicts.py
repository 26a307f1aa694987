"""Known answers out of a table and out of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llm_platform.application.model import Application
from llm_platform.documents.references import drawn_split, with_verdicts
from llm_platform.records.tables import REFERENCES_SCHEMA
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.team import Team
from llm_platform_tests.warehouse.conftest import sqlite_location

APPROVED = pa.schema(
    [(name, pa.string()) for name in ("document_id", "fingerprint", "answer", "basis")] + [("sampled", pa.bool_())]
)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    return Team(tmp_path_factory.mktemp("team"), "http://127.0.0.1:9", documents=2).loaded.application


def fingerprint(split: str, application: Application) -> str:
    """A text that the seed puts into a split."""
    assert application.references is not None
    rules = {"seed": application.references.seed, "train_share": application.references.train_share}
    return next(text for text in map(str, range(1000)) if drawn_split(text, **rules) == split)  # type: ignore[arg-type]


def merged(application: Application, known: list[Any], approved: list[Any], documents: dict[str, str]) -> Any:
    names = ("document_id", "answer", "split")
    rows = [{**dict(zip(names, row, strict=True)), "provenance": "table"} for row in known]
    fields = ("document_id", "fingerprint", "answer", "basis", "sampled")
    return with_verdicts(
        pa.Table.from_pylist(rows, schema=REFERENCES_SCHEMA),
        pa.Table.from_pylist([dict(zip(fields, row, strict=True)) for row in approved], schema=APPROVED),
        pa.table({"document_id": list(documents), "fingerprint": list(documents.values())}),
        application,
    )


def answers(found: Any) -> list[tuple[str, ...]]:
    return sorted(tuple(row.values()) for row in found.rows.to_pylist())


def test_the_table_wins_unless_an_adjudicator_decided(application: Application) -> None:
    """One person's click must not overrule what somebody once took care to write down."""
    known = [("a", "SAD", "train"), ("b", "SAD", "evaluation")]
    approved = [("a", "fa", "HAPPY", "unopposed", True), ("b", "fb", "HAPPY", "adjudicated", False)]

    found = merged(application, known, approved, {"a": "fa", "b": "fb"})

    assert answers(found) == [("a", "SAD", "train", "table"), ("b", "HAPPY", "evaluation", "adjudicated")]


def test_a_new_answer_gets_the_split_of_its_text_or_of_the_seed(application: Application) -> None:
    """A text that is trained on under another key must not be evaluated under this one."""
    train, evaluation = fingerprint("train", application), fingerprint("evaluation", application)
    approved = [
        ("same text", evaluation, "SAD", "unopposed", True),
        ("new", train, "SAD", "unopposed", False),
        ("sampled", f"{evaluation}", "SAD", "unopposed", True),
    ]

    with_twin = merged(application, [("twin", "SAD", "train")], approved[:2], {"twin": evaluation})
    without = merged(application, [], approved[2:], {})

    assert ("same text", "SAD", "train", "unopposed") in answers(with_twin)
    assert ("new", "SAD", "train", "unopposed") in answers(with_twin)
    assert answers(without) == [("sampled", "SAD", "evaluation", "unopposed")]


def test_a_document_chosen_for_its_answers_is_not_evaluated(application: Application) -> None:
    """An evaluation set that grows by disagreements gets harder with every verdict, and no longer says how good
    answers are."""
    evaluation = fingerprint("evaluation", application)

    found = merged(application, [], [("a", evaluation, "SAD", "unopposed", False)], {})

    assert (answers(found), found.held_back) == ([], 1)


def test_an_answer_that_is_no_label_any_more_is_left_out(application: Application) -> None:
    """Labels change; the verdicts of last year stay in the ledger."""
    found = merged(application, [], [("a", fingerprint("train", application), "ANGRY", "unopposed", True)], {})

    assert (answers(found), found.impossible) == ([], 1)


def test_references_written_before_verdicts_counted_are_taken_over(tmp_path: Path) -> None:
    """A lake of last month has no column for where an answer came from; its answers keep their version."""
    with Warehouse.attach(sqlite_location(tmp_path)) as lake:
        store = lake.application("tickets")
        session = lake._session
        session.write(
            "tickets",
            lambda transaction: (
                transaction.cursor.execute('CREATE SCHEMA lake."tickets"'),
                transaction.cursor.execute('CREATE TABLE lake."tickets"."references" AS SELECT * FROM '
                                           "(VALUES ('a', 'SAD', 'train')) t(document_id, answer, split)"),
            ),
        )  # fmt: skip
        before = store.references.version()

        store.references.replace(pa.table({"document_id": ["a", "b"], "answer": ["SAD"] * 2, "split": ["train"] * 2}))
        store.references.replace(pa.table({"document_id": ["a"], "answer": ["SAD"], "split": ["train"]}))

        assert store.references.table()["document_id"].to_pylist() == ["a"]
        assert store.references.version() == before
