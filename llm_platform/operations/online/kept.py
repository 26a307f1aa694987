"""What a service writes down beside its answers: documents that callers have sent, and who got which answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from llm_platform.errors import PlatformError
from llm_platform.inference.journal import Journal, recover
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.records import OnlineDocument, Record, TextLook, canonical_json, from_json_lines, json_lines
from llm_platform.warehouse.store import ApplicationStore

DOCUMENTS, LOOKS = "online_documents", "online_looks"
WAY = "serve"
"""How answers to callers are named in the access log."""
_NEVER = float("inf")

Row = TypeVar("Row", bound=Record)


class Kept(Generic[Row]):
    """A journal of rows: safe from the death of this process at once, in the lake within seconds.

    Args:
        folder: Of the journal.
        record: What a row is.
        store: Puts rows into the lake.

    Attributes:
        problems: Why the last commit did not succeed, if so.
    """

    def __init__(self, folder: Path, record: type[Row], store: Callable[[list[Row]], None]) -> None:
        self.problems: tuple[str, ...] = ()
        self._folder, self._record, self._store = folder, record, store
        self._lock, self._committing = threading.Lock(), threading.Lock()
        self._journal: Journal | None = None
        self._waiting, self._left_behind = 0, True

    def keep(self, row: Row) -> None:
        """Keep a row; it takes some microseconds.

        Raises:
            StorageError: the disk does not take it.
        """
        with self._lock:
            if self._journal is None:
                self._journal = Journal(
                    self._folder, self._commit_segment, commit_rows=10**9, commit_seconds=_NEVER, synced=False
                )
            self._journal(json_lines([row]))
            self._waiting += 1

    def commit(self) -> None:
        """Store what waits, and what services that died have left.

        Raises:
            PlatformError: the lake cannot be written; everything is kept for the next time.
        """
        with self._committing:
            if not self._waiting and not (self._left_behind and self._folder.is_dir()):
                return
            with self._lock:
                journal, self._journal = self._journal, None
                self._waiting = 0
            self._left_behind = True
            try:
                if journal is not None:
                    with journal:
                        pass  # leaving it commits
                with recover(self._folder, self._record) as found:
                    found.store(self._store)
            except PlatformError as error:
                self.problems = (str(error),)
                raise
            self._left_behind, self.problems = False, ()

    def close(self) -> None:
        """Store the rest.

        Raises:
            PlatformError: the lake cannot be written; whoever serves next stores it.
        """
        self.commit()

    def _commit_segment(self, segment: Path) -> None:
        self._store(from_json_lines(self._record, segment.read_bytes().splitlines()))


class KeptDocuments(Kept[OnlineDocument]):
    """Documents that callers have sent, on their way into the lake, where an application keeps them."""

    def __init__(self, lake: OpenLake, application: str, journals: Path) -> None:
        def store(rows: list[OnlineDocument]) -> None:
            with lake.turn() as opened:
                opened.application(application).online_documents.append(rows)

        super().__init__(journals / application / DOCUMENTS, OnlineDocument, store)

    def keep_document(self, document_id: str, columns: Mapping[str, Any]) -> None:
        """Keep a document; see `keep`."""
        packed = canonical_json(dict(columns))
        self.keep(OnlineDocument(document_id=document_id, columns=packed, received_at=datetime.now(UTC)))


class KeptLooks(Kept[TextLook]):
    """Who got which answer, on its way into the access log."""

    def __init__(self, lake: OpenLake, application: str, journals: Path) -> None:
        def store(rows: list[TextLook]) -> None:
            with lake.turn() as opened:
                opened.application(application).reads.append_looks(rows)

        super().__init__(journals / application / LOOKS, TextLook, store)
        self._subjects: Callable[[str], str | None] | None = None

    def learn(self, store: ApplicationStore) -> None:
        """Learn how documents are named in the log, while the lake is there."""
        if self._subjects is None:
            self._subjects = store.reads.subjects()

    def note(self, caller: str, document_id: str) -> None:
        """Write down that a caller gets an answer, before it does; see `keep`."""
        subject = None if self._subjects is None else self._subjects(document_id)
        self.keep(TextLook(at=datetime.now(UTC), by=caller, way=WAY, subject=subject))
