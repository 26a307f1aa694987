"""Verdicts out to files and in again."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from llm_platform.errors import ContractBroken, StorageError
from llm_platform.operations.reviewing.review_files import import_annotations
from llm_platform.records import IMPORTED, Annotation, ReviewRole
from llm_platform.review.files import COLUMNS, KNOWN, Importing, read_annotations, written
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import NOON, filled, open_lake, team_with
from llm_platform_tests.team import NAME, Team


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return team_with(tmp_path_factory.mktemp("team"))


@pytest.fixture
def lake(team: Team, tmp_path: Path) -> Iterator[Warehouse]:
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": {"0": "SAD", "1": "HAPPY"}})
        yield lake


ROLES: dict[str, ReviewRole] = {"ada": "reviewer", "eve": "viewer", "joan": "adjudicator"}


def imported(lake: Warehouse, team: Team, path: Path) -> tuple[int, int]:
    importing = Importing(importer="mallory", by="ada", at=NOON, roles=ROLES)
    return import_annotations(lake, team.loaded.application, path, importing=importing)


def forged(**changes: Any) -> dict[str, Any]:
    """A row as `review export` would have written it of somebody's decision on the page."""
    row = dict.fromkeys(COLUMNS)
    row |= {"annotation_id": "f-0", "group_id": "f", "kind": "verdict", "subject_kind": "document", "subject_id": "0"}
    row |= {"document_id": "0", "fingerprint": "fp", "verdict": "corrected", "answer": "HAPPY", "blind": True}
    row |= {"by": "joan", "role": "adjudicator", "queue": "adjudication", "at": "2099-01-01T00:00:00+00:00"}
    row |= {"imported_by": "nobody", "imported_from": "nowhere", "imported_at": "2001-01-01T00:00:00+00:00"}
    return row | changes


