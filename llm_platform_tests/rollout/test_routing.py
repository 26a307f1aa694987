"""Documents are dealt without favour, for good, and a challenger keeps what it has."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kstest

from llm_platform.rollout.routing import LiveShare, expected_shares, place_of, route

IDS = st.text(min_size=1, max_size=12)
SHARES = st.floats(0.0, 1.0)
DOCUMENTS = [f"doc-{number}" for number in range(20_000)]


@settings(max_examples=200, deadline=None)
@given(IDS, IDS, SHARES, SHARES)
def test_a_document_stays_with_the_challenger_while_its_share_grows(
    rollout: str, document: str, one: float, other: float
) -> None:
    """A reader who has seen the new answer must not be thrown back by a promotion."""
    smaller, larger = sorted((one, other))

    before = route(document, [LiveShare(rollout_id=rollout, share=smaller)])
    after = route(document, [LiveShare(rollout_id=rollout, share=larger)])

    if before.rollout_id == rollout:
        assert after.rollout_id == rollout


@settings(max_examples=100, deadline=None)
@given(IDS, IDS)
def test_no_share_takes_nothing_and_all_takes_all(rollout: str, document: str) -> None:
    """A withdrawn challenger answers nothing, and a document is somebody's in any case."""
    assert 0.0 <= place_of(rollout, document) < 1.0
    assert route(document, [LiveShare(rollout_id=rollout, share=0.0)]).rollout_id is None
    assert route(document, [LiveShare(rollout_id=rollout, share=1.0)]).rollout_id == rollout
    assert route(document, []).rollout_id is None


def test_documents_are_dealt_evenly() -> None:
    """Numbered keys are the common case, and the worst one for a poor hash."""
    places = [place_of("rollout-7", document) for document in DOCUMENTS]

    assert kstest(places, "uniform").pvalue > 0.001
    assert abs(sum(place < 0.05 for place in places) / len(places) - 0.05) < 0.005


def test_two_rollouts_draw_independently() -> None:
    """The unlucky half of the documents must not be the unlucky half of every rollout."""
    table = [[0, 0], [0, 0]]
    for document in DOCUMENTS:
        table[place_of("first", document) < 0.5][place_of("second", document) < 0.5] += 1

    assert chi2_contingency(table).pvalue > 0.001


def test_ids_that_run_into_each_other_are_kept_apart() -> None:
    """`a` and `b:c` are another pair than `a:b` and `c`."""
    assert place_of("a", "b:c") != place_of("a:b", "c")


def test_routes_are_the_same_for_ever() -> None:
    """Another hash would move every document of every running rollout."""
    assert round(place_of("rollout-7", "doc-0"), 9) == 0.535095989


def test_expected_shares_are_what_is_routed() -> None:
    """A sample-ratio test against other shares would hold every healthy rollout."""
    rollouts = [LiveShare(rollout_id="old", share=0.25), LiveShare(rollout_id="young", share=0.2)]

    expected = expected_shares(rollouts)
    routed = [route(document, rollouts).rollout_id for document in DOCUMENTS]

    assert abs(sum(expected.values()) - 1.0) < 1e-12
    for name, share in expected.items():
        assert abs(routed.count(name) / len(routed) - share) < 0.01
