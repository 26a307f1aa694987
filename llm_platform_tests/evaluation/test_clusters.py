"""Documents that are not independent carry less evidence, and intervals say so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.evaluation.clusters import Method, clusters_of, measured_count, text_cluster
from llm_platform.evaluation.statistics import effective_count, mean_score
from llm_platform.operations.evidence.frames import text_clusters, with_clusters
from llm_platform_tests.evaluation.builders import World, application_of


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        pytest.param("Hello,  World!", "hello world", True, id="case-space-punctuation"),
        pytest.param("Total: 12", "Total: 13", False, id="digits-count"),
        pytest.param("!!!", "???", False, id="without-words"),
    ],
)
def test_near_equal_texts_are_one_cluster(a: str, b: str, same: bool) -> None:
    """A mail that is sent twice with another greeting mark is one observation; two invoices are two."""
    assert (text_cluster(a) == text_cluster(b)) is same


def test_without_a_cluster_a_row_stands_for_its_own_text() -> None:
    """Documents without a reference have no cluster; their fingerprints still tell equal texts."""
    rows = pd.DataFrame({"fingerprint": ["f1", "f2"], "cluster": ["c", None]})

    assert clusters_of(rows) == ["c", "f2"]
    assert clusters_of(rows.drop(columns="cluster")) == ["f1", "f2"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=80))
def test_measured_evidence_lies_between_one_answer_a_cluster_and_one_a_document(rows: list[tuple[bool, int]]) -> None:
    """Correlation within clusters is at most 1, and nothing makes documents worth more than themselves."""
    scores, clusters = [float(right) for right, _ in rows], [str(cluster) for _, cluster in rows]

    count = measured_count(scores, clusters)

    assert effective_count(clusters) - 1e-9 <= count <= len(scores) + 1e-9


def test_different_documents_are_worth_themselves() -> None:
    """Clusters of one cost nothing: Wilson's interval, as without them."""
    scores, clusters = [1.0, 0.0, 1.0, 1.0] * 10, [str(index) for index in range(40)]

    interval = Method(0.95, shared=False).mean(scores, clusters)

    assert measured_count(scores, clusters) == pytest.approx(40, rel=0.03)
    assert interval.value == 0.75
    assert interval.lower == pytest.approx(mean_score(scores, clusters, confidence=0.95).lower, abs=0.01)


def test_intervals_over_alike_documents_cover_the_truth() -> None:
    """Twenty customers with ten documents each, some customers easy and some hard: documents alone claim too much."""
    generator = np.random.default_rng(23)
    clusters = [str(customer) for customer in range(20) for _ in range(10)]
    held = {True: 0, False: 0}
    for _ in range(200):
        rates = np.clip(generator.normal(0.7, 0.2, 20), 0.02, 0.98)
        scores = (generator.random(200) < np.repeat(rates, 10)).astype(float).tolist()
        for respects in held:
            names = clusters if respects else [str(index) for index in range(200)]
            interval = Method(0.95, shared=False).mean(scores, names)
            # 0.695: the mean of the clipped rates.
            held[respects] += interval.lower <= 0.695 <= interval.upper

    assert held[True] / 200 >= 0.90
    assert held[False] / 200 < 0.86


def test_looking_at_any_time_widens_what_one_look_gives() -> None:
    """Through the same door as every other interval of a report."""
    scores, clusters = [1.0] * 70 + [0.0] * 30, [str(index) for index in range(100)]

    once, always = Method(0.95).mean(scores, clusters), Method(0.95, looks="any").mean(scores, clusters)

    assert always.lower < once.lower < once.value == always.value < once.upper < always.upper


def test_documents_of_one_cluster_count_once_in_a_report() -> None:
    """Every mail sent twice: the report of 100 documents is as sure of itself as that of 50."""
    twice, once = World(), World()
    for index in range(50):
        answer = "HAPPY" if index % 4 else "SAD"
        twice.add(2, answer=answer, cluster=f"c{index}")
        once.add(answer=answer)

    doubled, single = twice.report().accuracy, once.report().accuracy

    assert doubled is not None
    assert single is not None
    assert (doubled.count, single.count) == (100, 50)
    assert (doubled.value, doubled.lower, doubled.upper) == (single.value, single.lower, single.upper)


def test_clusters_come_from_an_attribute_or_from_the_texts() -> None:
    """The application says which; without a text or an attribute a document stands alone."""
    answers = pd.DataFrame(
        {"document_id": ["a", "b", "c"], "attributes": ['{"origin": "web"}', '{"origin": "web"}', "{}"]}
    )
    texts = pd.DataFrame({"document_id": ["a", "b"], "text": ["Hi there!", "hi, there"]})
    by_attribute = application_of(evaluation=Evaluation(cluster="origin", gates=Gates()))

    clusters = text_clusters(texts)
    near_equal = with_clusters(answers, clusters, application_of())["cluster"].tolist()
    attribute = with_clusters(answers, clusters, by_attribute)["cluster"].tolist()

    assert near_equal[0] == near_equal[1]
    assert near_equal[2] is None
    assert attribute == ["web", "web", None]
