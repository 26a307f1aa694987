"""Rows of chosen documents, kept between runs: only those whose document, or whose answer, has changed are read again.

Documents with a known answer and those that drift is measured against lie anywhere in a table, so reading some hundred
of them is a pass over all row groups, in every run. They are kept as tallies: `rows/<name>` has what was read, and is
written when that changes; `rows` has the snapshot that all of it holds for, and moves on with every run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from llm_platform.records import content_hash
from llm_platform.warehouse.engine import one_of
from llm_platform.warehouse.session import Session
from llm_platform.warehouse.tallies import ROWS, Tallies

KEY, TEXT = "document_id", "fingerprint"
HOLDERS = "holders"
"""Name under which it is kept how many documents have each of the texts with a known answer."""
MOST_BYTES = 16 * 2**20
"""Of rows that are kept under one name; more are read anew each time."""

Read = Callable[[Sequence[str]], pa.Table]


@dataclass(frozen=True)
class _Stored:
    """What is kept under a name, and since when it holds."""

    rows: pa.Table
    asked: frozenset[str]
    at: int


class KeptRows:
    """Kept rows of one application. They are stored by `Tallies.keep`."""

    def __init__(self, session: Session, application: str) -> None:
        self._session, self._application = session, application
        self._tallies = Tallies(session, application)

    def rows(
        self, name: str, document_ids: Collection[str], read: Read, *, of: Sequence[str], with_answers: bool = False
    ) -> pa.Table:
        """Rows of these documents, in the order of their keys, as `read` gives them.

        Args:
            name: Under which they are kept.
            document_ids: Keys, also of documents that are not there.
            read: Gives one row for each document that is there, with its key and fingerprint, and no row of another.
            of: What `read` gives: its columns, and what else rows follow from. Rows of anything else are read anew.
            with_answers: Whether rows have columns of stored answers.
        """
        wanted, at, rows_of = set(document_ids), self._session.snapshot(), content_hash(list(of))
        kept = None if self._session.has_upstream else self._stored(name, rows_of)
        stale = None if kept is None else self._stale(kept, until=at, with_answers=with_answers)
        if kept is None or stale is None:
            found = read(sorted(wanted))
            self._remember(name, rows_of, _Stored(found, frozenset(wanted), at), changed=True)
            return found.sort_by(KEY)
        if not wanted <= kept.asked and len(kept.asked) > 2 * len(wanted):
            # Others are asked for now than those that are kept.
            kept, stale = _Stored(_among(kept.rows, wanted), kept.asked & wanted, kept.at), stale & wanted
        anew, found = stale | (wanted - kept.asked), kept.rows
        if anew:
            found = pa.concat_tables([_without(found, anew), read(sorted(anew))])
        if anew or self._is_moved(kept):
            self._remember(name, rows_of, _Stored(found, kept.asked | wanted, at), changed=bool(anew))
        return (found if kept.asked <= wanted else _among(found, wanted)).sort_by(KEY)

    def holders(self, fingerprints: Collection[str]) -> dict[str, int]:
        """Text → how many sendable documents have it, of these texts; one that nobody has is left out.

        Only texts of documents that have changed are counted again.
        """
        wanted, at = set(fingerprints), self._session.snapshot()
        standing, kept = self._tallies.standing(HOLDERS), self._tallies.recall(HOLDERS)
        known: dict[str, int] = {}
        if standing is not None and kept is not None and standing["id"] == content_hash(kept):
            moved = self._moved_texts(standing["at"], at)
            known = {} if moved is None else {text: n for text, n in kept.items() if text not in moved}
        if absent := wanted - known.keys():
            found = self._session.looked_up(self._application).holders(absent, at=at)
            known |= {text: found[text].count if text in found else 0 for text in absent}
        counts = {text: known[text] for text in sorted(wanted)}
        self._tallies.remember(HOLDERS, counts)
        if (
            standing is None
            or kept != counts
            or self._session.is_written_since(standing["at"], self._application, "documents")
        ):
            self._tallies.stand(HOLDERS, {"id": content_hash(counts), "at": at})
        return {text: count for text, count in counts.items() if count}

    def _moved_texts(self, since: int, until: int) -> set[str] | None:
        """Texts that changed documents had and have; None where it cannot be told."""
        keys = self._session.changed_keys(self._application, "documents", after=since, until=until)
        if not keys:
            return None if keys is None else set()
        then, now = (
            f"SELECT fingerprint FROM (SELECT * FROM "
            f"{self._session.relation(self._application, 'documents', at_snapshot=at)}) WHERE {one_of(KEY, keys)}"
            for at in (since, until)
        )
        return {row[0] for row in self._session.rows(f"{then} UNION {now}")}

    def _is_moved(self, kept: _Stored) -> bool:
        """Whether anything was written that would be looked through again the next time."""
        return any(
            self._session.is_written_since(kept.at, self._application, table) for table in ("documents", "completions")
        )

    def _stale(self, kept: _Stored, *, until: int, with_answers: bool) -> frozenset[str] | None:
        """Keys of what may be another row now; None where any of them may."""
        changed = self._session.changed_keys(self._application, "documents", after=kept.at, until=until)
        if changed is None:
            return None
        stale = kept.asked & set(changed)
        if not with_answers:
            return stale
        kinds = self._session.kinds_of_change(kept.at, self._application, "completions")
        if kinds is None or kinds - {"insert"}:
            return None
        texts = self._session.changed_keys(self._application, "completions", after=kept.at, until=until, column=TEXT)
        if texts is None:
            return None
        new = set(texts)
        both = zip(kept.rows[KEY].to_pylist(), kept.rows[TEXT].to_pylist(), strict=True) if new else ()
        return stale | {key for key, text in both if text in new}

    def _stored(self, name: str, rows_of: str) -> _Stored | None:
        standing = self._tallies.standing(name)
        if standing is None or standing["of"] != rows_of:
            return None
        content = self._tallies.recall(f"{ROWS}/{name}")
        if content is None or content["id"] != standing["id"]:
            return None
        columns = [pa.array(values, pa.type_for_alias(kind)) for kind, values in content["columns"].values()]
        return _Stored(pa.table(columns, list(content["columns"])), frozenset(content["asked"]), standing["at"])

    def _remember(self, name: str, rows_of: str, stored: _Stored, *, changed: bool) -> None:
        if self._session.has_upstream or stored.rows.nbytes > MOST_BYTES:
            return
        standing = self._tallies.standing(name) or {}
        if changed:
            content = _content(stored)
            standing = {"of": rows_of, "id": content["id"]}
            self._tallies.remember(f"{ROWS}/{name}", content, at=stored.at)
        self._tallies.stand(name, {**standing, "at": stored.at})


def _content(stored: _Stored) -> dict[str, Any]:
    columns = {field.name: [str(field.type), stored.rows[field.name].to_pylist()] for field in stored.rows.schema}
    content = {"columns": columns, "asked": sorted(stored.asked)}
    return {"id": content_hash(content), **content}


def _without(rows: pa.Table, keys: Collection[str]) -> pa.Table:
    return rows.filter(pa.array([key not in keys for key in rows[KEY].to_pylist()], pa.bool_()))


def _among(rows: pa.Table, keys: Collection[str]) -> pa.Table:
    return rows.filter(pa.array([key in keys for key in rows[KEY].to_pylist()], pa.bool_()))
