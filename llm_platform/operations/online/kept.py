"""Documents that callers have sent, on their way into the lake, where an application keeps them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_platform.errors import PlatformError
from llm_platform.inference.journal import Journal, recover
from llm_platform.operations.online.open_lake import OpenLake
from llm_platform.records import OnlineDocument, canonical_json, from_json_lines, json_lines

FOLDER = "online_documents"
_NEVER = float("inf")


class KeptDocuments:
    """A journal of documents: safe from the death of this process at once, in the lake within seconds.

    Attributes:
        problems: Why the last commit did not succeed, if so.
    """

    def __init__(self, lake: OpenLake, application: str, journals: Path) -> None:
        self.problems: tuple[str, ...] = ()
        self._lake, self._application = lake, application
        self._folder = journals / application / FOLDER
        self._lock, self._committing = threading.Lock(), threading.Lock()
        self._journal: Journal | None = None
        self._waiting, self._left_behind = 0, True

    def keep(self, document_id: str, columns: Mapping[str, Any]) -> None:
        """Keep a document; it takes some microseconds.

        Raises:
            StorageError: the disk does not take it.
        """
        row = OnlineDocument(
            document_id=document_id, columns=canonical_json(dict(columns)), received_at=datetime.now(UTC)
        )
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
                with recover(self._folder, OnlineDocument) as found:
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
        self._store(from_json_lines(OnlineDocument, segment.read_bytes().splitlines()))

    def _store(self, rows: list[OnlineDocument]) -> None:
        self._lake.lake().application(self._application).online_documents.append(rows)
