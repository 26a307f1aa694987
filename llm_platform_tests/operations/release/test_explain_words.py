"""The paragraph with which `explain` begins."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llm_platform.operations.release.explain import in_words
from llm_platform_tests.team import NAME, Team

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHAIN: dict[str, Any] = {
    "published": {"answer": "SAD", "confidence": 0.975, "status": "valid", "published_at": AT, "variant": "clear"},
    "completion": {"prompt_tokens": 100, "completion_tokens": 4, "created_at": AT, "reused": False},
    "release": {"release_id": "r1", "prompt_version": "v1", "model_entry": "scripted"},
    "prompt": {"name": "clear"},
    "rollout": {"variant": "clear", "at": AT, "by": "ann", "note": "tried for a week", "report_id": "rep"},
    "report": {"accuracy": {"value": 0.8, "lower": 0.7, "upper": 0.9, "confidence": 0.95, "count": 200}},
}


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path, "http://127.0.0.1:9", documents=2)


def test_a_reader_learns_what_is_published_by_whom_and_on_what_evidence(team: Team) -> None:
    """Who asks why a ticket says SAD does not read thirteen tables first."""
    said = in_words(team.loaded.application, "7", CHAIN)

    assert said.startswith(f"Readers of {NAME} get the answer 'SAD' for document '7'")
    for words in (
        "prompt clear in version v1 to scripted",
        "by ann (tried for a week)",
        "0.800 [0.700, 0.900] of 200",
        "104 tokens",
    ):
        assert words in said, words


def test_a_free_answer_is_not_quoted(team: Team) -> None:
    """It says what the document says, and the command shows no texts unless it is asked to."""
    application = team.loaded.application.model_copy(update={"task": "generate"})

    said = in_words(application, "7", {**CHAIN, "published": {**CHAIN["published"], "answer": "a summary"}})

    assert "summary" not in said


def test_fields_are_an_answer_though_no_column_is_called_so(team: Team) -> None:
    """A published extraction has a column for each field."""
    application = team.loaded.application.model_copy(update={"task": "extract"})
    row = {name: value for name, value in CHAIN["published"].items() if name != "answer"}

    said = in_words(application, "7", {**CHAIN, "published": row})

    assert said.startswith(f"Readers of {NAME} get an answer for document '7'")


def test_a_document_that_could_not_be_read_says_so_and_blames_no_release(team: Team) -> None:
    """A broken file is mended by its owner; whoever reads that a variant gave the answer looks at the prompt."""
    row = {"answer": None, "status": "undecodable", "reason": "the PDF is damaged", "published_at": AT}
    chain = {**CHAIN, "published": row, "document": {"status": "undecodable"}}
    del chain["completion"]

    said = in_words(team.loaded.application, "7.pdf", chain)

    assert f"Readers of {NAME} get no valid answer for document '7.pdf'" in said
    assert "Why: the PDF is damaged. clear was not asked (release r1" in said


def test_a_challengers_answer_is_told_as_one(team: Team) -> None:
    """What readers get of a canary was decided by its rollout, and not by the champion's promotion."""
    step = {"stage_name": "canary 0.05", "by": "ann", "at": AT}
    said = in_words(team.loaded.application, "7", {**CHAIN, "rollout_step": step})

    assert "a challenger at canary 0.05, decided by ann" in said
    assert "It serves since" not in said


def test_what_is_not_published_says_why(team: Team) -> None:
    """The first question of whoever misses a row."""
    chain = {"document": {"status": "sendable"}, "failures": {"r1": "invalid after 1 requests: not a label"}}

    assert in_words(team.loaded.application, "7", chain) == (
        "Nothing of document '7' (sendable) is published. Why: invalid after 1 requests: not a label."
    )
