"""What counts as right, wrong and ungraded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.application.output import FieldType, OutputField
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.fields import Grade, grade_fields
from llm_platform.evaluation.matches import same_items
from llm_platform.evaluation.scorers import Verdicts, exact, score_answers, scorer_of
from llm_platform.evaluation.text_scores import rouge_l, token_f1
from llm_platform_tests.evaluation.builders import MINIMUM, World, application_of


@pytest.mark.parametrize(
    ("answer", "reference", "normalize", "expected"),
    [
        pytest.param("HAPPY", "HAPPY", False, 1.0, id="equal"),
        pytest.param("HAPPY", "SAD", False, 0.0, id="different"),
        pytest.param("happy", "HAPPY", False, 0.0, id="case-matters-for-labels"),
        pytest.param(" Straße\n 5", "strasse 5", True, 1.0, id="normalized"),
        pytest.param("ﬁne", "fine", True, 1.0, id="unicode-forms"),
        pytest.param(None, "HAPPY", False, 0.0, id="no-answer-is-wrong"),
    ],
)
def test_exact(answer: str | None, reference: str, normalize: bool, expected: float) -> None:
    """A label is one of a closed set, free text is not."""
    assert exact(answer, reference, normalize=normalize).score == expected


def test_a_reference_that_is_no_label_is_ungraded() -> None:
    """A typing error among the references must not count against any variant."""
    assert exact("HAPPY", "HAPY", labels=("HAPPY", "SAD")) == Grade(None, "the reference is not one of the labels")


@pytest.mark.parametrize(
    ("kind", "answer", "reference", "expected"),
    [
        pytest.param("string", "  ACME  Ltd ", "acme ltd", 1.0, id="text-normalized"),
        pytest.param("string", "ACME", "ACME Ltd", 0.0, id="text-differs"),
        pytest.param("number", 12.5, "12.50", 1.0, id="number-as-text"),
        pytest.param("number", "1,234.5", 1234.5, 1.0, id="thousands"),
        pytest.param("number", 100.00001, 100.0, 1.0, id="number-within-tolerance"),
        pytest.param("number", 100.1, 100.0, 0.0, id="number-out-of-tolerance"),
        pytest.param("number", "twelve", 12, 0.0, id="unreadable-answer-is-wrong"),
        pytest.param("number", 12, "twelve", None, id="unreadable-reference-is-ungraded"),
        pytest.param("number", True, 1, 0.0, id="true-is-no-number"),
        pytest.param("number", "1e999", 1, 0.0, id="infinite-is-no-number"),
        pytest.param("integer", 3.0, 3, 1.0, id="whole-float"),
        pytest.param("integer", 3.5, 3, 0.0, id="no-integer"),
        pytest.param("boolean", "True", True, 1.0, id="boolean-as-text"),
        pytest.param("boolean", 1, True, 0.0, id="one-is-no-boolean"),
        pytest.param("date", "2026-11-22", "2026-11-22T10:00:00", 1.0, id="same-day"),
        pytest.param("date", "22/11/2026", "2026-11-22", 0.0, id="other-date-forms-are-wrong"),
        pytest.param("date", "2026-11-22", "22.11.2026", None, id="date-reference-not-iso-is-ungraded"),
        pytest.param("date", "2026-02-30", "2026-02-28", 0.0, id="no-such-day"),
        pytest.param("string", None, "acme", 0.0, id="missing-answer"),
        pytest.param("string", "acme", None, None, id="missing-required-reference-is-ungraded"),
    ],
)
def test_one_field(kind: FieldType, answer: Any, reference: Any, expected: float | None) -> None:
    """Each type has its own idea of being equal; only the answer's side can be wrong."""
    fields = {"value": OutputField(type=kind)}

    grade = grade_fields(json.dumps({"value": answer}), {"value": reference}, fields)

    assert grade.score == expected
    assert grade.fields["value"].score == expected


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        pytest.param("CASH", "CASH", 1.0, id="equal"),
        pytest.param("cash ", "CASH", 1.0, id="case-and-space-do-not-count"),
        pytest.param("CARD", "CASH", 0.0, id="another-value"),
        pytest.param("CHEQUE", "CASH", 0.0, id="no-value-of-the-set"),
        pytest.param(None, "CASH", 0.0, id="nothing"),
        pytest.param("CHEQUE", "CHEQUE", None, id="a-reference-outside-the-set-is-ungraded"),
        pytest.param(None, None, 1.0, id="nothing-where-nothing-is"),
    ],
)
def test_a_field_with_a_closed_set_of_values(answer: str | None, reference: str | None, expected: float | None) -> None:
    """A value that nobody may give is no answer, and no reference either."""
    fields = {"paid": OutputField(type="enum", values=("CASH", "CARD"), required=False)}

    assert grade_fields(json.dumps({"paid": answer}), {"paid": reference}, fields).score == expected


