"""Long documents in the graph, with a real tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llm_platform.models.lock import load_lock
from llm_platform.resources.handed import local_nim
from llm_platform_tests.defs.test_graph_runs import failure, run
from llm_platform_tests.embedded import link_weights, stop_embedded
from llm_platform_tests.team import NAME, Team

EMBEDDED = "smollm2-135m"
ANSWER, ROOM = 1_500, 548
"""Of the context's 2,048 tokens; most are kept for the answer, so that reading the rest takes a machine little time."""
LONG = " ".join(
    f"On day {number} the café's printer caught fire — again, as the team had said." for number in range(40)
)
"""Some 850 tokens, with characters of several bytes."""


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    made = Team(tmp_path, "http://127.0.0.1:9", documents=6)
    made.write_documents({f"{number}": made.text(number) for number in range(6)} | {"long": LONG})
    made.specification["documents"] = {"max_characters": 100_000}
    sending = {"prompt": "clear", "model": EMBEDDED, "sampling": {"max_tokens": ANSWER}, "decision": "logprobs"}
    made.specification["variants"] = {"clear": sending}
    entry = load_lock(made.lock_file)[EMBEDDED]
    link_weights(entry, made.settings.state)
    yield made
    stop_embedded(entry, local_nim(made.settings))


def row_of_long(team: Team) -> dict[str, Any]:
    """The stored answer to the long document, by the variant as its files say now."""
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        release = team.loaded.requesting("clear", store)
        assert release is not None
        rows = store.completions.of_release(release.release_id).to_pylist()
    return next(row for row in rows if row["document_id"] == "long")


@pytest.mark.slow
def test_all_three_policies_on_a_model_with_a_small_context(team: Team) -> None:
    """One document must cost neither the others their answers nor itself a silent half."""
    found, metadata = {}, {}
    with dg.DagsterInstance.ephemeral() as instance:
        for policy in ("reject", "truncate", "split"):
            team.specification["long_documents"] = policy
            team.write_specification()
            ran = run(team, instance, ["documents", "completions_clear"])
            assert ran.success, failure(ran)
            found[policy] = row_of_long(team)
            metadata |= {
                name: value.value
                for event in ran.get_asset_materialization_events()
                if event.materialization.asset_key.path[-1] == "completions_clear"
                for name, value in event.materialization.metadata.items()
            }

    assert found["reject"]["status"] == "rejected"
    assert f"the model has room for {ROOM} beside the answer" in found["reject"]["reason"]
    cut, split = found["truncate"], found["split"]
    assert cut["status"] == split["status"] == "valid"
    assert 0.85 * ROOM < cut["prompt_tokens"] <= ROOM
    assert cut["cut_tokens"] > 200
    assert str(cut["reason"]).startswith(f"the last {cut['cut_tokens']:,} tokens of the document")
    assert (split["parts"], split["cut_tokens"], split["reason"]) == (2, None, None)
    # Both parts, their template and what they share; more than fits at once.
    assert cut["prompt_tokens"] + cut["cut_tokens"] < split["prompt_tokens"] <= 2 * ROOM
    assert (metadata["documents_cut"], metadata["documents_in_parts"], metadata["parts"]) == (1, 1, 2)
