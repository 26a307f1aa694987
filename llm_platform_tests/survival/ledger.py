"""What a team's lake holds, for tests that compare it with the endpoint's counters."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from llm_platform_tests.survival.command import PATIENCE_SECONDS
from llm_platform_tests.team import NAME, Team


@dataclass(frozen=True)
class Ledger:
    """Stored and published rows.

    Attributes:
        answers: (release, document of the stored row) → how many rows.
        stored: Variant → documents with a stored row.
        published: Document → its published row; `doubled` has those with more than one.
    """

    answers: Counter[tuple[str, str]]
    stored: dict[str, set[str]]
    published: dict[str, dict[str, Any]]
    doubled: set[str]
    champion: str | None

    def is_whole(self, documents: int) -> bool:
        """Whether every document has exactly one row per variant and one published row."""
        return (
            set(self.answers.values()) == {1}
            and all(len(found) == documents for found in self.stored.values())
            and len(self.published) == documents
            and not self.doubled
        )


def ledger(team: Team) -> Ledger:
    """What is stored now, by the variants that send their own requests."""
    answers: Counter[tuple[str, str]] = Counter()
    stored: dict[str, set[str]] = {}
    with team.warehouse.open(read_only=True) as lake:
        store = lake.application(NAME)
        for variant in team.loaded.application.variants:
            release = team.loaded.requesting(variant, store)
            assert release is not None
            documents = store.completions.of_release(release.release_id, ["document_id"])["document_id"].to_pylist()
            answers.update((release.release_id, document) for document in documents)
            stored[variant] = set(documents)
        rows = store.published.table(1).to_pylist()
        champion = store.rollout.champion()
    count = Counter(row["document_id"] for row in rows)
    return Ledger(
        answers=answers,
        stored=stored,
        published={row["document_id"]: row for row in rows},
        doubled={document for document, times in count.items() if times > 1},
        champion=champion.variant if champion else None,
    )


def askers(team: Team, variant: str) -> Counter[str]:
    """Run → answers of a variant that it asked for and stored."""
    with team.warehouse.open(read_only=True) as lake:
        store = lake.application(NAME)
        release = team.loaded.requesting(variant, store)
        assert release is not None
        return Counter(store.completions.of_release(release.release_id, ["run_id"])["run_id"].to_pylist())


def kept(team: Team, variant: str) -> set[str]:
    """Documents of which an answer of a variant is in a journal or in the lake: no death of a process takes it away."""
    with team.warehouse.open(read_only=True) as lake:
        store = lake.application(NAME)
        release = team.loaded.requesting(variant, store)
        assert release is not None
        journalled: set[str] = set()
        for path in (team.settings.namespace_folder / "journal" / NAME / release.release_id).rglob("*.journal"):
            # A segment goes once it is committed, and the last line may be half written.
            with suppress(FileNotFoundError):
                journalled |= {json.loads(line)["document_id"] for line in path.read_bytes().split(b"\n")[:-1]}
        return journalled | set(
            store.completions.of_release(release.release_id, ["document_id"])["document_id"].to_pylist()
        )


def wait_until_kept(team: Team, variant: str, documents: Collection[str]) -> None:
    """Wait until answers about these are kept: a disk may take its time."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    while left := set(documents) - kept(team, variant):
        assert time.monotonic() < deadline, left
        pause.wait(0.25)


def leases(team: Team) -> list[tuple[str, int, float]]:
    """(release, token, expiry) of the leases of a team's lake."""
    path = team.settings.namespace_folder / "leases.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT release_id, token, expires_at FROM leases ORDER BY acquired_at").fetchall()
