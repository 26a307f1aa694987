"""Answers side by side, corrections, differences, and agreement: the parts without a lake."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from llm_platform.application.output import OutputField
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.records import Verdict
from llm_platform.review.agreement import agreement, agreements
from llm_platform.review.corrections import field_value
from llm_platform.review.differences import MarkedText, differing, quoted
from llm_platform.review.items import GivenAnswer, Item, Occasion, ReviewDecision, choices_of, clean_tag, verdict_rows
from llm_platform.review.people import Access, Person, access, read_people, token_hash
from llm_platform_tests.review.cases import GENERATE, NOON, team_with


def item(application: object, *answers: str | None) -> Item:
    given = [GivenAnswer(f"r{number}", f"v{number}", answer, None, "cut") for number, answer in enumerate(answers)]
    return Item("7", "f", "text", {}, choices_of("f", given, application))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        pytest.param(
            ReviewDecision("choice", "?"), {"r0": "right", "r1": "wrong", "r2": "right", "r3": "wrong"}, id="choice"
        ),
        pytest.param(ReviewDecision("all"), {"r0": "right", "r1": "right", "r2": "right", "r3": "wrong"}, id="all"),
        pytest.param(ReviewDecision("none"), dict.fromkeys(("r0", "r1", "r2", "r3"), "wrong"), id="none"),
        pytest.param(
            ReviewDecision("correction", None, "C"),
            dict.fromkeys(("r0", "r1", "r2", "r3"), "corrected"),
            id="correction",
        ),
        pytest.param(
            ReviewDecision("correction", None, "two"),
            {"r0": "corrected", "r1": "right", "r2": "corrected", "r3": "corrected"},
            id="correction-that-somebody-gave",
        ),
        pytest.param(
            ReviewDecision("cannot_tell"), dict.fromkeys(("r0", "r1", "r2", "r3"), "cannot_tell"), id="cannot-tell"
        ),
    ],
)
def test_a_decision_is_a_verdict_on_every_answer_that_was_shown(
    tmp_path: Path, decision: ReviewDecision, expected: dict[str, str]
) -> None:
    """Judges and reports learn from each release's own verdict, not from the one that was clicked."""
    application = team_with(tmp_path, **GENERATE).loaded.application
    shown = item(application, "one", "two", "one", None)
    letter = next(choice.letter for choice in shown.choices if choice.answer == "one")
    chosen = ReviewDecision(decision.kind, letter if decision.letter else None, decision.answer)

    rows = verdict_rows(shown, chosen, Occasion("ada", "reviewer", NOON, "audit", True, "g"), application)

    assert {row.release_id: row.verdict for row in rows} == {key: Verdict(value) for key, value in expected.items()}
    assert len({row.annotation_id for row in rows}) == 4


def test_the_order_of_answers_says_nothing_about_who_gave_them(tmp_path: Path) -> None:
    """If the champion always came first, A would be a name."""
    application = team_with(tmp_path).loaded.application
    first = set()
    for number in range(40):
        given = [GivenAnswer("r0", "champion", "HAPPY", None, None), GivenAnswer("r1", "other", "SAD", None, None)]
        first.add(choices_of(f"text {number}", given, application)[0].names)

    assert first == {"champion", "other"}


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        pytest.param("integer", " 42 ", 42, id="integer"),
        pytest.param("number", "12.5", 12.5, id="number"),
        pytest.param("boolean", "Yes", True, id="boolean"),
        pytest.param("date", "2026-03-31", "2026-03-31", id="date"),
        pytest.param("list", "a\n\n b ", ["a", "b"], id="list"),
        pytest.param("string", "", None, id="empty"),
    ],
)
def test_typed_fields_become_what_models_answer(kind: str, text: str, expected: object) -> None:
    """A correction is compared with answers, so it has their form."""
    field = OutputField.model_validate({"type": kind, "required": False})

    assert field_value(text, "x", field) == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", "4.5"),
        ("number", "nan"),
        ("number", "many"),
        ("boolean", "perhaps"),
        ("date", "31.3.2026"),
        ("string", "x" * 9),
        ("string", " "),
    ],
)
def test_impossible_fields_are_named_and_not_quoted(kind: str, text: str) -> None:
    """The message may end in a log; what people type about a document may not."""
    limit = {"max_length": 8} if kind == "string" else {}

    with pytest.raises(ContractBroken, match="Field 'x'") as refused:
        field_value(text, "x", OutputField.model_validate({"type": kind, **limit}))

    assert text.strip() == "" or text not in str(refused.value)