def test_partial_credit_is_the_share_of_fields_that_are_right() -> None:
    """Three of four fields right is more use to a reader than none, and the field at fault must be named."""
    fields = {name: OutputField(type="integer") for name in "abcd"}
    reference = dict.fromkeys("abcd", 1)

    grade = grade_fields(json.dumps({**reference, "c": 2}), json.dumps(reference), fields)

    assert grade.score == 0.75
    assert grade.reason == "wrong fields: c"


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_nothing_where_nothing_is_expected_is_right(nothing: str | None) -> None:
    """An optional field that a document does not have is a fact to get right, in any of its spellings."""
    fields = {"note": OutputField(type="string", required=False)}

    assert grade_fields(json.dumps({"note": nothing}), {}, fields).score == 1.0
    assert grade_fields(json.dumps({"note": "invented"}), {}, fields).score == 0.0


def test_a_field_without_reference_leaves_the_share() -> None:
    """Ungraded is not wrong: the other fields decide."""
    fields = {"a": OutputField(type="integer"), "b": OutputField(type="integer")}

    assert grade_fields('{"a": 1, "b": 9}', {"a": 1}, fields).score == 1.0
    assert grade_fields('{"a": 1, "b": 9}', {}, fields).score is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_makes_the_field_scorer_fail(answer: str, reference: str) -> None:
    """Models answer anything at all; a grade is a number in [0, 1] or None with a reason."""
    fields = {name: OutputField(type=name) for name in ("string", "integer", "number", "boolean", "date")}

    grade = grade_fields(json.dumps(dict.fromkeys(fields, answer)), dict.fromkeys(fields, reference), fields)
    loose = grade_fields(answer, reference, fields)

    assert grade.score is None or 0.0 <= grade.score <= 1.0
    assert loose.score is not None or loose.reason


@pytest.mark.parametrize("status", ["invalid", "truncated", "rejected"])
def test_a_completion_without_a_valid_answer_is_wrong(world: World, status: str) -> None:
    """The reader gets nothing; a variant must not gain by failing where it would have been wrong."""
    score = world.add(status=status).scores()[0]

    assert score.score == 0.0
    assert score.reason == f"no valid answer: {status}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"status": None}, "no completion", id="not-asked-yet"),
        pytest.param({"reference": None}, "the reference is empty", id="null-reference"),
        pytest.param({"reference": " "}, "the reference is empty", id="blank-reference"),
        pytest.param({"reference": "MEH"}, "the reference is not one of the labels", id="unknown-label"),
        pytest.param(
            {"reference": "MEH", "status": "invalid"},
            "the reference is not one of the labels",
            id="unknown-and-invalid",
        ),
        pytest.param({"document_status": "empty"}, "the document was not sent: empty", id="not-sendable"),
    ],
)
def test_what_cannot_be_judged_is_ungraded(world: World, changes: dict[str, Any], reason: str) -> None:
    """Never 0.0 for something that is not the answer's fault."""
    score = world.add(**changes).scores()[0]

    assert score.score is None
    assert score.reason == reason


def test_every_document_with_a_reference_gets_one_score(world: World) -> None:
    """Both splits are graded, so that prompts can be chosen on the training split."""
    world.add(2).add(1, answer="SAD", split="train").add(1)
    references = world.references.iloc[:3]

    scores = score_answers(
        world.answers, references, application=world.application, release_id="r", references_version="v"
    )

    assert [(score.document_id, score.score) for score in scores] == [("d00000", 1.0), ("d00001", 1.0), ("d00002", 0.0)]
    assert {score.scorer for score in scores} == {"exact/1"}


def test_extraction_is_graded_field_by_field() -> None:
    """The same contract for another task."""
    world = World(application=application_of("extract"))
    world.add(answer='{"total": 12.0, "day": "2026-01-02"}', reference='{"total": "12", "day": "2026-01-03"}')
    world.add(answer="not JSON", reference='{"total": 1}')
    world.add(reference="not JSON")

    assert [score.score for score in world.scores()] == [0.5, 0.0, None]


