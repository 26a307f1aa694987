"""The page of answers: what it shows to whom, its filters, paging by key, and judging in place."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from llm_platform.operations.answering.documents import read_references
from llm_platform.operations.evidence.evaluation import score_releases
from llm_platform.operations.reviewing.review import ReviewDesk
from llm_platform.records import AnswersFilter
from llm_platform.review.app import review_app
from llm_platform.review.people import Access, Person
from llm_platform.tables.forms import one_form
from llm_platform.warehouse import answer_pages
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.review.cases import GENERATE, Clock, filled, open_lake, team_with
from llm_platform_tests.team import NAME, Team, right_answer

DOCUMENTS = 60
RIGHT = {str(number): right_answer(number) for number in range(DOCUMENTS)}
CLEAR: dict[str, str | None] = {**RIGHT, "7": "SAD", "9": None}
VAGUE: dict[str, str | None] = dict.fromkeys(RIGHT, "SAD")
REVIEWER, VIEWER = Person("ada", "reviewer"), Person("vic", "viewer")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(tmp_path_factory.mktemp("answers"), "http://127.0.0.1:9", documents=DOCUMENTS)


@pytest.fixture(scope="module")
def lake(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with open_lake(tmp_path_factory.mktemp("lake")) as lake:
        filled(lake, team.loaded, {"clear": CLEAR, "vague": VAGUE}, confidence=0.8)
        store = lake.application(NAME)
        store.references.replace(read_references(lake, team.loaded.application))
        score_releases(lake, team.loaded)
        yield lake


@pytest.fixture(scope="module")
def desk(lake: Warehouse, team: Team) -> ReviewDesk:
    return ReviewDesk(lake, team.loaded, second_opinions=1.0)


def client_of(desk: ReviewDesk, person: Person) -> TestClient:
    app = review_app({NAME: desk}, Access(local=person), hosts=("127.0.0.1",), clock=Clock())
    return TestClient(app, base_url="http://127.0.0.1")


def fields_of(page: str, form: str) -> dict[str, str]:
    """Hidden fields of the form that begins with this attribute."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page[page.index(form) :]))


def keys(desk: ReviewDesk, **wanted: object) -> list[str]:
    """Keys of all pages of a filter, in the order in which they come."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = desk.answers(AnswersFilter.model_validate({**wanted, "after": after}), REVIEWER)
        found += [row.document_id for row in page.rows]
        after = page.after
    return found


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({}, sorted(RIGHT), id="all"),
        pytest.param({"only": "invalid"}, ["9"], id="invalid"),
        pytest.param({"only": "wrong", "variant": "clear"}, ["7", "9"], id="wrong-of-one-variant"),
        pytest.param(
            {"only": "differing"},
            sorted(key for key in RIGHT if CLEAR[key] != VAGUE[key]),
            id="differing",
        ),
        pytest.param({"document_id": "5"}, sorted(key for key in RIGHT if key.startswith("5")), id="key"),
        pytest.param({"attribute": "team", "value": "red"}, sorted(key for key in RIGHT if int(key) % 2), id="slice"),
        pytest.param({"only": "invalid", "attribute": "team", "value": "blue"}, [], id="both-have-to-hold"),
    ],
)
def test_a_filter_shows_what_fits_and_nothing_else(
    desk: ReviewDesk, wanted: dict[str, object], expected: list[str]
) -> None:
    """Whoever looks for what went wrong pages through that, and meets every one once."""
    assert keys(desk, **wanted) == expected


def test_tagged_documents_are_found(desk: ReviewDesk) -> None:
    """A tag is how people collect documents to speak about."""
    with client_of(desk, REVIEWER) as client:
        page = client.get(f"/{NAME}/queue/audit").text
        fields = dict(
            re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page[page.index('id="decide"') :])
        )
        client.post(f"/{NAME}/queue/audit", data={**fields, "decision": "cannot_tell", "tag": "do not use"})

    assert keys(desk, tag="do not use") == [fields["document"]]


def test_looking_for_differences_ends_and_says_how_far_it_came(
    desk: ReviewDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a table of millions in which nothing differs, a page that looks at all of them would never come."""
    monkeypatch.setattr(answer_pages, "LOOKS", (2, 5))
    page = desk.answers(AnswersFilter(only="differing"), REVIEWER)

    assert page.looked_until == sorted(RIGHT)[4]
    assert keys(desk, only="differing") == sorted(key for key in RIGHT if CLEAR[key] != VAGUE[key])


def test_a_reviewer_reads_texts_and_a_viewer_does_not(desk: ReviewDesk) -> None:
    """Roles hold on every page: labels are on each report card, texts are for those who judge them."""
    with client_of(desk, REVIEWER) as client:
        read = client.get(f"/{NAME}/answers").text
    with client_of(desk, VIEWER) as client:
        looked = client.get(f"/{NAME}/answers").text
        refused = client.get(f"/{NAME}/answers", params={"open": "7"}).text

    assert "the printer is on fire" in read
    assert "the printer is on fire" not in looked + refused
    assert "HAPPY" in looked
    assert "Open and judge" not in looked


