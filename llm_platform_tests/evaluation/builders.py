"""An application, its documents and its answers, in the shape that evaluation is given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.application.references import References
from llm_platform.application.source import Source
from llm_platform.application.variants import Variant
from llm_platform.evaluation.report import Report, build_report
from llm_platform.evaluation.scorers import score_answers
from llm_platform.records import Gate, ModelPin, Prompt, PromptMessage, Release, Sampling, Score

CREATED = datetime(2026, 11, 22, 14, 40, tzinfo=UTC)
MINIMUM = Gate(minimum=0.6, reason="Below it, editors read every review again.")


def application_of(task: str = "classify", **changes: Any) -> Application:
    """An application with a gate of 0.6 on accuracy."""
    fields = {"total": OutputField(type="number"), "day": OutputField(type="date", required=False)}
    values: dict[str, Any] = {
        "name": "reviews",
        "title": "Reviews",
        "task": task,
        "labels": ("HAPPY", "SAD") if task == "classify" else (),
        "fields": fields if task == "extract" else {},
        "source": Source(url="reviews.csv", key="id", text="text", attributes=("origin",)),
        "references": References(url="references.csv", key="id", answer="label"),
        "variants": {"plain": Variant(prompt="plain", model="small")},
        "evaluation": Evaluation(slices=("origin",), gates=Gates(accuracy=MINIMUM)),
    }
    return Application(**{**values, **changes})


def release_of(name: str = "plain") -> Release:
    """A release whose prompt says `name`."""
    return Release(
        application="reviews",
        task="classify",
        model=ModelPin(entry="small", served_name="small-instruct", dialect="nim-2.x", context_length=2048),
        prompt=Prompt(name=name, api="chat", messages=(PromptMessage(role="user", template=f"{name} {{{{ text }}}}"),)),
        sampling=Sampling(),
        decision="text",
    )


@dataclass
class World:
    """Documents with references and one variant's answers; rows are added one by one."""

    application: Application = field(default_factory=application_of)
    documents: list[dict[str, Any]] = field(default_factory=list)
    known: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        count: int = 1,
        *,
        answer: str | None = "HAPPY",
        reference: str | None = "HAPPY",
        split: str = "evaluation",
        status: str | None = "valid",
        **changes: Any,
    ) -> World:
        """Add `count` documents, each with a text of its own unless `fingerprint` says otherwise."""
        for _ in range(count):
            document_id = f"d{len(self.documents):05d}"
            row = {
                "document_id": document_id,
                "fingerprint": f"f-{document_id}",
                "status": status,
                "answer": answer if status == "valid" else None,
                "confidence": None,
                "origin": "here",
            }
            self.documents.append({**row, **changes})
            self.known.append({"document_id": document_id, "answer": reference, "split": split})
        return self

    @property
    def answers(self) -> pd.DataFrame:
        return pd.DataFrame(self.documents)

    @property
    def references(self) -> pd.DataFrame:
        return pd.DataFrame(self.known)

    def scores(self, release: Release | None = None) -> list[Score]:
        release_id = (release or release_of()).release_id
        return score_answers(
            self.answers, self.references, application=self.application, release_id=release_id, references_version="r1"
        )

    def report(
        self, *, scores: Sequence[Score] | None = None, release: Release | None = None, **changes: Any
    ) -> Report:
        chosen = release or release_of()
        values: dict[str, Any] = {
            "application": self.application,
            "variant": "plain",
            "release": chosen,
            "references_version": "r1",
            "created_at": CREATED,
        }
        given = self.scores(chosen) if scores is None else scores
        return build_report(self.answers, self.references, given, **{**values, **changes})
