"""Texts that a release has not answered: their keys are looked for once, their texts are read as they are needed."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

from llm_platform.records import DocumentRow
from llm_platform.records.rollout import AskedDocuments
from llm_platform.warehouse.engine import execute, one_of
from llm_platform.warehouse.session import FEW_KEYS, LAKE, UPSTREAM, Session
from llm_platform.warehouse.shares import asked
from llm_platform.warehouse.tallies import Tallies
from llm_platform.warehouse.watch import Watch

READ_ROWS = 2_000
"""Texts that are read at once while a run goes on: each read scans the keys of all documents."""
PREFIX_CHARACTERS = 256
"""As far into a text as one is looked at to tell whether it begins like another."""
SIDE_BY_SIDE = 8
"""Prefixes whose documents are sent in turns; see `MissingTexts.batches`."""


@dataclass(frozen=True)
class MissingSize:
    """Texts without an answer.

    Attributes:
        long, long_bytes: Those that are longer than what was asked about, and how long.
        long_parts: In how many pieces of that length they can be cut.
    """

    documents: int
    bytes: int
    long: int
    long_bytes: int
    long_parts: int


class MissingTexts:
    """The keys that one look found, in a table of this process; use it as a context manager.

    A run of hours must not keep a transaction open on the catalog, and a copy of all texts took 5 KiB of memory a row:
    so keys are copied, and texts are read a few thousand at a time.

    Args:
        buckets: Look in these only; None means all.
        documents: Look at these only; None means all.
    """

    def __init__(
        self,
        session: Session,
        application: str,
        release_id: str,
        *,
        buckets: Collection[int] | None = None,
        documents: AskedDocuments | None = None,
    ) -> None:
        self._session, self._application, self._release_id, self._buckets = session, application, release_id, buckets
        self._asked = documents
        self._cursor = session.open()
        self._documents: Watch | None = None
        # A database cursor must not be used, or closed, by two threads at once.
        self._lock = threading.Lock()

    def __enter__(self) -> MissingTexts:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._cursor.close()

    @property
    def is_current(self) -> bool:
        """Whether the documents are those that were looked at."""
        return self._documents is not None and not self._documents.is_disturbed()

    def look(self) -> bool:
        """Find what is missing now; whether the documents are others than those of the look before."""
        before, self._documents = self._documents, Watch(self._session, self._application, "documents")
        keys = missing_keys(
            self._session, self._application, self._release_id, buckets=self._buckets, documents=self._asked
        )
        with self._lock, self._session.errors("look for unanswered texts in"):
            self._session.sparingly(
                lambda: self._cursor.execute(
                    "CREATE OR REPLACE TEMP TABLE missing AS "
                    f"SELECT document_id, hash(fingerprint) AS text_hash, bucket FROM ({keys}) ORDER BY document_id"
                )
            )
        # Asked when the keys have been read: a change in between would be in them.
        return before is not None and before.is_disturbed()

    def by_bucket(self) -> dict[int, int]:
        """Bucket → texts that were missing; buckets without such a text are left out."""
        return dict(self._run("SELECT bucket, count(*) FROM missing GROUP BY 1 ORDER BY 1"))

    def batches(
        self,
        *,
        buckets: Collection[int] | None = None,
        prefix: Sequence[str] = ("text",),
        side_by_side: int = SIDE_BY_SIDE,
    ) -> Iterator[list[DocumentRow]]:
        """What was missing, of some buckets, and has the same text still.

        Of the rows that are read at once, those whose prompts begin alike come in turns: the longest of each of
        `side_by_side` prefixes, then the next of each. An engine that caches prefixes by slot finds each of them in the
        slot that had it before; sent one prefix after the other, all slots would compute the same one.

        Args:
            prefix: What prompts read, in order: attributes, and `text`.
        """
        wanted = "true" if buckets is None else _among("bucket", buckets)
        few = self._run(f"SELECT document_id FROM missing WHERE {wanted} LIMIT {READ_ROWS + 1:d}")
        # Those of one page are named, so that files that hold none of them are passed over.
        named = one_of("document_id", [row[0] for row in few]) if len(few) <= READ_ROWS else "true"
        bounds = self._run(
            f"SELECT document_id FROM (SELECT document_id, row_number() OVER () - 1 AS position FROM missing "
            f"WHERE {wanted}) WHERE position > 0 AND position % $rows = 0 ORDER BY 1",
            {"rows": READ_ROWS},
        )
        documents = self._session.relation(self._application, "documents")
        for first, after in pairwise([None, *(row[0] for row in bounds), None]):
            ends = {"document_id >= $first": first, "document_id < $after": after}
            # The range stands at both scans, so that nothing else of the tables is taken into memory.
            between = " AND ".join([named, *(end for end, key in ends.items() if key is not None)])
            rows = self._run(
                f"SELECT d.document_id, d.fingerprint, d.text, d.attributes, {_prefix(prefix)} "
                f"FROM (SELECT * FROM {documents} WHERE {between}) d "
                f"SEMI JOIN (SELECT * FROM missing WHERE {wanted} AND {between}) m "
                "ON d.document_id = m.document_id AND hash(d.fingerprint) = m.text_hash",
                {name: key for name, key in {"first": first, "after": after}.items() if key is not None},
            )
            yield [
                DocumentRow(
                    document_id=row[0],
                    fingerprint=row[1],
                    text=row[2],
                    attributes={} if row[3] in (None, "{}") else json.loads(row[3]),
                    prefix=row[4],
                )
                for row in in_turns(rows, side_by_side)
            ]

    def _run(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._lock, self._session.errors("look for unanswered texts in"):
            return execute(self._cursor, sql, parameters or {}).fetchall()


def in_turns(rows: Sequence[tuple[Any, ...]], side_by_side: int) -> list[tuple[Any, ...]]:
    """Rows of (key, fingerprint, text, attributes, prefix) in the order of `MissingTexts.batches`."""
    groups: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        groups.setdefault(row[4], []).append(row)
    for group in groups.values():
        if len(group) > 1:
            group.sort(key=lambda row: (-len(row[2]), row[0]))
    prefixes = sorted(groups)
    ordered: list[tuple[Any, ...]] = []
    for start in range(0, len(prefixes), side_by_side):
        beside = [groups[prefix] for prefix in prefixes[start : start + side_by_side]]
        ordered += [row for turn in zip_longest(*beside) for row in turn if row is not None]
    return ordered


def missing_keys(
    session: Session,
    application: str,
    release_id: str,
    *,
    buckets: Collection[int] | None = None,
    documents: AskedDocuments | None = None,
) -> str:
    """SQL for document_id, fingerprint and bucket of each sendable text without an answer, here and upstream.

    A text belongs to the bucket of its smallest document: two holders of different buckets never have the same text.
    It is asked about where any of its documents is.
    """
    release = "'" + release_id.replace("'", "''") + "'"
    catalogs = [LAKE, UPSTREAM] if session.has_upstream else [LAKE]
    known = Tallies(session, application).unanswered(release_id)
    # Where it is known which they are, neither table is looked through for others.
    these = "" if known is None else f" AND {one_of('fingerprint', known)}"
    holders = "" if known is None or len(known) > FEW_KEYS else f" AND {_held_by(session, application, known)}"
    stored = [session.relation(application, "completions", catalog=catalog) for catalog in catalogs]
    if known is not None and len(known) <= FEW_KEYS and not session.has_upstream:
        stored = [session.looked_up(application).answers(known)]
    absent = " ".join(
        f"AND NOT EXISTS (SELECT 1 FROM (SELECT fingerprint FROM {relation} WHERE release_id = {release}{these}) c "
        "WHERE c.fingerprint = d.fingerprint)"
        for relation in stored
    )
    bucket = "arg_min(d.bucket, d.document_id)"
    conditions = [] if buckets is None else [_among(bucket, buckets)]
    if documents is not None:
        conditions.append(f"bool_or({asked(documents, session.relation(application, 'references'))})")
    having = f" HAVING {' AND '.join(conditions)}" if conditions else ""
    return (
        f"SELECT min(d.document_id) AS document_id, d.fingerprint, {bucket} AS bucket "
        f"FROM {session.relation(application, 'documents')} d "
        f"WHERE d.status = 'sendable'{these}{holders} {absent} GROUP BY d.fingerprint{having}"
    )


def _held_by(session: Session, application: str, fingerprints: list[str]) -> str:
    """SQL that a document is one of those that have these texts: no order of the table helps to find them, their keys'
    order does. A document that gets one of the texts later is a change of the table, as any other.
    """
    held = session.looked_up(application).holders(fingerprints)
    keys = sorted(key for one in held.values() for key in one.keys)
    few = len(keys) <= FEW_KEYS and all(one.is_complete for one in held.values())
    return one_of("d.document_id", keys) if few else "true"


def _among(value: str, numbers: Collection[int]) -> str:
    return f"{value} IN ({', '.join(f'{one:d}' for one in numbers)})" if numbers else "false"


def _prefix(names: Sequence[str]) -> str:
    """SQL for one number a row, equal where prompts begin alike."""
    parts = [
        f"left(d.text, {PREFIX_CHARACTERS:d})" if name == "text" else f"d.attributes ->> '$.\"{name}\"'"
        for name in names
    ]
    # What comes after the text begins alike only where whole texts are equal, and those are sent once.
    until = names.index("text") + 1 if "text" in names else len(names)
    return f"hash({', '.join(parts[:until])})" if parts else "0::UBIGINT"