def test_a_viewer_learns_no_attribute_by_asking_who_has_it(desk: ReviewDesk) -> None:
    """A filter that may be tried with any value says what a document has as well as a page that shows it."""
    with client_of(desk, REVIEWER) as client:
        read = client.get(f"/{NAME}/answers").text
    with client_of(desk, VIEWER) as client:
        looked = client.get(f"/{NAME}/answers").text
        asked = client.get(f"/{NAME}/answers", params={"slice": "team=red"})

    assert "team = red" in read
    assert "team" not in looked.partition("<main")[2]
    assert asked.status_code == 403
    assert "answer-row" not in asked.text


@pytest.mark.parametrize("attribute", ["", "*", "a\\", 'a\\"b', "a/b~c"])
def test_a_group_by_an_attribute_of_any_name_is_looked_for(desk: ReviewDesk, attribute: str) -> None:
    """A name is no pattern: none of these is an attribute here, and an address that names one is no error."""
    assert keys(desk, attribute=attribute, value="red") == []


def test_a_viewer_reads_no_free_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An answer that is a text says what the document says."""
    folder = tmp_path_factory.mktemp("free")
    team = team_with(folder, documents={"0": "secret text"}, **GENERATE)
    with open_lake(folder) as lake:
        filled(lake, team.loaded, {"clear": {"0": "a summary of the secret"}})
        desk = ReviewDesk(lake, team.loaded)
        with client_of(desk, VIEWER) as client:
            looked = client.get(f"/{NAME}/answers").text
        with client_of(desk, REVIEWER) as client:
            read = client.get(f"/{NAME}/answers").text

    assert "summary of the secret" not in looked
    assert "summary of the secret" in read


def test_a_page_is_short_and_a_link_leads_to_its_document_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Dozens of endless answers made a page of megabytes; a key with a blank in front or an accent was not found."""
    folder = tmp_path_factory.mktemp("long")
    odd = {" 7": "one", "Zoe\u0301 %_[a]*": "two", "<b>&amp;\u202e": "three", "7": "four"}
    team = team_with(folder, documents=odd, **GENERATE)
    with open_lake(folder) as lake:
        answers: dict[str, str | None] = dict.fromkeys(map(one_form, odd), "short")
        filled(lake, team.loaded, {"clear": {**answers, "7": "<script>" + "long " * 40_000}})
        filled_keys = [row.document_id for row in ReviewDesk(lake, team.loaded).answers(AnswersFilter(), REVIEWER).rows]
        with client_of(ReviewDesk(lake, team.loaded), REVIEWER) as client:
            whole = client.get(f"/{NAME}/answers").text
            found = {key: client.get(f"/{NAME}/answers", params={"id": key, "open": key}).text for key in filled_keys}
            typed = client.get(f"/{NAME}/answers", params={"id": " 7 "}).text
            decomposed = client.get(f"/{NAME}/answers", params={"id": "Zoe\u0301"}).text

    assert len(filled_keys) == 4
    for key, page in found.items():
        assert f'answer-row opened" id="d-{html.escape(key)}"' in page.replace("&#34;", "&quot;")
    assert 'id="d-7"' in typed
    assert "%_[a]*" in decomposed
    assert "<script>long" not in whole
    assert len(whole) < 40_000


def test_a_verdict_is_given_where_the_answer_was_found(desk: ReviewDesk, lake: Warehouse) -> None:
    """Who meets a wrong answer says so at once, and comes back to the same place."""
    query = "only=invalid"
    with client_of(desk, REVIEWER) as client:
        page = client.get(f"/{NAME}/answers?{query}&open=9").text
        fields = dict(
            re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page[page.index('class="judge"') :])
        )
        after = client.post(
            f"/{NAME}/answers?{query}&open=9", data={**fields, "decision": "correction:HAPPY"}, follow_redirects=False
        )
        then = client.get(f"/{NAME}/answers?{query}").text

    rows = [row for row in lake.application(NAME).annotations.verdicts().to_pylist() if row["document_id"] == "9"]
    assert after.headers["location"] == f"/{NAME}/answers?{query}#d-9"
    assert {(row["answer"], row["queue"], row["blind"]) for row in rows} == {("HAPPY", "answers", False)}
    assert "ada: HAPPY" in html.unescape(then)


def test_verdicts_beside_grades_do_not_count_as_agreement(desk: ReviewDesk) -> None:
    """Who has read the known answer agrees with it; how far people agree is measured on what they said before."""
    with client_of(desk, REVIEWER) as client:
        page = client.get(f"/{NAME}/answers?open=11").text
        fields = dict(
            re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page[page.index('class="judge"') :])
        )
        client.post(f"/{NAME}/answers", data={**fields, "decision": "choice:A"})

    assert "11" not in desk._items.first_verdicts()["document_id"].to_pylist()


def test_an_unknown_filter_and_a_queue_that_is_none_are_told(desk: ReviewDesk) -> None:
    """A mistyped address says so, and is not an error of the server."""
    with client_of(desk, REVIEWER) as client:
        assert client.get(f"/{NAME}/answers?only=odd").status_code == 404
        assert client.get(f"/{NAME}/queue/answers").status_code == 404
        assert client.get(f"/{NAME}/queue/slice?attribute=team").status_code == 404
        for address in ("answers?after=%00", "answers?id=%00", "queue/random?document=a%00b", "history?by=%00"):
            assert client.get(f"/{NAME}/{address}").status_code == 404
        assert client.get(f"/{NAME}/history?before={'9' * 5000}").status_code == 200
        assert "No document fits" in client.get(f"/{NAME}/answers?id=nothing").text
