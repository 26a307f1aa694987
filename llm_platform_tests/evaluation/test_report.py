"""A report counts the evaluation split, all of it and nothing else."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import pytest

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.application.references import References
from llm_platform.errors import ContractBroken
from llm_platform.evaluation.report import Report
from llm_platform.evaluation.yardstick import evaluation_id
from llm_platform.records import Gate, InferenceRun, Prices, TokenUsage
from llm_platform_tests.evaluation.builders import CREATED, MINIMUM, World, application_of, release_of


def test_training_documents_are_never_counted(world: World) -> None:
    """A number measured on what the prompt was chosen with is no evidence; here it would lift 0.5 to 0.95."""
    world.add(10).add(10, answer="SAD").add(180, split="train", origin="train only")

    report = world.report()

    assert report.accuracy is not None
    assert (report.accuracy.value, report.accuracy.count) == (0.5, 20)
    assert report.valid_rate is not None
    assert report.valid_rate.count == 20
    assert {part.value for part in report.slices} == {"here"}
    assert sum(label.count for label in report.labels) == 20


def test_a_text_of_the_training_split_is_left_out_under_another_id(world: World) -> None:
    """Two documents with one text must not carry it from one split into the other."""
    world.add(20).add(5, fingerprint="same", split="train").add(5, fingerprint="same", answer="SAD")

    report = world.report()

    assert report.accuracy is not None
    assert (report.accuracy.value, report.accuracy.count) == (1.0, 20)
    assert report.counts.seen_in_training == 5


def test_invalid_answers_count_as_wrong(world: World) -> None:
    """30 right of 40 that arrived is 0.75; of 50 asked it is 0.60, and that is what readers meet."""
    world.add(30).add(10, answer="SAD").add(6, status="invalid").add(3, status="truncated").add(1, status="rejected")

    report = world.report()

    assert report.accuracy is not None
    assert report.accuracy.value == 0.6
    assert report.valid_rate is not None
    assert report.valid_rate.value == 0.8
    assert report.confusion is not None
    assert report.confusion.counts[0] == (30, 10, 10)


def test_ungraded_documents_leave_the_share_and_are_named(world: World) -> None:
    """They are neither right nor wrong, and nobody should have to find out why by query."""
    world.add(8).add(2, answer="SAD").add(3, reference="HAPY")

    report = world.report()

    assert report.accuracy is not None
    assert report.accuracy.value == 0.8
    assert report.counts.ungraded == {"the reference is not one of the labels": 3}


def test_scores_of_an_earlier_text_do_not_count(world: World) -> None:
    """After a document has changed, its old score says nothing about the new text."""
    world.add(10)
    scores = world.scores()
    world.documents[0]["fingerprint"] = "changed"

    report = world.report(scores=scores)

    assert report.counts.evaluated == 9
    assert report.counts.ungraded == {"no score for the current text and references": 1}


def test_scores_of_another_release_are_refused(world: World) -> None:
    """Evidence is about exactly one release."""
    world.add(3)

    with pytest.raises(ContractBroken, match="3 of 3 scores are not of release"):
        world.report(scores=world.scores(release_of("other")))


def test_documents_with_one_text_are_one_observation(world: World) -> None:
    """Fifty copies of a right answer are no evidence for fifty documents."""
    world.add(50, fingerprint="one").add(50, fingerprint="two", answer="SAD")

    report = world.report()

    assert report.accuracy is not None
    assert report.accuracy.value == 0.5
    assert report.accuracy.upper - report.accuracy.lower > 0.6


def test_label_metrics_and_macro_f1_agree_with_scikit_learn(world: World) -> None:
    """The numbers people know, with an answer that never came as a miss for its label."""
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    world.add(40).add(9, answer="SAD").add(30, answer="SAD", reference="SAD").add(14, reference="SAD")
    world.add(7, reference="SAD", status="invalid")
    truth = [row["answer"] for row in world.known]
    given = [row["answer"] or "none" for row in world.documents]

    report = world.report()

    precision, recall, f1, support = precision_recall_fscore_support(truth, given, labels=["HAPPY", "SAD"])
    assert [label.precision for label in report.labels] == pytest.approx(list(precision))
    assert [label.recall for label in report.labels] == pytest.approx(list(recall))
    assert [label.f1 for label in report.labels] == pytest.approx(list(f1))
    assert [label.count for label in report.labels] == list(support)
    assert report.macro_f1 is not None
    assert report.macro_f1.value == pytest.approx(f1_score(truth, given, labels=["HAPPY", "SAD"], average="macro"))
    assert report.macro_f1.lower < report.macro_f1.value < report.macro_f1.upper


@pytest.mark.parametrize("seed", [1, 4])
def test_the_interval_of_macro_f1_is_that_of_the_same_labels(seed: int) -> None:
    """A resample without a rare label must not count as one on which every label is easy: held against scikit-learn."""
    import numpy as np
    from sklearn.metrics import f1_score

    chance = random.Random(seed)
    labels = tuple(f"l{number:02d}" for number in range(20))
    world = World(application=application_of(labels=labels))
    for truth in chance.choices(labels, [1 / (number + 1) ** 1.2 for number in range(20)], k=150):
        world.add(answer=truth if chance.random() < 0.8 else chance.choice(labels), reference=truth)
    truth = np.array([row["answer"] for row in world.known])
    given = np.array([row["answer"] for row in world.documents])
    draws = np.random.default_rng(99 + seed).integers(len(truth), size=(600, len(truth)))
    with_all = {"labels": sorted(set(truth)), "average": "macro", "zero_division": 0}
    expected = np.quantile([f1_score(truth[draw], given[draw], **with_all) for draw in draws], [0.025, 0.975])

    measured = world.report().macro_f1

    assert measured is not None
    assert measured.value == pytest.approx(f1_score(truth, given, **with_all))
    assert (measured.lower, measured.upper) == pytest.approx(tuple(expected), abs=0.02)
    assert measured.lower < measured.value < measured.upper


def test_reliability_measures_the_distance_between_claim_and_truth(world: World) -> None:
    """Expected calibration error by hand: 0.5 * |0.95 - 0.9| + 0.5 * |0.65 - 0.3| = 0.2."""
    world.add(9, confidence=0.95).add(1, confidence=0.95, answer="SAD")
    world.add(3, confidence=0.65).add(7, confidence=0.65, answer="SAD")

    table = world.report().reliability

    assert table is not None
    assert table.expected_error == pytest.approx(0.2)
    assert [(part.lower, part.accuracy.value) for part in table.bins] == [(0.6, 0.3), (0.9, 0.9)]


@pytest.mark.parametrize("form", ["column", "mapping", "json"])
def test_slices_follow_an_attribute(world: World, form: str) -> None:
    """The attributes may come in columns of their own or in one, where their names cannot collide with an answer's."""
    for count, answer, origin in [(6, "HAPPY", "web"), (4, "SAD", "web"), (5, "HAPPY", None)]:
        attributes = {"origin": origin}
        shape = {
            "column": attributes,
            "mapping": {"attributes": attributes},
            "json": {"attributes": json.dumps(attributes)},
        }
        world.add(count, answer=answer, **shape[form])

    parts = world.report().slices

    assert [(part.value, part.accuracy.value, part.accuracy.count) for part in parts] == [
        ("web", 0.6, 10),
        ("(none)", 1.0, 5),
    ]


