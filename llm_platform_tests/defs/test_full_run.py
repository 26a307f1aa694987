"""`llm-platform run --full`: nothing that was kept from before is believed."""

from __future__ import annotations

from typing import Any

import pytest

from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.session import Transaction
from llm_platform_tests.defs.conftest import Ran
from llm_platform_tests.survival.command import Terminal
from llm_platform_tests.team import NAME, Team


@pytest.mark.slow
def test_a_full_run_heals_what_was_tampered_with_and_pays_for_nothing(ran_once: Ran) -> None:
    """What moves on from before carries a mistake for ever: one command begins from the source and the answers."""
    team, model, _ = ran_once
    good = _state(team)
    asked = model.counts.requests
    _tamper(team)
    assert _state(team) != good

    finished = Terminal(team).run("run", NAME, "--full")

    assert finished.status == 0, finished.said
    healed = _state(team)
    assert healed == good
    assert model.counts.requests == asked


def _tamper(team: Team) -> None:
    """Change rows and sums behind the platform's back, each as a mistake of an incremental step would leave it."""
    with team.warehouse.open() as lake:

        def body(transaction: Transaction) -> None:
            documents, published = transaction.target("documents"), transaction.target("published_v1")
            transaction.run(f"DELETE FROM {documents} WHERE document_id = '5'")
            transaction.run(f"UPDATE {documents} SET fingerprint = 'another', text = 'x' WHERE document_id = '6'")
            transaction.run(f"UPDATE {documents} SET attributes = '{{}}' WHERE document_id = '7'")
            transaction.run(f"DELETE FROM {published} WHERE document_id IN ('8', '9')")
            transaction.run(f"UPDATE {published} SET answer = 'SAD' WHERE document_id = '11'")
            transaction.run(f"DELETE FROM {transaction.target('scores')} WHERE document_id = '12'")
            tallies = transaction.target("tallies")
            transaction.run(f"UPDATE {tallies} SET snapshot = 1000000, content = replace(content, '60', '7')")

        lake._session.write(NAME, body)


def _state(team: Team) -> dict[str, Any]:
    """Rows that runs keep, without times, and the sums over them as a process that has just begun says them."""
    with team.warehouse.open(read_only=True) as lake:
        return _rows(lake)


def _rows(lake: Warehouse) -> dict[str, Any]:
    store = lake.application(NAME)
    champion = store.rollout.champion()
    assert champion is not None
    release = champion.release_id
    version = store.references.version()
    documents = store.documents.table(["document_id", "fingerprint", "text", "attributes", "status"])
    published = store.published.table(1).to_pylist()
    return {
        "documents": documents.to_pylist(),
        "counts": store.documents.counts(),
        "published": [(row["document_id"], row["answer"], row["status"], row["fingerprint"]) for row in published],
        "published version": store.published.data_version(1),
        "scores": [(row["document_id"], row["score"]) for row in store.scores.of_release(release, version).to_pylist()],
        "answers": store.completions.tally(release),
        "judged": store.completions.judged_version(release),
        "missing": store.completions.missing_count(release),
        "champion": champion.event_id,
    }
