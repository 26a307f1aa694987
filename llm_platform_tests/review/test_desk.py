"""What a person is given to judge, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llm_platform.errors import ContractBroken, StorageError
from llm_platform.operations.answering.documents import read_references, update_documents
from llm_platform.operations.reviewing.review import CLAIM_SECONDS, ReviewDesk
from llm_platform.records import AnswersFilter, ReviewQueue, Verdict
from llm_platform.review.desk import Opened, Submitted
from llm_platform.review.items import ReviewDecision
from llm_platform.review.people import Person
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.kept import KeptTeam
from llm_platform_tests.review.cases import (
    EXTRACT,
    FILM,
    GENERATE,
    NOON,
    OTHER_FILM,
    Clock,
    filled,
    open_lake,
    team_with,
)
from llm_platform_tests.team import NAME, Team, right_answer
from llm_platform_tests.warehouse.conftest import sqlite_location

ADA, BOB, EVE = Person("ada", "reviewer"), Person("bob", "reviewer"), Person("eve", "adjudicator")
AUDIT, DISAGREEMENTS = ReviewQueue(name="audit"), ReviewQueue(name="disagreements")
MINE, ADJUDICATION = ReviewQueue(name="mine"), ReviewQueue(name="adjudication")
CLEAR = {"0": "SAD", "1": "HAPPY", "2": "SAD", "3": "HAPPY"}
VAGUE = {"0": "SAD", "1": "SAD", "2": "HAPPY", "3": None}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> KeptTeam[Team]:
    """A team whose two variants have answered."""
    team = team_with(tmp_path_factory.mktemp("desk") / "team")
    with open_lake(team.root) as lake:
        filled(lake, team.loaded, {"clear": CLEAR, "vague": VAGUE}, confidence=0.6)
    return KeptTeam(team)


@pytest.fixture
def team(kept: KeptTeam[Team]) -> Team:
    return kept.put_back()


@pytest.fixture
def lake(team: Team) -> Iterator[Warehouse]:
    with open_lake(team.root) as lake:
        yield lake


class Room:
    """People at one desk, where time passes only when a test says so."""

    def __init__(self, lake: Warehouse, team: Team, *, second_opinions: float = 0.0) -> None:
        self.store = lake.application(NAME)
        self.seconds = 0.0
        self.clock = Clock()
        self.desk = ReviewDesk(lake, team.loaded, second_opinions=second_opinions, clock=lambda: self.seconds)

    def opened(self, person: Person, queue: ReviewQueue = AUDIT) -> Opened | None:
        return self.desk.open(person, queue)

    def say(
        self, person: Person, opened: Opened | None, answer: str | None, queue: ReviewQueue = AUDIT, **extra: object
    ) -> str:
        """Hold an answer right; None is 'none of these'. Returns the document."""
        assert opened is not None
        item = opened.item
        letter = next((choice.letter for choice in item.choices if choice.answer == answer and answer), None)
        kind = "none" if answer is None else "choice" if letter else "correction"
        decision = ReviewDecision(kind, letter, answer)  # type: ignore[arg-type]
        values: dict[str, object] = {
            "document_id": item.document_id, "shown": item.shown, "decision": decision, "queue": queue,
            "group_id": f"{person.name}-{self.clock().isoformat()}", "blind": True, "tags": [], "note": "",
        }  # fmt: skip
        self.desk.decide(person, Submitted(**(values | extra)), at=self.clock())  # type: ignore[arg-type]
        return item.document_id

    def work_off(self, person: Person, queue: ReviewQueue, answers: dict[str, str]) -> list[str]:
        """Judge until nothing waits; returns the documents in their order."""
        seen = []
        while (opened := self.opened(person, queue)) is not None:
            seen.append(self.say(person, opened, answers[opened.item.document_id], queue))
        return seen


@pytest.fixture
def room(lake: Warehouse, team: Team) -> Room:
    return Room(lake, team)


RIGHT = {"0": "SAD", "1": "HAPPY", "2": "SAD", "3": "HAPPY"}


def test_a_queue_gives_each_of_its_documents_once(room: Room) -> None:
    """People lose trust in a list that asks again what they have said."""
    assert sorted(room.work_off(ADA, DISAGREEMENTS, RIGHT)) == ["1", "2", "3"]
    assert room.work_off(ADA, AUDIT, RIGHT) == ["0"]
    assert room.opened(ADA, AUDIT) is None


def test_a_verdict_is_a_row_per_answer_with_who_when_where_and_on_which_release(room: Room, team: Team) -> None:
    """What is learned from a verdict depends on exactly which answer was judged, and on how it came up."""
    document = room.say(ADA, room.opened(ADA, DISAGREEMENTS), "HAPPY", DISAGREEMENTS)

    rows = {row["release_id"]: row for row in room.store.annotations.verdicts().to_pylist()}

    given = {"clear": CLEAR[document], "vague": VAGUE[document]}
    for variant, answer in given.items():
        row = rows[team.loaded.release(variant, room.store).release_id]  # type: ignore[union-attr]
        assert row["verdict"] == (Verdict.RIGHT if answer == "HAPPY" else Verdict.WRONG)
        assert (row["judged"], row["answer"]) == (answer, "HAPPY")
        assert (row["by"], row["queue"], row["blind"], row["role"]) == ("ada", "disagreements", True, "reviewer")
        assert row["at"] > NOON
        assert row["fingerprint"]
    assert len(rows) == 2


def test_undo_takes_the_newest_decision_back_and_the_document_waits_again(room: Room) -> None:
    """A wrong key is pressed sooner or later; the history still shows both."""
    first = room.say(ADA, room.opened(ADA), "HAPPY", note="hm", tags=["Good  Example"])
    second = room.say(ADA, room.opened(ADA), "SAD")

    assert room.desk.undo(ADA, at=room.clock()) == ("audit", second)
    assert room.desk.undo(ADA, at=room.clock()) == ("audit", first)
    assert room.desk.undo(ADA, at=room.clock()) is None
    assert room.store.annotations.verdicts().num_rows == 0
    assert room.store.annotations.tagged("good example").num_rows == 0
    assert [row["undone"] for row in room.desk.history(by=None, before=None)] == [True, True]
    reopened = room.opened(ADA)
    assert reopened is not None
    assert reopened.item.document_id == first


def test_nobody_undoes_what_somebody_else_decided(room: Room) -> None:
    """Undo is for one's own slips."""
    room.say(ADA, room.opened(ADA), "HAPPY")

    assert room.desk.undo(BOB, at=room.clock()) is None
    assert room.store.annotations.verdicts().num_rows == 2


