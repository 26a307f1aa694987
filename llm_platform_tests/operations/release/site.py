"""A team with stages, and what a run of its graph does, without Dagster: the same operations in the same order."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llm_platform.errors import PlatformError
from llm_platform.operations.answering.completions import answer as answer_release
from llm_platform.operations.answering.documents import known_answers, update_documents
from llm_platform.operations.answering.sending import Asking
from llm_platform.operations.evidence.evaluation import report_releases, score_releases
from llm_platform.operations.live import asked_documents
from llm_platform.operations.release.challengers import answer_challengers
from llm_platform.operations.release.publishing import publish
from llm_platform.operations.release.rollout import decide
from llm_platform.operations.release.rollouts import RolloutLook, Who, ask, rollout_named, start
from llm_platform.operations.release.watching import WatchedRollouts, watch_rollouts
from llm_platform.operations.releases import champion_release
from llm_platform.records import Release
from llm_platform.records.rollout import AskedDocuments, RolloutStep, StepKind
from llm_platform.resources.asking import asking_of
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore
from llm_platform_tests.servers.scripted import ScriptedServer, Seen
from llm_platform_tests.team import NAME, Team, right_answer

STAGES: list[dict[str, Any]] = [
    {
        "stage": "shadow",
        "share": 0.5,
        "shows": "not_worse",
        "margin": 0.2,
        "least_labels": 20,
        "budget_tokens": 100_000,
    },
    {"stage": "canary", "share": 0.05, "shows": "not_worse", "margin": 0.2, "least_documents": 1},
    {"stage": "canary", "share": 0.25, "shows": "not_worse", "margin": 0.2, "least_documents": 10},
    {"stage": "champion"},
]
ANN = Who("ann", "adjudicator", authenticated=True)
SOMEBODY = Who("somebody")


def answers(seen: Seen) -> str:
    """Right where it is asked clearly; the prompt that says "mumble" gets what is no label; else SAD."""
    text = json.dumps(seen.body)
    if "mumble" in text:
        return "hm"
    return right_answer(int(seen.document_id)) if "clearly" in text else "SAD"


class Site:
    """A team whose champion is `clear`; `clearer` is as good, `vague` is worse, and `mumbles` says no label."""

    def __init__(self, root: Path, model: ScriptedServer, *, documents: int = 120, **rollout: Any) -> None:
        self.model, self.later = model, timedelta()
        self.team = Team(root, model.url, documents=documents)
        self.team.write_prompt("clearer", "Please say clearly whether this is HAPPY or SAD: {{ text }}")
        self.team.write_prompt("mumbles", "Please mumble whether this is HAPPY or SAD: {{ text }}")
        clear = self.team.specification["variants"]["clear"]
        self.team.specification["variants"] = {"clear": clear}
        self.team.specification["rollout"] = {"stages": STAGES, **rollout}
        # Half of the documents have a known answer: the others are what a shadow is for.
        self.team.write_references({f"{number}": right_answer(number) for number in range(documents // 2)})
        self.team.write_specification()

    def serve(self) -> None:
        """Let `clear` serve, then have the others as variants."""
        self.run()
        clear = self.team.specification["variants"]["clear"]
        for name in ("clearer", "vague", "mumbles"):
            self.team.specification["variants"][name] = {**clear, "prompt": name}
        self.team.write_specification()

    def publish(self) -> None:
        """What readers get, without anything being asked."""
        with self.store() as store:
            publish(store, self.team.loaded, export_folder=self.team.root / "cards")

    def shares(self) -> None:
        """The challengers answer what is theirs now, and are judged by it, as in a run."""
        with self.store() as store:
            answer_challengers(store, self.team.loaded, self.share)
        self.known()

    def forget(self) -> None:
        """Leave out every rollout, and every champion after the first."""
        with self.store() as store, store._session.cursor() as cursor:
            if store._session.exists(NAME, "rollout_steps"):
                cursor.execute(f"DELETE FROM lake.{NAME}.rollout_steps")
            cursor.execute(f'DELETE FROM lake.{NAME}.rollout WHERE "sequence" > 1')

    @contextmanager
    def store(self) -> Iterator[ApplicationStore]:
        with self.team.warehouse.open() as lake:
            yield lake.application(NAME)

    @property
    def look(self) -> RolloutLook:
        return RolloutLook(datetime.now(UTC) + self.later, "commit")

    def run(self) -> WatchedRollouts:
        """What one run of the graph does; an error of `published` is raised, as there."""
        self.answer()
        loaded = self.team.loaded
        with self.team.warehouse.open() as lake:
            store = lake.application(NAME)
            watched = self.tick(lake)
            decide(store, loaded)
            self.champion_answers(store)
            publish(store, loaded, export_folder=self.team.root / "cards")
        return watched

    def answer(self) -> None:
        """A run up to the decision."""
        loaded = self.team.loaded
        with self.team.warehouse.open() as lake:
            store = lake.application(NAME)
            update_documents(lake, loaded)
            store.references.replace(known_answers(lake, loaded.application).rows)
            self.champion_answers(store)
            for variant in loaded.application.variants:
                release = loaded.requesting(variant, store)
                assert release is not None
                asked = asked_documents(store, loaded.application, release)
                how = replace(self.asking(variant, release), documents=asked)
                answer_release(store, release, application=loaded.application, calibrate=False, asking=how)
            answer_challengers(store, loaded, self.share)
            score_releases(lake, loaded)
            report_releases(lake, loaded, cards_folder=self.team.root / "cards")

    def known(self) -> None:
        """Read the known answers, and grade and report by them."""
        loaded = self.team.loaded
        with self.team.warehouse.open() as lake:
            lake.application(NAME).references.replace(known_answers(lake, loaded.application).rows)
            score_releases(lake, loaded)
            report_releases(lake, loaded, cards_folder=self.team.root / "cards")

    def champion_answers(self, store: ApplicationStore) -> None:
        release = champion_release(store)
        if release is not None:
            how = self.asking("champion", release)
            answer_release(store, release, application=self.team.loaded.application, calibrate=False, asking=how)

    def asking(self, variant: str, release: Release) -> Asking:
        return asking_of(self.team.settings, release, max_failed_share=1.0, run_id=f"run-{variant}-{uuid.uuid4().hex}")

    def share(self, variant: str, release: Release, documents: AskedDocuments) -> Asking:
        return replace(self.asking(variant, release), documents=documents)

    def tick(self, lake: Warehouse | None = None) -> WatchedRollouts:
        """One look at everything."""
        if lake is not None:
            return watch_rollouts(lake, self.team.loaded, look=self.look)
        with self.team.warehouse.open() as own:
            return watch_rollouts(own, self.team.loaded, look=self.look)

    def start(self, variant: str, who: Who = SOMEBODY) -> RolloutStep:
        with self.team.warehouse.open() as lake:
            return start(
                lake.application(NAME), self.team.loaded, variant, who=who, look=self.look, snapshot=lake.snapshot()
            )

    def ask(
        self, kind: StepKind, who: Who = SOMEBODY, variant: str | None = None, *, seen: RolloutStep | None = None
    ) -> RolloutStep:
        """Ask something of a rollout as it is now, or as somebody has `seen` it."""
        with self.store() as store:
            rollout = seen or rollout_named(store, variant)
            return ask(store, self.team.loaded, rollout, kind, who=who, look=self.look)

    def refusal(self, kind: StepKind, who: Who = SOMEBODY) -> str:
        try:
            self.ask(kind, who)
        except PlatformError as error:
            return str(error)
        raise AssertionError("nothing was refused")

    def newest(self) -> RolloutStep:
        with self.store() as store:
            return store.rollout_steps.newest()[-1]

    def published(self) -> dict[str, str]:
        """Document → variant."""
        with self.store() as store:
            rows = store.published.table(1).to_pylist()
        return {row["document_id"]: row["variant"] for row in rows}

    def asked_of(self, word: str) -> int:
        """How many requests carried a word."""
        return sum(word.encode() in body for body in self.model.bodies)
