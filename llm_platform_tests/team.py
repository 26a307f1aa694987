"""A small team for tests: an application folder, a table of documents, known answers, and a scripted model.

The model answers right when the prompt says "clearly" and SAD otherwise, so one variant passes and one is refused.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llm_platform.definitions import build_definitions
from llm_platform.operations.releases import LoadedApplication, load_applications
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import CHECKOUT, Settings
from llm_platform_tests.servers.scripted import MODEL, Seen

NAME = "tickets"
ENTRY = "scripted"


def right_answer(number: int) -> str:
    return "HAPPY" if number % 2 else "SAD"


def answer(seen: Seen) -> str:
    """What the scripted model says: right if asked clearly, else SAD."""
    text = json.dumps(seen.body)
    return right_answer(int(seen.document_id)) if "clearly" in text else "SAD"


class Team:
    """Files of one team below `root`, and its settings."""

    def __init__(self, root: Path, url: str, *, documents: int = 60, **settings: Any) -> None:
        self.root, self.url = root, url
        self.folder = root / "applications" / NAME
        (self.folder / "prompts").mkdir(parents=True)
        self.write_documents({f"{number}": self.text(number) for number in range(documents)})
        self.write_references({f"{number}": right_answer(number) for number in range(documents)})
        self.write_prompt("clear", "Say clearly whether this is HAPPY or SAD: {{ text }}")
        self.write_prompt("vague", "HAPPY or SAD? {{ text }}")
        self.specification: dict[str, Any] = {
            "name": NAME,
            "title": "Mood of tickets",
            "task": "classify",
            "labels": ["HAPPY", "SAD"],
            "source": {"url": "../../tickets.csv", "key": "ticket", "text": "body", "attributes": ["team"]},
            "references": {"url": "../../known.csv", "key": "ticket", "answer": "mood", "seed": 3, "train_share": 0.3},
            "variants": {
                "clear": {"prompt": "clear", "model": ENTRY, "sampling": {"max_tokens": 8}},
                "vague": {"prompt": "vague", "model": ENTRY, "sampling": {"max_tokens": 8}},
            },
            "evaluation": {
                "slices": ["team"],
                "gates": {
                    "accuracy": {"minimum": 0.7, "reason": "half of the tickets are of each mood"},
                    "valid_rate": {"minimum": 0.8, "reason": "readers of totals can live with some holes"},
                },
            },
        }
        self.write_specification()
        self.lock = {
            "mode": "external",
            "dialect": "nim-2.x",
            "served_name": MODEL,
            "base_urls": [url],
            "model": "test/model",
            "licence": "none",
            "context_length": 4096,
            "slots": 8,
        }
        self.lock_file = root / "models.lock.yaml"
        self.write_lock()
        self.settings = Settings(
            state=root / "state",
            namespace="test",
            applications=(root / "applications",),
            models_lock=self.lock_file,
            outage_seconds=5.0,
            **settings,
        )

    @staticmethod
    def text(number: int, *, note: str = "") -> str:
        return f"DOC#{number}# the printer is on fire {note}".strip()

    def write_documents(self, texts: Mapping[str, str], *, columns: Sequence[str] = ("ticket", "body", "team")) -> None:
        with (self.root / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(
                [key, text, "red" if index % 2 else "blue"][: len(columns)]
                for index, (key, text) in enumerate(texts.items())
            )

    def write_references(self, answers: Mapping[str, str]) -> None:
        with (self.root / "known.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["ticket", "mood"])
            writer.writerows(answers.items())

    def write_prompt(self, name: str, text: str, *, answers: tuple[str, str] = ("HAPPY", "SAD")) -> None:
        front = f"---\napi: chat\nanswers: {{HAPPY: {answers[0]}, SAD: {answers[1]}}}\n---\n# user\n\n"
        (self.folder / "prompts" / f"{name}.md").write_text(front + text + "\n", encoding="utf-8")

    def write_specification(self) -> None:
        (self.folder / "application.yaml").write_text(
            yaml.safe_dump(self.specification, sort_keys=False), encoding="utf-8"
        )

    def write_lock(self) -> None:
        shipped = yaml.safe_load((CHECKOUT / "models.lock.yaml").read_text(encoding="utf-8"))
        shipped["models"][ENTRY] = self.lock
        self.lock_file.write_text(yaml.safe_dump(shipped, sort_keys=False), encoding="utf-8")

    @property
    def loaded(self) -> LoadedApplication:
        """The application as its files say now.

        Raises:
            SpecificationError: they have mistakes.
        """
        return load_applications(*self.settings.application_files).named(NAME)

    @property
    def warehouse(self) -> WarehouseResource:
        return WarehouseResource.of(self.settings)

    def definitions(self) -> Any:
        """Definitions as the files say now."""
        return build_definitions(self.settings)