def test_a_form_that_is_sent_twice_counts_once(room: Room) -> None:
    """Browsers send again after a lost connection, and people click twice."""
    opened = room.opened(ADA)

    room.say(ADA, opened, "HAPPY", group_id="one form")
    room.say(ADA, opened, "HAPPY", group_id="one form")

    assert room.store.annotations.verdicts().num_rows == 2


def test_two_people_are_given_different_documents_until_one_goes_away(room: Room) -> None:
    """Two people on one document do half the work; one who went home must not keep a document for ever."""
    first, second = room.opened(ADA), room.opened(BOB)
    assert first is not None
    assert second is not None
    assert first.item.document_id != second.item.document_id

    room.seconds += CLAIM_SECONDS + 1

    third = room.opened(BOB)
    assert third is not None
    assert third.item.document_id == first.item.document_id


def test_a_share_of_documents_is_given_to_two_people(lake: Warehouse, team: Team) -> None:
    """Agreement can be measured only where two judged the same, before they saw each other's verdict."""
    room = Room(lake, team, second_opinions=1.0)

    assert len(room.work_off(ADA, AUDIT, RIGHT)) == 4
    assert len(room.work_off(BOB, AUDIT, RIGHT)) == 4
    assert room.work_off(EVE, AUDIT, RIGHT) == []
    assert room.desk.agreements()[0].agreed == 1.0


