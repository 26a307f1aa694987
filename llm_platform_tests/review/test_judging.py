"""What stands beside a document, skipping, judging field by field, and changing one's mind."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from llm_platform.errors import SpecificationError
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.review.app import review_app
from llm_platform.review.people import Access, Person
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import EXTRACT, FILM, OTHER_FILM, Clock, filled, open_lake, team_with
from llm_platform_tests.team import NAME, Team

GUIDELINES = {
    "guidelines": "Read the whole ticket.\n\nIrony is what it means, not what it says.",
    "labels": {"HAPPY": "thanks somebody", "SAD": "wants something mended"},
}
TEXTS = {str(number): f"ticket {number}" for number in range(4)}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return team_with(tmp_path_factory.mktemp("judging"), documents=TEXTS, review=GUIDELINES)


@pytest.fixture
def lake(team: Team, tmp_path: Path) -> Iterator[Warehouse]:
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": dict.fromkeys(TEXTS, "SAD"), "vague": dict.fromkeys(TEXTS, "HAPPY")})
        yield lake


def client_of(lake: Warehouse, team: Team, person: Person | None = None) -> TestClient:
    desk = ReviewDesk(lake, team.loaded, second_opinions=1.0)
    access = Access(local=person or Person("ada", "reviewer"))
    app = review_app({NAME: desk}, access, hosts=("127.0.0.1",), clock=Clock())
    return TestClient(app, base_url="http://127.0.0.1")


def fields_of(page: str) -> dict[str, str]:
    form = page[page.index('id="decide"') :]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


def test_guidelines_and_meanings_stand_beside_every_document(lake: Warehouse, team: Team) -> None:
    """Two people who judge by different rules measure nothing."""
    with client_of(lake, team) as client:
        page = html.unescape(client.get(f"/{NAME}/queue/audit").text)

    for words in ("Read the whole ticket.", "Irony is what it means", "thanks somebody", "wants something mended"):
        assert words in page


def test_a_meaning_of_no_label_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    """A label that was renamed would go on being explained under its old name."""
    team = team_with(tmp_path, review={"labels": {"HAPPPY": "thanks somebody"}})

    with pytest.raises(SpecificationError, match=r"application.yaml:\d+: .*'HAPPPY'.*'HAPPY'"):
        _ = team.loaded


def test_a_skipped_document_comes_again_after_all_others(lake: Warehouse, team: Team) -> None:
    """Whoever is tired of one ticket goes on with the next, and nothing is lost or judged by it."""
    met = []
    with client_of(lake, team) as client:
        page = client.get(f"/{NAME}/queue/audit").text
        for _ in range(len(TEXTS) + 1):
            met.append(fields_of(page)["document"])
            page = client.post(f"/{NAME}/queue/audit", data={**fields_of(page), "decision": "skip"}).text

    assert sorted(met[: len(TEXTS)]) == sorted(TEXTS)
    assert met[len(TEXTS)] == met[0]
    assert lake.application(NAME).annotations.table().num_rows == 0


def test_what_one_person_skips_others_are_given(lake: Warehouse, team: Team) -> None:
    """To skip is not to hide."""
    desk = ReviewDesk(lake, team.loaded, second_opinions=1.0)
    apps = [
        review_app({NAME: desk}, Access(local=Person(name, "reviewer")), hosts=("127.0.0.1",), clock=Clock())
        for name in ("ada", "bob")
    ]
    with (
        TestClient(apps[0], base_url="http://127.0.0.1") as ada,
        TestClient(apps[1], base_url="http://127.0.0.1") as bob,
    ):
        page = ada.get(f"/{NAME}/queue/audit").text
        ada.post(f"/{NAME}/queue/audit", data={**fields_of(page), "decision": "skip"}, follow_redirects=False)

        assert fields_of(bob.get(f"/{NAME}/queue/audit").text)["document"] == fields_of(page)["document"]


def test_a_person_sees_what_they_said_and_changes_any_of_it(lake: Warehouse, team: Team) -> None:
    """A slip is noticed ten documents later, when undoing would take back the other nine."""
    with client_of(lake, team) as client:
        page = client.get(f"/{NAME}/queue/audit").text
        first = fields_of(page)["document"]
        page = client.post(f"/{NAME}/queue/audit", data={**fields_of(page), "decision": "correction:HAPPY"}).text
        client.post(f"/{NAME}/queue/audit", data={**fields_of(page), "decision": "cannot_tell"})
        mine = client.get(f"/{NAME}/verdicts").text
        again = client.get(f"/{NAME}/queue/answers", params={"document": first}).text
        client.post(f"/{NAME}/queue/answers?document={first}", data={**fields_of(again), "decision": "correction:SAD"})
        then = client.get(f"/{NAME}/verdicts").text

    assert "HAPPY" in mine
    assert "cannot tell" in mine
    assert f"/{NAME}/queue/answers?document={first}" in mine
    assert "<b>You</b>: HAPPY" in again
    assert "SAD" in then
    assert "changed since" not in mine
    assert then.count("changed since") == 1
    assert then.count(f"queue/answers?document={first}") == 1  # what was changed is not to be changed once more
    answers = {row["document_id"]: row["answer"] for row in lake.application(NAME).annotations.approved().to_pylist()}
    assert answers == {first: "SAD"}


@pytest.mark.parametrize(
    ("wrong", "answer", "marks"),
    [
        pytest.param(["B.year"], FILM, {"A": "right right", "B": "right wrong"}, id="one-answer-is-right"),
        pytest.param(["A.title", "B.title", "B.year"], None, {"A": "wrong right", "B": "wrong wrong"}, id="none"),
    ],
)
def test_an_extraction_is_judged_field_by_field(
    tmp_path: Path, wrong: list[str], answer: str | None, marks: dict[str, str]
) -> None:
    """Of twelve fields eleven are right, and "wrong" says nothing of which."""
    team = team_with(tmp_path, documents={"0": "Solaris, a film of 1972."}, **EXTRACT)
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": {"0": FILM}, "vague": {"0": OTHER_FILM}})
        with client_of(lake, team) as client:
            page = client.get(f"/{NAME}/queue/disagreements").text
            letters = _letters(page)
            data: dict[str, Any] = {**fields_of(page), "decision": "fields"}
            data["wrong"] = [f"{letters[one[0]]}.{one[2:]}" for one in wrong]
            client.post(f"/{NAME}/queue/disagreements", data=data)
        rows = lake.application(NAME).annotations.verdicts().to_pylist()

    assert {row["answer"] for row in rows} == {answer}
    said = {row["judged"]: " ".join(json.loads(row["fields"])[name] for name in ("title", "year")) for row in rows}
    assert said == {FILM: marks["A"], OTHER_FILM: marks["B"]}


def test_fields_that_contradict_each_other_are_asked_again(tmp_path: Path) -> None:
    """Two years cannot both be right; nothing is stored, and what was marked stays marked."""
    team = team_with(tmp_path, documents={"0": "Solaris, a film of 1972."}, **EXTRACT)
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": {"0": FILM}, "vague": {"0": OTHER_FILM}})
        with client_of(lake, team) as client:
            page = client.get(f"/{NAME}/queue/disagreements").text
            data = {**fields_of(page), "decision": "fields", "wrong": "A.title"}
            refused = client.post(f"/{NAME}/queue/disagreements", data=data)
        stored = lake.application(NAME).annotations.table().num_rows

    assert refused.status_code == 422
    assert "Field &#39;year&#39; differs" in refused.text
    assert 'value="A.title" checked' in refused.text
    assert stored == 0


def _letters(page: str) -> dict[str, str]:
    """A for the film of 1972, B for the other, → how the page calls them: their order is drawn."""
    first = page.index('value="A.year"') if "1972" in page else 0
    return {"A": "A", "B": "B"} if "1972" in page[page.rindex("<td ", 0, first) : first] else {"A": "B", "B": "A"}
