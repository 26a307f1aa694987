"""Predictions of another system as a variant: stored, judged and compared, and neither asked for nor published."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import ContractBroken, EvidenceMissing, SpecificationError, TransientError
from llm_platform.operations.answering.columns import column_mistakes, source_reader
from llm_platform.operations.answering.documents import update_documents
from llm_platform.operations.answering.recorded import recorded_answers, store_recorded
from llm_platform.operations.evidence.evaluation import judged_releases
from llm_platform.operations.release.plan import plan
from llm_platform.operations.release.rollout import promote
from llm_platform.records import CompletionStatus
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import team_with
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.conftest import sqlite_location

DOCUMENTS = {"a": "first", "b": "second", "c": "third", "d": "third", "e": ""}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse.attach(sqlite_location(tmp_path), threads=1) as warehouse:
        yield warehouse


def recorded_team(folder: Path, rows: list[dict[str, Any]], predictions: Any = "legacy.csv", **spec: Any) -> Team:
    team = team_with(folder, documents=DOCUMENTS, **spec)
    team.specification["variants"]["legacy"] = {"predictions": predictions}
    write(team, rows)
    team.write_specification()
    return team


def write(team: Team, rows: list[dict[str, Any]]) -> None:
    with (team.folder / "legacy.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def stored(lake: Warehouse, team: Team) -> dict[str, tuple[str, str | None, float | None, str | None]]:
    loaded = team.loaded
    update_documents(lake, loaded)
    store = lake.application(NAME)
    store_recorded(store, recorded_answers(lake, loaded, "legacy"))
    rows = store.completions.of_release(loaded.recorded["legacy"].release_id).to_pylist()
    return {row["document_id"]: (row["status"], row["answer"], row["confidence"], row["reason"]) for row in rows}


def test_recorded_answers_are_stored_as_those_of_a_release_of_their_own(tmp_path: Path, lake: Warehouse) -> None:
    """What another system said, in its words or ours; what it did not say is not invented."""
    team = recorded_team(
        tmp_path,
        [
            {"ticket": "a", "mood": "pos", "sure": "0.9"},
            {"ticket": "b", "mood": "angry", "sure": "0.8"},
            {"ticket": "c", "mood": "", "sure": ""},
            {"ticket": "zz", "mood": "pos", "sure": ""},
        ],
        {"url": "legacy.csv", "key": "ticket", "answer": "mood", "confidence": "sure", "labels": {"pos": "HAPPY"}},
    )

    rows = stored(lake, team)

    found = recorded_answers(lake, team.loaded, "legacy")
    assert rows == {
        "a": (CompletionStatus.VALID, "HAPPY", 0.9, None),
        "b": (CompletionStatus.INVALID, None, None, "the recorded answer is none of the labels"),
        "c": (CompletionStatus.INVALID, None, None, "no answer was recorded"),
    }
    assert (found.rows, found.predicted, found.unknown) == ([], 4, 1)
    assert lake.application(NAME).completions.usage(team.loaded.recorded["legacy"].release_id).total == 0


def test_a_recording_is_what_its_file_and_mapping_say(tmp_path: Path) -> None:
    """Other answers, or answers read otherwise, are other evidence; the same ones under another name are not."""
    rows = [{"document_id": "a", "answer": "HAPPY"}]
    team = recorded_team(tmp_path, rows)
    first = team.loaded.recorded["legacy"].release_id

    team.specification["variants"]["old_rules"] = team.specification["variants"].pop("legacy")
    team.write_specification()
    renamed = team.loaded.recorded["old_rules"].release_id
    team.specification["variants"]["old_rules"] = {"predictions": {"url": "legacy.csv", "labels": {"HAPPY": "SAD"}}}
    team.write_specification()
    mapped = team.loaded.recorded["old_rules"].release_id
    team.specification["variants"]["old_rules"] = {"predictions": "legacy.csv"}
    team.write_specification()
    write(team, [{"document_id": "a", "answer": "SAD"}])
    changed = team.loaded.recorded["old_rules"].release_id

    assert renamed == first
    assert len({first, mapped, changed}) == 3


def test_a_text_that_has_changed_is_not_answered_by_what_was_said_before(tmp_path: Path, lake: Warehouse) -> None:
    """The other system has never read it."""
    team = recorded_team(tmp_path, [{"document_id": "a", "answer": "HAPPY"}, {"document_id": "b", "answer": "SAD"}])
    stored(lake, team)

    team.write_documents({**DOCUMENTS, "a": "another text"})
    update_documents(lake, team.loaded)
    found = recorded_answers(lake, team.loaded, "legacy")

    assert (found.rows, found.moved) == ([], 1)


def test_a_file_that_is_written_while_it_is_read_is_read_again(tmp_path: Path, lake: Warehouse) -> None:
    """Its answers would be stored as those of the file before."""
    team = recorded_team(tmp_path, [{"document_id": "a", "answer": "HAPPY"}])
    loaded = team.loaded
    update_documents(lake, loaded)

    write(team, [{"document_id": "a", "answer": "SAD"}])

    with pytest.raises(TransientError, match="were written while they were read"):
        recorded_answers(lake, loaded, "legacy")
    assert recorded_answers(lake, team.loaded, "legacy").rows[0].answer == "SAD"


def test_equal_texts_have_one_answer_and_others_are_counted(tmp_path: Path, lake: Warehouse) -> None:
    """The ledger holds one answer a text; which one does not depend on the order of the file."""
    team = recorded_team(tmp_path, [{"document_id": "d", "answer": "SAD"}, {"document_id": "c", "answer": "HAPPY"}])
    update_documents(lake, team.loaded)

    found = recorded_answers(lake, team.loaded, "legacy")

    assert [(row.document_id, row.answer) for row in found.rows] == [("c", "HAPPY")]
    assert found.unequal == 1


EXTRACT = {
    "task": "extract",
    "labels": [],
    "fields": {
        "total": {"type": "number"},
        "paid": {"type": "enum", "values": ["CASH", "CARD"], "required": False},
        "items": {"type": "list", "required": False},
    },
    "references": {"url": "../../known.csv", "key": "ticket", "answer": "mood"},
}


@pytest.mark.parametrize(
    ("rows", "predictions"),
    [
        pytest.param(
            [
                {"document_id": "a", "sum": "9.50", "paid": "CASH", "items": "tea\nmilk", "clerk": "x"},
                {"document_id": "b", "sum": "many", "paid": "", "items": "", "clerk": "x"},
            ],
            {"url": "legacy.csv", "fields": {"sum": "total"}},
            id="columns",
        ),
        pytest.param(
            [
                {"document_id": "a", "said": '{"sum": 9.5, "paid": "CASH", "items": ["tea", "milk"], "clerk": "x"}'},
                {"document_id": "b", "said": "{"},
            ],
            {"url": "legacy.csv", "answer": "said", "fields": {"sum": "total"}},
            id="objects",
        ),
    ],
)
def test_fields_of_an_extraction_are_read_by_their_types(
    tmp_path: Path, lake: Warehouse, rows: list[dict[str, Any]], predictions: dict[str, Any]
) -> None:
    """A file of text holds no numbers; an answer that is right but for its quotes is right."""
    team = recorded_team(tmp_path, rows, predictions, **EXTRACT)

    found = stored(lake, team)

    assert json.loads(found["a"][1] or "") == {"total": 9.5, "paid": "CASH", "items": ["tea", "milk"]}
    assert found["b"][0] == CompletionStatus.INVALID


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([{"document_id": "a", "label": "SAD"}], "have no column 'answer'", id="column"),
        pytest.param(
            [{"document_id": "a", "answer": "SAD"}] * 2, "0 rows have no 'document_id' and 1 repeat", id="twice"
        ),
        pytest.param([{"document_id": "", "answer": "SAD"}], "1 rows have no 'document_id'", id="no-key"),
        pytest.param(
            [{"document_id": "a", "answer": "SAD", "confidence": "87"}], "no probability in \\[0, 1\\]", id="confidence"
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, lake: Warehouse, rows: list[dict[str, Any]], said: str
) -> None:
    """Half a recording would make its system look worse than it is; the plan says so and goes on."""
    team = recorded_team(tmp_path, rows)
    update_documents(lake, team.loaded)

    with pytest.raises(ContractBroken, match=said):
        recorded_answers(lake, team.loaded, "legacy")
    assert any(step.asset == "completions_legacy" for step in plan(lake, team.loaded))


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        pytest.param({"predictions": "gone.csv"}, "found predictions 'gone.csv'; allowed: a file in", id="no-file"),
        pytest.param(
            {"predictions": "legacy.csv", "prompt": "clear"},
            "found key 'prompt' in variants.legacy; allowed: 'predictions'",
            id="also-a-prompt",
        ),
        pytest.param(
            {"predictions": {"url": "legacy.csv", "labels": {"pos": "HAPY"}}},
            "found label 'HAPY'; allowed: 'HAPPY', 'SAD'; did you mean 'HAPPY'?",
            id="no-label",
        ),
        pytest.param(
            {"predictions": {"url": "legacy.csv", "kee": "id"}},
            "found key 'kee' in variants.legacy.predictions; allowed: 'url', 'key', 'answer', 'confidence', 'labels', "
            "'fields'; did you mean 'key'?",
            id="unknown-key",
        ),
    ],
)
def test_a_mistake_in_a_recorded_variant_is_reported_at_its_line(
    tmp_path: Path, variant: dict[str, Any], said: str
) -> None:
    """It stands among the variants, and its mistakes do, too."""
    team = recorded_team(tmp_path, [{"document_id": "a", "answer": "SAD"}])
    team.specification["variants"]["legacy"] = variant
    team.write_specification()

    with pytest.raises(SpecificationError) as raised:
        _ = team.loaded

    lines = (team.folder / "application.yaml").read_text(encoding="utf-8").split("\n")
    path, line, text = str(raised.value).split(":", maxsplit=2)
    assert path.endswith("application.yaml")
    assert text.strip().startswith(said)
    assert "legacy" in "\n".join(lines[int(line) - 4 : int(line)])


def test_columns_of_a_recording_are_looked_for_by_check(tmp_path: Path) -> None:
    """The run would end with the same words, after everything else was asked."""
    team = recorded_team(tmp_path, [{"ticket": "a", "answer": "SAD"}], {"url": "legacy.csv", "confidence": "sure"})

    with source_reader({}) as reader:
        mistakes, _ = column_mistakes(team.loaded.application, reader)

    assert [mistake.text.partition(";")[0] for mistake in mistakes if "legacy.csv" in mistake.text] == [
        "found column 'document_id', which 'legacy.csv' does not have",
        "found column 'sure', which 'legacy.csv' does not have",
    ]


def test_a_recording_alone_is_no_application(tmp_path: Path) -> None:
    """Nothing would ever answer a new document."""
    team = recorded_team(tmp_path, [{"document_id": "a", "answer": "SAD"}])
    team.specification["variants"] = {"legacy": {"predictions": "legacy.csv"}}
    team.write_specification()

    with pytest.raises(SpecificationError, match="at least one with a prompt and a model"):
        _ = team.loaded


def test_a_recording_is_judged_and_never_published(tmp_path: Path, lake: Warehouse) -> None:
    """It cannot answer the next document, so a table that it served would stop at today's."""
    team = recorded_team(tmp_path, [{"document_id": key, "answer": "HAPPY"} for key in DOCUMENTS])
    stored(lake, team)
    loaded, store = team.loaded, lake.application(NAME)

    judged = judged_releases(store, loaded)

    assert list(judged) == ["clear", "vague", "legacy"]
    with pytest.raises(EvidenceMissing, match="cannot answer the next document"):
        promote(store, loaded, "legacy", release=judged["legacy"], by="test")


def test_recorded_keys_meet_documents_whatever_the_form_of_either(tmp_path: Path, lake: Warehouse) -> None:
    """A file of another system has 1.0 where the table has 1, or writes accents apart."""
    team = recorded_team(tmp_path, [{"document_id": "x", "answer": "SAD"}], "legacy.jsonl")
    team.write_documents({"1": "first", "caf\u00e9": "second"})
    lines = ({"document_id": 1.0, "answer": "HAPPY"}, {"document_id": "cafe\u0301", "answer": "SAD"})
    (team.folder / "legacy.jsonl").write_text("\ufeff" + "".join(json.dumps(line) + "\n" for line in lines))

    rows = stored(lake, team)

    assert {key: row[1] for key, row in rows.items()} == {"1": "HAPPY", "caf\u00e9": "SAD"}