def test_disagreement_comes_back_to_the_first_and_goes_to_the_adjudicator(lake: Warehouse, team: Team) -> None:
    """What two people see differently is settled by talking, not by whoever came last."""
    room = Room(lake, team, second_opinions=1.0)
    document = room.say(ADA, room.opened(ADA), "HAPPY")
    room.say(BOB, room.opened(BOB), "SAD", note="look at the end")

    mine = room.opened(ADA, MINE)

    assert mine is not None
    assert mine.item.document_id == document
    assert [(one.who, one.answer) for one in mine.opinions] == [("You", "HAPPY"), ("Person 1", "SAD")]
    assert mine.opinions[1].notes == "look at the end"
    assert room.opened(BOB, MINE) is None  # nobody has said anything after him
    assert room.store.annotations.approved().num_rows == 0

    room.say(EVE, room.opened(EVE, ADJUDICATION), "SAD", ADJUDICATION)

    decided = room.store.annotations.approved().to_pylist()
    assert [(row["answer"], row["basis"]) for row in decided] == [("SAD", "adjudicated")]
    assert room.opened(ADA, MINE) is None
    assert room.opened(EVE, ADJUDICATION) is None


def test_changing_ones_mind_settles_a_disagreement_but_not_the_measured_agreement(lake: Warehouse, team: Team) -> None:
    """Agreement after seeing the other's verdict is no evidence that the question is clear."""
    room = Room(lake, team, second_opinions=1.0)
    room.say(ADA, room.opened(ADA), "HAPPY")
    room.say(BOB, room.opened(BOB), "SAD")

    room.say(ADA, room.opened(ADA, MINE), "SAD", MINE)

    assert [row["basis"] for row in room.store.annotations.approved().to_pylist()] == ["unopposed"]
    assert room.desk.agreements()[0].agreed == 0.0


def test_a_verdict_against_the_known_answer_goes_to_the_adjudicator(lake: Warehouse, team: Team) -> None:
    """Tables of known answers hold mistakes; one reviewer alone does not overrule them."""
    store = lake.application(NAME)
    store.references.replace(read_references(lake, team.loaded.application))
    room = Room(lake, team)
    document = room.say(ADA, room.opened(ADA), "HAPPY")
    known = right_answer(int(document))
    room.desk.undo(ADA, at=room.clock())
    wrong = "SAD" if known == "HAPPY" else "HAPPY"
    room.say(ADA, room.opened(ADA), wrong)
    room.say(ADA, room.opened(ADA), right_answer(int(room.opened(ADA).item.document_id)))  # type: ignore[union-attr]

    opened = room.opened(EVE, ADJUDICATION)

    assert opened is not None
    assert (opened.item.document_id, opened.reference) == (document, known)
    assert opened.progress.waiting == 1
    answers = {row["document_id"]: row for row in read_references(lake, team.loaded.application).to_pylist()}
    assert answers[document]["answer"] == known

    room.say(EVE, opened, wrong, ADJUDICATION)

    answers = {row["document_id"]: row for row in read_references(lake, team.loaded.application).to_pylist()}
    assert (answers[document]["answer"], answers[document]["provenance"]) == (wrong, "adjudicated")


def test_a_text_that_changed_meanwhile_is_not_judged_by_the_old_page(room: Room, lake: Warehouse, team: Team) -> None:
    """A verdict on one text must never stand for another one."""
    opened = room.opened(ADA)
    assert opened is not None
    document = opened.item.document_id
    team.write_documents({key: Team.text(int(key), note="changed" if key == document else "") for key in RIGHT})
    update_documents(lake, team.loaded)

    with pytest.raises(ContractBroken, match="changed since the page was opened"):
        room.say(ADA, opened, "HAPPY")

    assert room.store.annotations.table().num_rows == 0


def test_a_verdict_does_not_follow_a_document_to_its_new_text(room: Room, lake: Warehouse, team: Team) -> None:
    """Known answers are for texts, not for keys."""
    document = room.say(ADA, room.opened(ADA), "HAPPY")
    assert room.store.annotations.approved()["document_id"].to_pylist() == [document]

    team.write_documents({key: Team.text(int(key), note="changed" if key == document else "") for key in RIGHT})
    update_documents(lake, team.loaded)

    assert room.store.annotations.approved().num_rows == 0
    assert room.store.annotations.verdicts().num_rows == 2


