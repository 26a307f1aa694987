"""Known answers by the types that their columns declare, and what is said of those that are of no use."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.application.model import Application
from llm_platform.documents.references import references_table
from llm_platform.errors import ContractBroken, EndpointMismatch, SpecificationError
from llm_platform.evaluation.ready import out_of_reach
from llm_platform.models.lock import lock_hash
from llm_platform.operations.answering.documents import (
    known_answer_panels,
    known_answers,
    require_judgeable,
    update_documents,
)
from llm_platform_tests.team import ENTRY, NAME, Team

JUDGE = f"---\napi: chat\nmodel: {ENTRY}\n---\n# user\n\nIs {{{{ answer }}}} right for {{{{ text }}}}?\n"
DOCUMENTS = pa.table({"document_id": ["0"], "fingerprint": ["f"]})


def application(labels: tuple[str, ...], **values: Any) -> Application:
    return Application.model_validate(
        {
            "name": "tickets",
            "title": "Tickets",
            "task": "classify",
            "labels": labels,
            "source": {"url": "t.csv", "key": "id", "text": "text"},
            "references": {"url": "t.csv", "key": "id", "answer": "label"},
            "variants": {"first": {"prompt": "first", "model": "tiny"}},
            "evaluation": {"gates": {}},
            **values,
        }
    )


def stored(rows: pa.Table, labels: tuple[str, ...]) -> list[tuple[str, str]]:
    table, _ = references_table(rows, DOCUMENTS, application(labels))
    return list(zip(table["document_id"].to_pylist(), table["answer"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("keys", "answers", "expected"),
    [
        pytest.param(
            pa.array([0, 1, 2]), pa.array([1, None, 0]), [("0", "1"), ("2", "0")], id="integers-with-a-null"
        ),
        pytest.param(
            pa.array([0.0, 7.5, 1e15]),
            pa.array([1.0, 0.0, float("nan")]),
            [("0", "1"), ("7.5", "0")],
            id="floats-that-a-frame-wrote",
        ),
        pytest.param(
            pa.array([2**63, 2**64 - 1], pa.uint64()),
            pa.array([True, False]),
            [("9223372036854775808", "true"), ("18446744073709551615", "false")],
            id="large-keys-and-booleans",
        ),
        pytest.param(
            pa.array(["007", "7"]), pa.array(["cafe\u0301", ""]), [("007", "caf\u00e9")], id="texts-are-not-numbers"
        ),
        pytest.param(
            pa.array(["a", "b"]).dictionary_encode(), pa.array(["0", "1"]).dictionary_encode(),
            [("a", "0"), ("b", "1")], id="categories",
        ),
    ],
)  # fmt: skip
def test_keys_and_answers_are_what_their_columns_declare(keys: pa.Array, answers: pa.Array, expected: Any) -> None:
    """A frame makes 1.0 of 1 beside a null: graded wrong, or matched by no document, in silence."""
    labels = ("0", "1", "true", "false", "caf\u00e9")

    assert stored(pa.table({"id": keys, "label": answers}), labels) == expected


def test_documents_and_known_answers_meet_whatever_wrote_their_keys(tmp_path: Path) -> None:
    """One side has integers, the other floats because of a null, the third is JSON: they are the same keys."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.specification["source"]["url"] = "../../tickets.jsonl"
    team.specification["references"]["url"] = "../../known.parquet"
    team.write_specification()
    lines = [
        f'{{"ticket": {key}, "body": "text {key}", "team": "red"}}\n' for key in ("1", "2.0", "7.5", "9007199254740993")
    ]
    (tmp_path / "tickets.jsonl").write_text("".join(lines))
    answers = ["SAD", "HAPPY", "SAD"]
    pq.write_table(pa.table({"ticket": [1.0, 2.0, 7.5], "mood": answers}), tmp_path / "known.parquet")

    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        found = known_answers(lake, team.loaded.application)

    assert found.unmatched == 0
    assert found.rows["document_id"].to_pylist() == ["1", "2", "7.5"]


