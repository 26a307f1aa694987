"""What must always be so in the tables of one application, asked of the tables themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from llm_platform.errors import StorageError
from llm_platform.records import SourceState
from llm_platform.warehouse.completions import Completions
from llm_platform.warehouse.documents import SHORT_COLUMNS, DocumentsTable
from llm_platform.warehouse.engine import literal
from llm_platform.warehouse.leases import stored_leases
from llm_platform.warehouse.object_store import sizes_of
from llm_platform.warehouse.schema import published_table
from llm_platform.warehouse.session import LAKE, Session
from llm_platform.warehouse.tallies import Tallies

KEYS = {
    "documents": ("document_id",),
    "references": ("document_id",),
    "completions": ("release_id", "fingerprint"),
    "scores": ("release_id", "fingerprint", "document_id", "scorer", "references_version"),
    "reports": ("sequence",),
    "releases": ("release_id",),
    "rollout": ("sequence",),
}
"""Table → columns that name a row. Rows of before there were sequences have none."""
IN_ORDER = "documents_consumed: no state of the source lies over a newer one"
LEASES = "leases: none of a process that is gone"
TALLIES = "tallies: as counting everything gives them"


class Finding(NamedTuple):
    """One thing that must be so.

    Attributes:
        broken: How many times it is not; 0 where it holds.
        first: The first of them, by its key.
    """

    claim: str
    broken: int
    first: str | None = None


class Audit:
    """Invariants of one application."""

    def __init__(self, session: Session, application: str) -> None:
        self._session, self._application = session, application

    def findings(self) -> Iterator[Finding]:
        """Every claim, whether it holds or not; one about a table that cannot be read does not."""
        yield self._files()
        for table, key in KEYS.items():
            if self._session.exists(self._application, table):
                yield self._once(table, key)
        for number in self._published():
            yield self._once(published_table(number), ("document_id",))
            yield from self._of_published(published_table(number))
        yield self._parts()
        yield from _readable(IN_ORDER, lambda: [self._in_order()])
        yield from _readable(LEASES, lambda: [self._leases()])
        yield from _readable(TALLIES, self._tallies)

    def _files(self) -> Finding:
        """Files that were taken away, or written over with others, by what the catalog says of them."""
        sizes: dict[str, int] = {}
        for table in self._session.tables(self._application):
            listed = f"ducklake_list_files('{LAKE}', {literal(table)}, schema => {literal(self._application)})"
            for rows, size, deletions, more in self._session.rows(
                f"SELECT data_file, data_file_size_bytes, delete_file, delete_file_size_bytes FROM {listed}"
            ):
                sizes |= {rows: size} | ({deletions: more} if deletions else {})
        there = sizes_of(list(sizes), self._session.s3)
        wrong = sorted(path for path, size in sizes.items() if there.get(path) != size)
        claim = "files: each that the catalog names is there, as long as it says"
        return Finding(claim, len(wrong), wrong[0].rpartition("/")[2] if wrong else None)

    def _once(self, table: str, key: tuple[str, ...]) -> Finding:
        columns = ", ".join(f'"{name}"' for name in key)
        shown = " || '/' || ".join(f'"{name}"::VARCHAR' for name in key)
        return self._found(
            f"{table}: one row for each {' and '.join(key)}",
            f'SELECT {shown} FROM {self._relation(table)} WHERE "{key[0]}" IS NOT NULL GROUP BY {columns} '
            "HAVING count(*) > 1",
        )

    def _of_published(self, table: str) -> Iterator[Finding]:
        promoted = f"SELECT release_id FROM {self._relation('rollout')}"
        if self._session.exists(self._application, "rollout_steps"):
            promoted += f" UNION SELECT release_id FROM {self._relation('rollout_steps')}"
        if not self._session.has_upstream:
            yield self._found(
                f"{table}: every row is by a release that somebody decided for",
                f"SELECT document_id FROM {self._relation(table)} WHERE release_id NOT IN ({promoted})",
            )
            yield self._found(
                f"{table}: every valid row has a valid answer in the ledger",
                f"SELECT p.document_id FROM {self._relation(table)} p ANTI JOIN (SELECT release_id, fingerprint FROM "
                f"{self._relation('completions')} WHERE status = 'valid') c USING (release_id, fingerprint) "
                "WHERE p.status = 'valid'",
            )

    def _parts(self) -> Finding:
        ledger = (
            f"SELECT release_id AS of_release_id, fingerprint AS of_fingerprint FROM {self._relation('completions')}"
        )
        return self._found(
            "made_of: what an answer was put together from is in the ledger",
            f"SELECT m.fingerprint FROM {self._relation('made_of')} m ANTI JOIN ({ledger}) c "
            "USING (of_release_id, of_fingerprint)",
        )

    def _in_order(self) -> Finding:
        """States that were stored one after the other, as far back as snapshots are kept."""
        names = ("kind", "table_id", "snapshot_id", "lsn", "goes_back")
        listed = ", ".join(f"json_extract_string(state, '$.{name}')" for name in names)
        oldest = int(self._session.value(f"SELECT min(snapshot_id) FROM {self._session.metadata('ducklake_snapshot')}"))
        newest = self._session.snapshot()
        stored = self._session.insertions(self._application, "documents_consumed", after=oldest, until=newest)
        rows = self._session.rows(f"SELECT snapshot_id, {listed} FROM {stored} ORDER BY 1") if oldest < newest else []
        states = [
            (at, SourceState(kind=kind, token="", table_id=table, snapshot_id=snapshot, lsn=lsn), goes_back == "true")
            for at, kind, table, snapshot, lsn, goes_back in rows
        ]
        wrong = [
            f"snapshot {at}"
            for (_, before, _), (at, state, says_so) in pairwise(states)
            if state.is_behind(before) and not says_so
        ]
        return Finding(IN_ORDER, len(wrong), wrong[0] if wrong else None)

    def _leases(self) -> Finding:
        coordinator, dead = self._session.coordinator, []
        now = coordinator.now()
        for (release_id,) in self._session.rows(f"SELECT DISTINCT release_id FROM {self._relation('releases')}"):
            with coordinator.transaction(f"{self._application}/{release_id}") as statements:
                held = stored_leases(statements, coordinator.leases, self._application, release_id)
            # What was given back has expired; its row stays for its token.
            dead += [one.describe() for one in held if one.expires_at > now and not one.is_live(now)]
        return Finding(LEASES, len(dead), dead[0] if dead else None)

    def _tallies(self) -> Iterator[Finding]:
        """What is kept of whole tables, against counting them."""
        tallies = Tallies(self._session, self._application)
        names = [
            row[0].removeprefix("answers/")
            for row in self._session.rows(
                f"SELECT DISTINCT name FROM {self._relation('tallies')} WHERE starts_with(name, 'answers/') ORDER BY 1"
            )
        ]
        kept, rows = [tallies.documents(), *(tallies.answers(name) for name in names)], self._labelled(names)
        tallies.forget()
        counted = [tallies.documents(), *(tallies.answers(name) for name in names)]
        wrong = [name for name, one, other in zip(["documents", *names], kept, counted, strict=True) if one != other]
        yield Finding(TALLIES, len(wrong), wrong[0] if wrong else None)
        others = zip(["documents", *names], rows, self._labelled(names), strict=True)
        stale = [name for name, one, other in others if one != other]
        yield Finding("tallies: kept rows are as the tables have them", len(stale), stale[0] if stale else None)

    def _labelled(self, releases: list[str]) -> list[list[dict[str, Any]]]:
        """Documents with a known answer, and what each release has answered to them, as runs read them."""
        documents = DocumentsTable(self._session, self._application).known(SHORT_COLUMNS)
        keys, completions = documents["document_id"].to_pylist(), Completions(self._session, self._application)
        answered = (completions.answered(name, document_ids=keys) for name in releases)
        return [table.to_pylist() for table in (documents, *answered)]

    def _found(self, claim: str, keys: str) -> Finding:
        def look() -> Iterator[Finding]:
            rows = self._session.sparingly(lambda: self._session.rows(f"SELECT count(*), min(k) FROM ({keys}) t(k)"))
            yield Finding(claim, int(rows[0][0]), rows[0][1])

        (found,) = _readable(claim, look)
        return found

    def _published(self) -> list[int]:
        tables = self._session.tables(self._application)
        return sorted(int(name.removeprefix("published_v")) for name in tables if name.startswith("published_v"))

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)


def _readable(claim: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a look finds; where a table cannot be read, that."""
    try:
        yield from look()
    except StorageError:
        yield Finding(claim, 1, "a table that this is about cannot be read")