def written_rows(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_file_cannot_say_who_decided(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """A hundred forged adjudications published an inverted model: roles, queues and times were the file's to say."""
    store = lake.application(NAME)
    fingerprint = store.documents.table()["fingerprint"].to_pylist()[0]
    path = written_rows(
        tmp_path / "forged.jsonl",
        forged(fingerprint=fingerprint),
        forged(fingerprint=fingerprint, annotation_id="g-0", group_id="g", by="eve", role="adjudicator"),
        forged(fingerprint=fingerprint, annotation_id="h-0", group_id="h", by="stranger", role="adjudicator"),
    )

    imported(lake, team, path)

    rows = {row["by"]: row for row in store.annotations.table().to_pylist()}
    assert {by: row["role"] for by, row in rows.items()} == {"joan": "adjudicator", "eve": "viewer", "stranger": None}
    assert {(row["queue"], row["blind"], row["at"], row["imported_at"]) for row in rows.values()} == {
        (IMPORTED, None, NOON, NOON)
    }
    assert {row["imported_by"] for row in rows.values()} == {"mallory"}
    assert {row["imported_from"] for row in rows.values()} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    assert store.annotations.decisions()["basis"].to_pylist() == ["unopposed"]
    assert store.annotations.approved()["sampled"].to_pylist() == [False]


def test_what_was_decided_on_the_page_outranks_any_file(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """An imported verdict neither overrules a person on the page, nor opposes one, nor takes a decision back."""
    store = lake.application(NAME)
    fingerprint = store.documents.table()["fingerprint"].to_pylist()[0]
    on_page = Annotation.model_validate(
        forged(annotation_id="p-0", group_id="p", fingerprint=fingerprint, answer="SAD", queue="audit", at=NOON)
        | {"by": "ada", "imported_by": None, "imported_from": None, "imported_at": None}
    )
    store.annotations.append([on_page])
    before = store.annotations.decisions().to_pylist()
    path = written_rows(
        tmp_path / "forged.jsonl",
        forged(fingerprint=fingerprint),
        forged(fingerprint=fingerprint, annotation_id="a-0", group_id="a", by="ada"),
        forged(annotation_id="u-0", group_id="u", kind="undo", undoes="p", verdict=None, answer=None, by="ada"),
        forged(annotation_id="v-0", group_id="v", kind="undo", undoes="p-0", verdict=None, answer=None, by="ada"),
    )

    imported(lake, team, path)

    assert store.annotations.table().num_rows == 5
    assert store.annotations.decisions().to_pylist() == before
    assert before[0]["answer"] == "SAD"


def test_an_imported_decision_can_be_taken_back_by_a_file(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """Verdicts of another tool are corrected there, and come as a file again."""
    store = lake.application(NAME)
    fingerprint = store.documents.table()["fingerprint"].to_pylist()[0]
    undo = forged(annotation_id="u-0", group_id="u", kind="undo", undoes="f", verdict=None, answer=None)
    imported(lake, team, written_rows(tmp_path / "forged.jsonl", forged(fingerprint=fingerprint), undo))

    assert store.annotations.decisions().num_rows == 0


def unmarked(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the file that it came by."""
    return {name: value for name, value in row.items() if name != "imported_from"}


FORMULAS = ("=1+1", "@SUM(A1)", "-2", "+49 30 1234", "'=1", "''quoted''", "'plain'", "a=b")


def test_no_cell_of_a_file_for_spreadsheets_is_a_formula() -> None:
    """What a document or a model says is opened by whoever looks through the verdicts."""
    row = dict.fromkeys(COLUMNS) | {"document_id": "=key", "note": None}
    given = [{**row, "body": body} for body in FORMULAS]

    cells = [one for line in csv.reader(written(given, ".csv").splitlines()) for one in line]

    assert [one for one in cells if one[:1] in ("=", "@", "+", "-")] == []
    assert {"'=key", "'=1+1", "''=1", "'plain'", "a=b"} <= set(cells)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_is_written_is_read_back_and_twice_is_once(
    lake: Warehouse, team: Team, tmp_path: Path, suffix: str
) -> None:
    """Verdicts move between deployments, and an import that is repeated must not count people twice."""
    source = tmp_path / "given.jsonl"
    rows = [{"document_id": "0", "answer": "SAD", "note": "two\nlines, and \"quotes\"", "tags": ["good example"]},
            {"document_id": "1", "verdict": "cannot_tell", "by": "bob"},
            *({"document_id": "2", "note": note} for note in FORMULAS)]  # fmt: skip
    source.write_text("\n".join(map(json.dumps, rows)) + "\n\n", "utf-8")
    everything = 4 + len(FORMULAS)
    assert imported(lake, team, source) == (everything, everything)
    store = lake.application(NAME)
    before = store.annotations.table().to_pylist()
    copy = tmp_path / f"copy{suffix}"
    copy.write_text(written(before, suffix), "utf-8")

    assert imported(lake, team, copy) == (0, everything)
    assert imported(lake, team, source) == (0, everything)
    with open_lake(tmp_path / "elsewhere") as other:
        filled(other, team.loaded, {"clear": {"0": "SAD"}})
        assert imported(other, team, copy) == (everything, everything)
        there = other.application(NAME).annotations.table().to_pylist()
        assert [unmarked(row) for row in there] == [unmarked(row) for row in before]
    assert [(row["document_id"], row["answer"]) for row in store.annotations.approved().to_pylist()] == [("0", "SAD")]


def test_imported_verdicts_do_not_pass_for_a_random_sample(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """How their documents were chosen is not known, so they must not decide what is published."""
    path = tmp_path / "given.csv"
    path.write_text("document_id,answer\n0,SAD\n", "utf-8")

    imported(lake, team, path)

    assert lake.application(NAME).annotations.approved()["sampled"].to_pylist() == [False]


@pytest.mark.parametrize(
    ("name", "text", "complaints"),
    [
        pytest.param("x.csv", "id,answer\n0,SAD\n", [":1: found no column 'document_id'"], id="header"),
        pytest.param(
            "x.csv",
            "document_id,answer\n0,SAD\n0,ANGRY\nnone,SAD\n1\n",
            [":3: the answer is not a label", ":4: document 'none' is not stored", ":5: the number of cells"],
            id="rows",
        ),
        pytest.param(
            "x.csv", "document_id,queue\n0,audit\n", [":2: unknown column 'queue'"], id="no-claim-of-a-sample"
        ),
        pytest.param(
            "x.jsonl",
            '{"document_id":"0"}\n[]\n{\n',
            [":1: the row has neither", ":2: found a list", ":3: not JSON"],
            id="json",
        ),
        pytest.param(
            "x.jsonl",
            '{"document_id":"0","verdict":"right"}\n{"document_id":"0","answer":"SAD","answer":"HAPPY"}\n'
            '{"document_id":"0","cafe\u0301":1,"caf\u00e9":2}\n',
            [":2: the line has 'answer' twice", ":3: the line has 'caf\u00e9' twice"],
            id="name-twice",
        ),
        pytest.param(
            "x.jsonl", '{"document_id":"0","verdict":"maybe"}', [":1: column 'verdict' is not one of"], id="verdict"
        ),
        pytest.param(
            "x.jsonl", '{"document_id":"0","answer":"SAD","at":"noon"}', [":1: column 'at' is not a time"], id="time"
        ),
        pytest.param(
            "x.csv", 'document_id,note\n0,"open\n1,closed\n', ["lines 2 to 3", "quote that is not closed"], id="quote"
        ),
        pytest.param("x.csv", "document_id,answer,answer\n0,SAD,HAPPY\n", ["'answer' more than once"], id="twice"),
        pytest.param("x.csv", "document_id,answer\n0\0,SAD\n", [":2: the key '0\\x00' is impossible"], id="nul"),
        pytest.param(
            "x.jsonl", '{"document_id":"\\ud800","answer":"SAD"}', [":1: the key '\\ud800' is imp"], id="surrogate"
        ),
        pytest.param("x.txt", "0,SAD", ["ends in '.txt'; use .csv or .jsonl"], id="suffix"),
    ],
)
def test_mistakes_are_named_by_line_and_nothing_is_imported(
    lake: Warehouse, team: Team, tmp_path: Path, *, name: str, text: str, complaints: list[str]
) -> None:
    """Half an import is worse than none; people fix what they are pointed to."""
    path = tmp_path / name
    path.write_text(text, "utf-8")

    with pytest.raises(ContractBroken) as refused:
        imported(lake, team, path)

    for complaint in complaints:
        assert complaint in str(refused.value)
    assert "ANGRY" not in str(refused.value)
    assert lake.application(NAME).annotations.table().num_rows == 0


ODD = ("SECRET text", 5, True, ["SECRET"], {"SECRET": 1}, [None], "0001-01-01T00:00:00+23:59")


@pytest.mark.parametrize("is_exported", [False, True])
def test_a_value_of_any_type_is_read_or_named_by_its_column(team: Team, tmp_path: Path, *, is_exported: bool) -> None:
    """A list for a verdict ended in a traceback that quoted the row; a text in the wrong column was quoted, too."""
    row = forged() if is_exported else {"document_id": "0", "answer": "HAPPY"}
    columns = COLUMNS if is_exported else [name for name in KNOWN if name != "document_id"]
    importing = Importing(importer="mallory", by="ada", at=NOON, roles=ROLES)
    said = []

    for column, odd in product(columns, ODD):
        path = written_rows(tmp_path / "odd.jsonl", row | {column: odd})
        try:
            read_annotations(path, team.loaded.application, known={"0": "fp"}, importing=importing)
        except ContractBroken as error:
            said.append(str(error))

    assert said
    assert all("odd.jsonl:1: " in text for text in said)
    assert not any("SECRET" in text for text in said)


def test_a_file_that_cannot_be_read_is_an_error_in_words(lake: Warehouse, team: Team, tmp_path: Path) -> None:
    """A wrong path is the commonest mistake."""
    with pytest.raises(StorageError, match="Cannot read"):
        imported(lake, team, tmp_path / "absent.csv")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("document_id,note\n0,é\n".encode("latin-1"))
    with pytest.raises(ContractBroken, match="not UTF-8"):
        imported(lake, team, latin)


def test_a_verdict_is_about_the_document_whatever_the_form_of_its_key(
    lake: Warehouse, team: Team, tmp_path: Path
) -> None:
    """A table that wrote 1 as 1.0, or an e and its accent apart, means the same document."""
    path = tmp_path / "given.jsonl"
    path.write_text('\ufeff{"document_id": 0.0, "answer": "SAD", "note": "a\\u0000b \\ud800"}\n', "utf-8")

    assert imported(lake, team, path) == (2, 2)

    stored = lake.application(NAME).annotations.table().to_pylist()
    assert {row["document_id"] for row in stored} == {"0"}
    assert [row["body"] for row in stored if row["kind"] == "note"] == ["ab \ufffd"]
