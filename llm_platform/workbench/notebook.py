"""The platform from a notebook or a script: models to ask, and tables as pandas frames.

Example:
    from llm_platform import connect

    with connect() as platform:
        nim = platform.nim("smollm2-135m")
        answer = nim.client().chat.completions.create(model=nim.model, messages=[...])
        documents = platform.documents("movie_reviews")
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from llm_platform.errors import SpecificationError
from llm_platform.models.lock import load_lock
from llm_platform.operations.releases import load_applications, unknown_application
from llm_platform.records.sensitive import QUOTED
from llm_platform.records.tables import TABLES
from llm_platform.resources.nim import NIMResource
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.calls import SCHEMA

if TYPE_CHECKING:
    import pandas as pd

QUOTING = frozenset(name for name, columns in TABLES.items() if QUOTED.intersection(columns))
"""Tables that quote documents, answers and people, beside the published ones: who reads them is written down."""

# Columns that hold JSON; frames give them as Python values.
_JSON_COLUMNS = frozenset(
    {"attributes", "label_logprobs", "report", "content", "evidence", "observed", "model", "request", "response"}
)


class Platform:
    """Models of a deployment, and the tables of one namespace, now or as they were at a snapshot.

    Tables are read from that namespace's own lake: what a branch reuses of its upstream is read by connecting to that.
    Calls are recorded in the namespace that the settings name, whichever is read.
    """

    def __init__(self, settings: Settings, *, namespace: str | None = None, snapshot: int | None = None) -> None:
        self.settings, self._snapshot = settings, snapshot
        self._lake = WarehouseResource.of(settings.in_namespace(namespace) if namespace else settings)
        self._nims: dict[str, NIMResource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Store the calls that were made; without it they are stored within seconds, and when the process ends."""
        for nim in self._nims.values():
            nim.close()

    def models(self) -> list[str]:
        """Names of the lock file."""
        return list(load_lock(self.settings.models_lock))

    def nim(self, entry: str) -> NIMResource:
        """A model of the lock file, as assets have it; calls through its clients are recorded.

        Raises:
            SpecificationError: there is no such entry.
        """
        if entry not in self.models():
            raise SpecificationError(f"models.lock.yaml has no entry {entry!r}. There are: {', '.join(self.models())}.")
        if entry not in self._nims:
            self._nims[entry] = NIMResource.of(self.settings, entry)
        return self._nims[entry]

    def snapshot(self) -> int:
        """The snapshot that is read: the one asked for, or the newest."""
        if self._snapshot is not None:
            return self._snapshot
        with self._lake.open(read_only=True) as lake:
            return lake.snapshot()

    def documents(self, application: str) -> pd.DataFrame:
        """Documents: one row each, with text, attributes and fingerprint."""
        return self.table(application, "documents")

    def references(self, application: str) -> pd.DataFrame:
        """Known answers with their split."""
        return self.table(application, "references")

    def completions(self, application: str) -> pd.DataFrame:
        """Stored answers of all releases; `releases` says what each release is."""
        return self.table(application, "completions")

    def releases(self, application: str) -> pd.DataFrame:
        """Releases that were ever asked: model pin, prompt, sampling."""
        return self.table(application, "releases")

    def scores(self, application: str) -> pd.DataFrame:
        """Grades of answers."""
        return self.table(application, "scores")

    def reports(self, application: str) -> pd.DataFrame:
        """Metrics of variants against their minimums; `report` is the whole report as a mapping."""
        return self.table(application, "reports")

    def rollout(self, application: str) -> pd.DataFrame:
        """Decisions about what is published."""
        return self.table(application, "rollout")

    def calls(self) -> pd.DataFrame:
        """Requests that people's and teams' own code sent."""
        for nim in self._nims.values():
            nim.flush()
        return self._frame(SCHEMA, "calls").sort_values("started_at", ignore_index=True)

    def table(self, application: str, table: str) -> pd.DataFrame:
        """Any table of an application; columns that hold JSON as Python values.

        Raises:
            SpecificationError: no application has this name.
            StorageError: nothing is stored yet, or the snapshot does not exist.
        """
        frame = self._frame(application, table)
        if frame.empty and application not in (known := load_applications(*self.settings.application_files)):
            raise unknown_application(application, known)
        return frame

    def _frame(self, application: str, table: str) -> pd.DataFrame:
        with self._lake.open(read_only=True) as lake:
            frame: pd.DataFrame = lake.frame(application, table, at_snapshot=self._snapshot).to_pandas()
        if len(frame) and (table in QUOTING or table.startswith("published_v")):
            self._lake.note_read(application, f"connect(): {table}", rows=len(frame))
        for name in _JSON_COLUMNS & set(frame.columns):
            frame[name] = frame[name].map(_parsed)
        return frame


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) and text else None
    except ValueError:
        return text  # a reply that was no JSON