def test_differences_mark_words_and_keep_every_character() -> None:
    """A mark that eats a space or a letter would change the answer that is judged."""
    mine, other = "It won the  Grand Prix, twice.", "It won a prize, twice."

    pieces = differing(mine, other)

    assert "".join(piece.text for piece in pieces) == mine
    assert [piece.text.strip() for piece in pieces if piece.marked] == ["the  Grand Prix"]
    assert quoted("Solaris, 1972. solaris!", ["Solaris", "72"]) == [
        MarkedText("Solaris", True), MarkedText(", 1972. "), MarkedText("solaris", True), MarkedText("!"),
    ]  # fmt: skip


def test_kappa_is_that_of_the_textbook_and_of_scikit_learn() -> None:
    """An own formula needs a witness. Example: Cohen 1960 as in Sim and Wright 2005, 2x2 with 22, 4, 2, 11."""
    from sklearn.metrics import cohen_kappa_score

    said = [("a", "a")] * 22 + [("a", "b")] * 2 + [("b", "a")] * 4 + [("b", "b")] * 11
    found = agreement("ada", "bob", said)
    assert found.kappa == pytest.approx(0.67, abs=0.005)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.kappa < found.upper

    drawn = random.Random(5)
    for _ in range(20):
        said = [(drawn.choice("abc"), drawn.choice("abc")) for _ in range(30)]
        assert agreement("a", "b", said).kappa == pytest.approx(cohen_kappa_score(*zip(*said, strict=True)))
    assert agreement("a", "b", [("x", "x")] * 9).kappa is None
    assert math.isnan(agreement("a", "b", []).agreed)


def test_agreement_leaves_out_what_somebody_could_not_tell() -> None:
    """Not knowing is no opinion; two who do not know do not agree."""
    said = {"ada": {"1": "A", "2": None, "3": "A"}, "bob": {"1": "A", "2": None}, "eve": {"4": "A"}}
    rows = [
        {
            "by": by,
            "fingerprint": text,
            "judged": "A",
            "answer": answer,
            "verdict": "right" if answer else "cannot_tell",
        }
        for by, answers in said.items()
        for text, answer in answers.items()
    ]

    found = agreements(rows, by_label=True)

    assert [(one.first, one.second, one.documents) for one in found] == [("ada", "bob", 1)]


def test_the_people_file_is_read_or_every_mistake_is_named(tmp_path: Path) -> None:
    """Who may judge is a decision that must not depend on a typing error."""
    file = tmp_path / "people"
    # An editor of another system's puts a mark at the beginning, and two characters at a line's end.
    text = f"ada adjudicator {token_hash('t')}\r\n# our team\r\nbob viewer  # by the proxy\r\n\r\n"
    file.write_bytes(text.encode("utf-8-sig"))
    assert Access(people=read_people(file)).of_token("t") == Person("ada", "adjudicator")

    zeros = "0" * 64
    wrong = ("ada boss", "bob", "bob reviewer xyz", f"ada viewer {zeros}", "ada viewer", f"eve adjudicator {zeros}")
    file.write_text("\n".join(wrong), "utf-8")
    with pytest.raises(SpecificationError) as refused:
        read_people(file)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "5", "6"]
    assert zeros not in str(refused.value)
    file.write_bytes("zoë viewer".encode("latin-1"))
    with pytest.raises(SpecificationError, match="it is not UTF-8"):
        read_people(file)
    with pytest.raises(SpecificationError, match="Cannot read the people"):
        read_people(tmp_path / "absent")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "review.example.com"])
def test_others_can_reach_the_page_only_when_it_is_known_who_they_are(host: str, tmp_path: Path) -> None:
    """Documents must not be on the network because somebody typed an address."""
    people = tmp_path / "people"
    people.write_text("ada reviewer\n", "utf-8")
    asked = {"local_name": "me", "local_role": "reviewer"}

    with pytest.raises(SpecificationError, match="others can reach it"):
        access(host=host, header=None, people_file=None, **asked)  # type: ignore[arg-type]

    assert access(host=host, header=None, people_file=people, **asked).by_token  # type: ignore[arg-type]
    assert access(host=host, header="x-user", people_file=None, **asked).local is None  # type: ignore[arg-type]
    assert access(host="127.0.0.1", header=None, people_file=None, **asked).local == Person("me", "reviewer")  # type: ignore[arg-type]


def test_tags_that_look_the_same_are_the_same() -> None:
    """'Good  Example' and 'good example' must be found together."""
    assert clean_tag("  Good \t Example ") == "good example"
    with pytest.raises(ContractBroken):
        clean_tag("   ")


def test_a_correction_of_a_closed_set_is_of_that_set() -> None:
    """A typed value that no model may give would become a known answer that no model can meet."""
    field = OutputField(type="enum", values=("CASH", "CARD"))

    assert field_value(" CARD ", "paid", field) == "CARD"
    with pytest.raises(ContractBroken, match="Choose one of: CASH, CARD"):
        field_value("cheque", "paid", field)