def test_rows_without_a_label_are_counted_and_never_refused(tmp_path: Path) -> None:
    """The commonest table of all has a text in every row and a label in some."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=10)
    team.write_references({"0": "SAD", "1": "HAPPY", **dict.fromkeys("23456789", "")})

    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        found = known_answers(lake, team.loaded.application)

    assert (found.unlabelled, found.rows.num_rows) == (8, 2)


def test_an_object_of_nothing_is_no_known_answer() -> None:
    """A join leaves every field of an unlabelled row null."""
    fields = {"total": {"type": "integer"}, "city": {"type": "string", "required": False}}
    references = {"url": "t.csv", "key": "id"}
    spec = application((), task="extract", fields=fields, references=references)
    rows = pa.table({"id": ["a", "b", "c"], "total": [1, None, None], "city": [None, None, "Ulm"]})

    table, _ = references_table(rows, DOCUMENTS, spec)

    assert table["answer"].to_pylist() == ['{"city":null,"total":1}', '{"city":"Ulm","total":null}']


def test_known_answers_without_a_document_are_counted_and_named(tmp_path: Path) -> None:
    """They are graded by nobody, and a report on ten documents looked like one on a thousand."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.write_documents({"a-1": "one", "a-2": "two"})
    team.write_references({"a-1": "SAD", "A-2": "SAD", "b": "HAPPY"})

    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        found = known_answers(lake, team.loaded.application)

        lake.application(NAME).references.replace(found.rows)
        (panel,) = known_answer_panels(lake.application(NAME), team.loaded)

    assert found.unmatched_note == (
        "2 of 3 known answers name no document (first: 'A-2', 'b'; 1 differ from a key in case or white space only)"
    )
    assert panel.note.startswith(f"{found.unmatched_note}, so these reports rest on at most 1.")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        pytest.param({"x0": "SAD", "x1": "HAPPY"}, "2 of 2 known answers name no document .*such as '0'", id="keys"),
        pytest.param({"0": "SAD", "1": "MAD"}, "1 of 2 references of tickets are not possible answers", id="labels"),
        pytest.param({}, "no known answers of tickets .0 rows have none., so no variant could be judged", id="none"),
        pytest.param({"0": "", "1": ""}, "no known answers of tickets .2 rows have none.", id="none-filled"),
    ],
)
def test_nothing_is_paid_for_while_nothing_could_be_judged(tmp_path: Path, answers: dict[str, str], said: str) -> None:
    """A bad table of references showed after all documents had been sent."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.write_references(answers)

    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        with pytest.raises(ContractBroken, match=said):
            require_judgeable(lake, team.loaded)


def test_the_first_answers_may_be_judged_by_people_where_no_gate_asks_for_known_ones(tmp_path: Path) -> None:
    """An empty table of known answers is where a team begins; only what could never pass is not paid for."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.write_references({})
    del team.specification["evaluation"]["gates"]["accuracy"]
    team.write_specification()

    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        require_judgeable(lake, team.loaded)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("scorers", ["exact", "grading:strict"], "'grading:strict'", id="scorer"),
        pytest.param("scorers", ["exact", "json_schema:gone.json"], "gone.json", id="schema"),
        pytest.param("metrics", ["grading:share"], "'grading:share'", id="metric"),
        pytest.param("panels", ["grading:drawn"], "'grading:drawn'", id="panel"),
    ],
)
def test_nothing_is_paid_for_while_what_judges_cannot_be_loaded(
    tmp_path: Path, key: str, value: list[str], said: str
) -> None:
    """A misspelt function of the team's own showed when the last answer had been paid."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.specification["evaluation"][key] = value
    team.write_specification()

    with team.warehouse.open() as lake, pytest.raises(SpecificationError, match=said):
        require_judgeable(lake, team.loaded)


def test_nothing_is_paid_for_while_the_judge_is_not_what_is_pinned(tmp_path: Path) -> None:
    """Every answer would have to wait for a verdict that may not be asked for."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)
    team.specification["evaluation"]["scorers"] = ["exact", "judge:strict"]
    (team.folder / "judges").mkdir()
    (team.folder / "judges" / "strict.md").write_text(JUDGE, encoding="utf-8")
    team.write_specification()
    loaded = team.loaded
    model = loaded.judges["strict"].model

    with team.warehouse.open() as lake:
        update_documents(lake, loaded)
        require_judgeable(lake, loaded)
        lake.application(NAME).models.observe(
            entry=model,
            observed="{}",
            identity_hash="other",
            lock_hash=lock_hash(loaded.lock[model]),
            matches=False,
            mismatches="it serves 'other/model'",
            observed_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        with pytest.raises(EndpointMismatch, match=r"judge 'strict' of tickets asks, is not .*it serves 'other/model'"):
            require_judgeable(lake, loaded)


@pytest.mark.parametrize(("evaluated", "possible"), [(4, False), (12, True), (0, True)])
def test_a_gate_that_so_few_known_answers_cannot_clear_is_said_before_anything_is_sent(
    tmp_path: Path, evaluated: int, possible: bool
) -> None:
    """All four right is a lower bound of one half: a minimum of 0.7 was refused after everything was paid."""
    team = Team(tmp_path, "http://127.0.0.1:9", documents=4)

    said = out_of_reach(team.loaded.application, evaluated)

    assert (said is None) == possible
    if said is not None:
        assert said.startswith("with 4 known answers to evaluate by, the lower bound of the accuracy is 0.5")
