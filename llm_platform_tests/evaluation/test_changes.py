"""What a card says has changed since the last report."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.evaluation.changes import changes
from llm_platform.evaluation.report import Report
from llm_platform.records import Gate
from llm_platform_tests.evaluation.builders import World, application_of, release_of


def report(
    right: int = 60, *, prompt: str = "plain", minimum: float = 0.6, version: str = "r1", documents: int = 100
) -> Report:
    """A report on so many right answers."""
    gates = Gates(accuracy=Gate(minimum=minimum, reason="Below it, editors read every review again."))
    world = World(application=application_of(evaluation=Evaluation(gates=gates)))
    world.add(right).add(documents - right, answer="SAD")
    release = release_of(prompt)
    scores = [score.model_copy(update={"references_version": version}) for score in world.scores(release)]
    return world.report(release=release, scores=scores, references_version=version)


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        pytest.param({"prompt": "kinder"}, ("the prompt",), id="prompt"),
        pytest.param({"minimum": 0.7}, ("the gates",), id="gates"),
        pytest.param({"version": "r2"}, ("the references",), id="references"),
        pytest.param(
            {"documents": 110}, ("the evaluation documents, or the champion they are compared with",), id="documents"
        ),
        pytest.param({"right": 61}, (), id="answers-only"),
    ],
)
def test_what_moved_is_named(changed: dict[str, Any], moved: tuple[str, ...]) -> None:
    """A better number after a changed yardstick is not a better number."""
    assert changes(report(), report(**changed)).moved == moved


def test_numbers_are_given_before_and_now() -> None:
    """Only those that differ: a table of equal numbers is not read."""
    before = report(60)

    found = changes(before, report(75))

    assert found.since == before.report_id
    score = next(delta for delta in found.deltas if delta.name == "score")
    assert (score.before, score.now) == (0.6, 0.75)
    assert "evaluated documents" not in {delta.name for delta in found.deltas}
    assert changes(before, report(60)).deltas == ()