def test_free_text_is_compared_after_normalizing() -> None:
    """White space and case are not what a generated text is about."""
    world = World(application=application_of("generate")).add(answer="a  Fine day", reference="A fine day")

    assert world.scores()[0].score == 1.0


def test_tables_of_the_wrong_shape_are_refused(world: World) -> None:
    """A missing column or a document that occurs twice would give numbers that look right."""
    world.add(2)
    broken = pd.concat([world.references, world.references.iloc[:1]])

    for references, message in [
        (world.references.drop(columns="split"), "lacks the columns split"),
        (broken, "1 documents more than once .first: 'd00000'"),
        (world.references.assign(split="test"), "allowed are 'train' and 'evaluation'"),
    ]:
        with pytest.raises(ContractBroken, match=message):
            score_answers(
                world.answers, references, application=world.application, release_id="r", references_version="v"
            )


def scores_by(
    scorer: str, *cases: tuple[str | None, str], task: str = "generate", **changes: Any
) -> list[float | None]:
    """Scores of (answer, reference) pairs by one scorer; an answer of None is an invalid one."""
    evaluation = Evaluation(scorers=(scorer,), gates=Gates())
    world = World(application=application_of(task, evaluation=evaluation, **changes))
    for answer, reference in cases:
        world.add(answer=answer, reference=reference, status="invalid" if answer is None else "valid")
    return [score.score for score in world.scores()]


@pytest.mark.parametrize(
    ("scorer", "answer", "reference", "expected"),
    [
        pytest.param("exact", "a b", "a  b", 0.0, id="exact"),
        pytest.param("normalized", "ＦＩＮＥ day", "fine  day", 1.0, id="normalized"),
        pytest.param("set", "Red, blue; green", '["green", "RED"]', 0.8, id="set-gives-the-f1-of-items"),
        pytest.param("set", "red", " , ", None, id="set-without-items-is-ungraded"),
        pytest.param("token_f1", "the cat sat", "the cat sat on the mat", 6 / 9, id="token-f1"),
        pytest.param("token_f1", "dogs", "the cat", 0.0, id="token-f1-nothing-shared"),
        pytest.param("token_f1", "word", "!!!", None, id="token-f1-without-words-is-ungraded"),
        pytest.param("rouge_l", "police kill the gunman", "police killed the gunman", 0.75, id="rouge-l-lin-2004"),
        pytest.param("rouge_l", "the gunman kill police", "police killed the gunman", 0.5, id="rouge-l-minds-order"),
        pytest.param("regex", " AB-17 ", r"[A-Z]{2}-\d+", 1.0, id="regex-of-the-reference"),
        pytest.param("regex", "x", "(", None, id="regex-that-is-none-is-ungraded"),
        pytest.param(r"regex:\d{4}", "2026", "anything", 1.0, id="regex-of-the-application"),
        pytest.param(r"regex:\d{4}", "year 2026", "anything", 0.0, id="regex-matches-the-whole-answer"),
    ],
)
def test_every_scorer_gives_the_value_worked_out_by_hand(
    scorer: str, answer: str, reference: str, expected: float | None
) -> None:
    """What a scorer means is what its documentation says, to the digit."""
    found = scores_by(scorer, (answer, reference))[0]

    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "scorer", ["exact", "normalized", "set", "token_f1", "rouge_l", "regex", "semantic", "regex:.*"]
)
def test_an_invalid_answer_is_wrong_by_every_scorer(scorer: str) -> None:
    """A variant must not look better for failing where it would have been wrong."""
    assert scores_by(scorer, (None, "known")) == [0.0]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_scores_stay_between_zero_and_one_and_equal_texts_are_right(answer: str, reference: str) -> None:
    """Whatever people and models write."""
    for grade_of in (token_f1, rouge_l, same_items):
        found = grade_of(answer, reference)
        assert found.score is None or 0.0 <= found.score <= 1.0
        same = grade_of(reference, reference)
        assert same.score in (None, 1.0)


