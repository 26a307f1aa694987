"""Why answers are not valid, on the report card: by cause, with what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_platform.inference.answers import NO_LABEL, NOT_JSON
from llm_platform.inference.reasons import THOUGHT_ONLY, NoText, gave_up
from llm_platform.operations.evidence.failure_panels import OTHERWISE, failure_panels, setting_for
from llm_platform.records import Completion, CompletionStatus
from llm_platform.records.refusals import Refusal
from llm_platform_tests.review.cases import NOON, filled, open_lake, team_with
from llm_platform_tests.team import NAME


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        ("cut at max_tokens=8; raise it in the variant's sampling", "sampling.max_tokens"),
        (THOUGHT_ONLY.format(max_tokens=8), "sampling.max_tokens"),
        (NO_LABEL, "decision: logprobs"),
        (NOT_JSON, "ask for JSON alone"),
        ("year breaks the rule type: \"integer\"", "fields"),
        ("the answer lacks 'title'", "fields"),
        (f"HTTP 400: {Refusal.TOO_LONG}", "long_documents"),
        (f"HTTP 401: {Refusal.KEY}", "key of the endpoint"),
        (f"HTTP 404: {Refusal.MODEL}", "served_name"),
        (gave_up("timeout", attempts=4, seconds=60.0), "retry"),
        (str(NoText.REFUSED), "say why it is asked"),
        ("something nobody has thought of", OTHERWISE),
    ],
)  # fmt: skip
def test_every_cause_names_what_changes_it(reason: str, setting: str) -> None:
    """ "12 % invalid" is no work order; a key of a file is."""
    assert setting in setting_for(reason)


def test_causes_are_counted_for_the_documents_as_they_are(tmp_path: Path) -> None:
    """The most frequent cause is mended first, and one that left with its document no more."""
    team = team_with(tmp_path)
    with open_lake(tmp_path) as lake:
        filled(lake, team.loaded, {"clear": dict.fromkeys("012", "SAD"), "vague": {"0": "SAD", "1": None, "2": None}})
        store = lake.application(NAME)
        release = team.loaded.release("vague", store)
        assert release is not None
        gone = Completion(
            release_id=release.release_id, request_id=release.request_id, fingerprint="gone", document_id="gone",
            status=CompletionStatus.TRUNCATED, answer=None, reason="cut at max_tokens=8; raise it", created_at=NOON,
        )  # fmt: skip
        with store.completions.lease(release.release_id, holder="test") as lease:
            store.completions.append(lease, [gone])

        [panel] = failure_panels(store, team.loaded)

    assert panel.variant == "vague"
    assert [row[:2] for row in panel.rows] == [("invalid: not a label", "2")]
    assert "2 documents without a valid answer" in panel.note