def test_nothing_is_lost_when_several_people_decide_at_once(lake: Warehouse, team: Team) -> None:
    """Two reviewers press a key in the same second; both verdicts count."""
    room = Room(lake, team, second_opinions=1.0)
    people = [Person(f"person {number}", "reviewer") for number in range(6)]
    opened = room.opened(people[0])

    with ThreadPoolExecutor(len(people)) as pool:
        list(pool.map(lambda person: room.say(person, opened, "HAPPY", group_id=person.name), people))

    assert set(room.store.annotations.verdicts()["by"].to_pylist()) == {person.name for person in people}
    assert room.store.annotations.verdicts().num_rows == 12


def test_verdicts_of_another_process_are_taken_in(room: Room, lake: Warehouse, team: Team) -> None:
    """Two servers, or a server and an import, work on one lake."""
    elsewhere = Room(lake, team)
    assert room.opened(ADA) is not None

    judged = elsewhere.work_off(BOB, AUDIT, RIGHT)

    assert len(judged) == 4
    assert room.opened(ADA) is None
    assert len(room.desk.history(by="bob", before=None)) == 4


def test_free_text_comes_back_when_a_release_answers_anew(tmp_path: Path) -> None:
    """Of free text every answer is judged by itself; a label that is known to be right needs no second look."""
    team = team_with(tmp_path, **GENERATE)
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": {"0": "A printer burns."}})
        room = Room(lake, team)
        room.say(ADA, room.opened(ADA), "A printer burns.")
        assert room.opened(ADA) is None

        filled(lake, team.loaded, {"vague": {"0": "Fire in the printer."}})
        room.seconds += 3600

        again = room.opened(ADA)
        assert again is not None
        assert {choice.answer for choice in again.item.choices} == {"A printer burns.", "Fire in the printer."}


def test_extracted_fields_that_differ_only_in_an_absent_one_are_one_answer(tmp_path: Path) -> None:
    """A model that leaves an empty field out says the same as one that writes null."""
    team = team_with(tmp_path, **EXTRACT)
    with open_lake(tmp_path) as lake:
        filled(
            lake,
            team.loaded,
            {
                "clear": {"0": '{"title":"Solaris"}', "1": FILM},
                "vague": {"0": '{"title":"Solaris","year":null}', "1": OTHER_FILM},
            },
        )
        room = Room(lake, team)

        opened = room.opened(ADA, DISAGREEMENTS)

        assert opened is not None
        assert opened.item.document_id == "1"
        assert len(opened.item.choices) == 2


def test_whoever_looks_at_a_document_is_in_the_access_log(room: Room, team: Team) -> None:
    """By their own name, for every page that shows a text or an answer; progress and history show neither."""
    opened = room.opened(ADA)
    assert opened is not None
    page = room.desk.answers(AnswersFilter(), BOB)
    room.desk.opened("2", EVE)
    room.desk.overview(ADA)
    room.desk.history(by=None, before=None)

    looks = [(row["by"], row["way"]) for row in room.store.reads.table().to_pylist()]

    assert looks[0] == ("ada", "review page: audit")
    assert looks[1:-1] == [("bob", "review page: answers")] * len(page.rows)
    assert looks[-1] == ("eve", "review page: opened answer")
    assert len(page.rows) > 2


def test_what_cannot_be_written_down_is_not_shown(team: Team, lake: Warehouse) -> None:
    """A log that may fail silently proves nothing."""
    with Warehouse.attach(sqlite_location(team.root), read_only=True) as unwritable:
        desk = ReviewDesk(unwritable, team.loaded)
        for look in (
            lambda: desk.open(ADA, AUDIT),
            lambda: desk.answers(AnswersFilter(), ADA),
            lambda: desk.opened("2", ADA),
        ):
            with pytest.raises(StorageError):
                look()
