"""A lake full of documents, and the release that answers them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from llm_platform.application.evaluation import Evaluation, Gates
from llm_platform.application.model import Application
from llm_platform.application.output import OutputField
from llm_platform.application.source import Source
from llm_platform.application.variants import Variant
from llm_platform.records import ModelPin, Prompt, PromptMessage, Release, Sampling, SourceState
from llm_platform.records.tables import DOCUMENTS_SCHEMA
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.benchmarks.client import SYSTEM, text_of
from llm_platform_tests.benchmarks.server import MODEL

NAME = "bench"
_BATCH = 10_000


def location(folder: Path) -> LakeLocation:
    """A lake on a SQLite catalog."""
    return LakeLocation(f"sqlite:{folder / 'lake.sqlite'}", str(folder / "data"))


def application() -> Application:
    """An application that extracts five fields."""
    return Application(
        name=NAME,
        title="Letters",
        task="extract",
        fields={
            "reference": OutputField(type="string", max_length=8),
            "topic": OutputField(type="string"),
            "sentiment": OutputField(type="string"),
            "score": OutputField(type="integer"),
            "summary": OutputField(type="string", max_length=400),
        },
        source=Source(url="letters.csv", key="id", text="text"),
        variants={"plain": Variant(prompt="plain", model=MODEL)},
        evaluation=Evaluation(gates=Gates()),
    )


def release(*, label: bool = False) -> Release:
    """Extracts the five fields; with `label`, says which of two labels holds."""
    messages = (
        PromptMessage(role="system", template=SYSTEM),
        PromptMessage(role="user", template="{{ text }}"),
    )
    answers = {"HAPPY": "positive", "SAD": "negative"} if label else {}
    return Release(
        application=NAME,
        task="classify" if label else "extract",
        model=ModelPin(entry=MODEL, served_name=MODEL, dialect="nim-2.x", context_length=32_768),
        prompt=Prompt(name="plain", api="chat", messages=messages, answers=answers),
        sampling=Sampling(max_tokens=256),
        decision="text",
        output_schema=None if label else application().output_schema(),
    )


def fill(folder: Path, rows: int) -> None:
    """Make a lake of so many documents."""
    with Warehouse.attach(location(folder), threads=1) as lake:
        lake.application(NAME).documents.apply(
            _documents(rows),
            deleted=None,
            full=True,
            consumed=SourceState(kind="snapshot", token="bench@1", snapshot_id=1, table_id="bench"),
        )


def _documents(rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, _BATCH):
        numbers = range(start, min(start + _BATCH, rows))
        ids = [f"{number:08d}" for number in numbers]
        columns = {
            "document_id": ids,
            "fingerprint": [f"fingerprint of {one}" for one in ids],
            "text": [text_of(number) for number in numbers],
            "attributes": ["{}"] * len(ids),
            "bucket": [number % 16 for number in numbers],
            "status": ["sendable"] * len(ids),
            "reason": pa.nulls(len(ids), pa.string()),
            "withheld": pa.nulls(len(ids), pa.string()),
        }
        yield pa.RecordBatch.from_pydict(columns, schema=DOCUMENTS_SCHEMA)