def test_a_slice_that_nobody_has_is_refused(world: World) -> None:
    """A misspelt attribute must not silently give a report without slices."""
    world.application = application_of(evaluation=Evaluation(slices=("orgin",), gates=Gates(accuracy=MINIMUM)))

    with pytest.raises(ContractBroken, match="Cannot slice by 'orgin'"):
        world.add(3).report()


def test_extraction_reports_the_accuracy_of_each_field() -> None:
    """The mean score hides which field fails."""
    world = World(application=application_of("extract"))
    world.add(30, answer='{"total": 1, "day": "2026-01-02"}', reference='{"total": 1, "day": "2026-01-02"}')
    world.add(10, answer='{"total": 1, "day": "2026-01-02"}', reference='{"total": 1, "day": "2026-02-03"}')
    world.add(10, status="invalid", reference='{"total": 1, "day": "2026-02-03"}')

    report = world.report()

    assert report.accuracy is not None
    assert report.accuracy.value == pytest.approx(0.7)
    assert {item.field: item.accuracy.value for item in report.fields} == {"total": 0.8, "day": 0.6}
    assert report.macro_f1 is None
    assert report.confusion is None


def test_the_evaluation_id_follows_the_yardstick_and_not_the_answers(world: World) -> None:
    """Equal ids mean that two reports may be compared; a report on other references is no evidence for these."""
    world.add(10).add(5, split="train")
    first = world.report()

    world.documents[0]["answer"] = "SAD"
    assert world.report().evaluation_id == first.evaluation_id
    assert world.report(release=release_of("other")).evaluation_id == first.evaluation_id

    rephrased = MINIMUM.model_copy(update={"reason": "Said in other words, the same minimum."})
    world.application = application_of(evaluation=Evaluation(slices=("origin",), gates=Gates(accuracy=rephrased)))
    assert world.report().evaluation_id == first.evaluation_id

    lower = Gate(minimum=0.55, reason="A lower minimum than before.")
    world.application = application_of(evaluation=Evaluation(slices=("origin",), gates=Gates(accuracy=lower)))
    assert world.report().evaluation_id != first.evaluation_id

    world.application = application_of()
    world.known[1]["answer"] = "SAD"
    assert world.report().evaluation_id != first.evaluation_id