@pytest.mark.parametrize(
    ("kind", "answer", "reference", "expected"),
    [
        pytest.param("money", "€ 1.234,50", "1234.50 EUR", 1.0, id="money-written-two-ways"),
        pytest.param("money", "USD 12", "EUR 12.00", 0.5, id="money-in-another-currency"),
        pytest.param("money", 12.5, "12.50 EUR", 0.5, id="money-without-a-currency"),
        pytest.param("money", "$12.50", "12.5", 1.0, id="money-whose-reference-names-none"),
        pytest.param("money", "12.51 EUR", "12.50 EUR", 0.0, id="money-a-cent-off"),
        pytest.param("money", "1,234", "1234", 1.0, id="money-with-a-thousands-separator"),
        pytest.param("money", "about a fiver", "5 GBP", 0.0, id="money-that-is-none"),
        pytest.param("money", "12 EUR", "no idea", None, id="money-reference-that-is-none"),
        pytest.param("list", ["B", "a"], ["a", "b"], 1.0, id="list-in-any-order-and-case"),
        pytest.param("list", ["a", "x"], ["a", "b"], 0.5, id="list-half"),
        pytest.param("list", ["a", "a"], ["a"], 1.0, id="list-takes-an-item-once"),
        pytest.param("list", "a", ["a"], 0.0, id="list-that-is-none"),
    ],
)
def test_money_and_lists_earn_what_is_stated(
    kind: FieldType, answer: object, reference: object, expected: float
) -> None:
    """Partial credit is part of the contract, so it has values."""
    fields = {"it": OutputField(type=kind)}

    found = grade_fields(json.dumps({"it": answer}), {"it": reference}, fields).score

    assert found == expected


def test_schema_validity_says_nothing_of_the_values() -> None:
    """It is a scorer for form; another one has to say whether the values are right."""
    right = '{"total": 1, "day": "2026-01-02"}'

    found = scores_by("json_schema", (right, "{}"), ('{"total": "one"}', "{}"), ("prose", "{}"), task="extract")

    assert found == [1.0, 0.0, 0.0]


def test_a_schema_file_of_the_application_is_used_and_its_content_is_part_of_the_name(tmp_path: Path) -> None:
    """A changed schema gives other scores, so it must not find the old ones."""
    (tmp_path / "shape.json").write_text('{"type": "array"}', encoding="utf-8")
    evaluation = Evaluation(scorers=("json_schema:shape.json",), gates=Gates())
    application = application_of("generate", evaluation=evaluation, folder=tmp_path)
    first = scorer_of(application)
    (tmp_path / "shape.json").write_text('{"type": "object"}', encoding="utf-8")

    assert first.grade is not None
    assert first.grade("[]", "").score == 1.0
    assert scorer_of(application).name != first.name


def test_semantic_similarity_is_about_the_subject_and_hardly_about_not() -> None:
    """Its limits are stated in its documentation, so they are measured here."""
    found = scores_by(
        "semantic",
        ("A printer burns", "The printer is on fire"),
        ("I like cheese", "The printer is on fire"),
        ("The printer is not on fire", "The printer is on fire"),
        ("word", "   \u200b "),
    )

    assert found[0] is not None
    assert found[0] > 0.6
    assert found[1] is not None
    assert found[1] < 0.2
    assert found[2] is not None
    assert found[2] > 0.9


def test_several_scorers_give_a_score_each_and_the_first_decides() -> None:
    """The others are metrics beside it."""
    evaluation = Evaluation(scorers=("token_f1", "exact"), gates=Gates(accuracy=MINIMUM))
    world = World(application=application_of("generate", evaluation=evaluation))
    world.add(30, answer="a fine day", reference="one fine day")

    report = world.report()

    assert report.scorer == "token_f1/1"
    assert report.accuracy is not None
    assert report.accuracy.value == pytest.approx(2 / 3)
    assert [(metric.name, metric.value) for metric in report.metrics] == [("exact", 0.0)]


def test_a_judge_grades_by_the_verdicts_it_gave_and_leaves_open_what_it_was_not_asked() -> None:
    """A score is stored once, so one that is still to come must not be."""
    evaluation = Evaluation(scorers=("judge:strict",), gates=Gates())
    world = World(application=application_of("generate", evaluation=evaluation)).add(2).add(status="invalid")
    said = Verdicts("j1", {("d00000", "f-d00000"): Grade(0.5, None)})

    scores = score_answers(
        world.answers, world.references, application=world.application, release_id="r", references_version="v",
        verdicts={"strict": said},
    )  # fmt: skip

    assert [(score.document_id, score.score) for score in scores] == [("d00000", 0.5), ("d00002", 0.0)]
    assert {score.scorer for score in scores} == {"judge:strict/j1"}