def test_the_evaluation_id_needs_no_answers(world: World) -> None:
    """What plans the work asks for it before anything is answered, of documents that cannot all be sent."""
    world.add(10).add(5, split="train")
    sent = evaluation_id(world.answers, world.references, application=world.application)
    world.add(2, document_status="empty", status=None)
    documents = world.answers[["document_id", "fingerprint", "document_status"]].fillna("sendable")

    assert evaluation_id(documents, world.references, application=world.application) == sent


def test_the_report_id_is_a_hash_of_content_without_time(world: World) -> None:
    """Building the same report again must store nothing new."""
    world.add(20)

    first, later = world.report(), world.report(created_at=CREATED + timedelta(days=1))
    world.documents[0]["answer"] = "SAD"

    assert later.report_id == first.report_id
    assert world.report().report_id != first.report_id


def test_a_report_survives_its_json(world: World) -> None:
    """It is stored as text and read again by whatever publishes."""
    report = world.add(20, confidence=0.9).add(4, answer="SAD").report()

    assert Report.model_validate_json(report.model_dump_json()) == report


def test_effort_counts_each_answer_once(world: World) -> None:
    """Tokens are paid per text, not per document, and a reused answer was not paid at all."""
    paid = {"prompt_tokens": 100, "completion_tokens": 2, "cached_tokens": 50, "reused": False}
    world.add(3, fingerprint="one", latency_seconds=0.2, **paid).add(1, latency_seconds=0.4, **paid)
    world.add(1, **{**paid, "reused": True})
    run = InferenceRun(
        run_id="1", release_id=release_of().release_id, started_at=CREATED, seconds=90.0, sent=2, stored=2, reused=0,
        failed=0, retries=0, usage=TokenUsage(prompt_tokens=8800, completion_tokens=200),
    )  # fmt: skip
    other = run.model_copy(update={"release_id": "another"})

    effort = world.report(runs=[run, other], prices=Prices(usd_per_hour=8.0)).effort

    assert effort.usage == TokenUsage(prompt_tokens=200, completion_tokens=4, cached_tokens=100)
    assert effort.tokens_per_second == 100.0
    assert effort.cost_usd == pytest.approx(0.2)
    assert effort.latency_p50_seconds == pytest.approx(0.3)
    assert world.report(runs=[run]).effort.cost_usd is None


def test_a_document_without_references_at_all_still_has_a_valid_rate() -> None:
    """`generate` has no known answers; what can be measured is whether answers come."""
    gates = Gates(valid_rate=Gate(minimum=0.8, reason="One gap in five is what readers accept."))
    application = application_of("generate", references=None, evaluation=Evaluation(gates=gates))
    world = World(application=application).add(60, reference="x")
    world.known.clear()
    world.known.append({"document_id": "elsewhere", "answer": "x", "split": "evaluation"})

    report = world.report(scores=[])

    assert report.accuracy is None
    assert report.passed


def test_an_application_with_references_needs_evaluated_documents() -> None:
    """No rows is a failure, not a pass, also where only the valid rate has a minimum."""
    gates = Gates(valid_rate=Gate(minimum=0.8, reason="One gap in five is what readers accept."))
    application = application_of(references=References(url="r.csv", key="id"), evaluation=Evaluation(gates=gates))

    report = World(application=application).add(60, split="train").add(40, reference=None).report()

    assert not report.passed
    assert report.gates[0].reason == "No document was evaluated: the reference is empty (40 of 40 labelled documents)."
