"""`tallies`: sums over whole tables, kept with the snapshot that they were taken at and moved on by what changed since.

Everything in a tally is a sum, a count of a value or an exclusive or of hashes, so a row that leaves is taken out of it
as exactly as one that comes is put in: what is moved on is what counting everything anew would give.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb

from llm_platform.errors import StorageError
from llm_platform.records import TokenUsage
from llm_platform.warehouse.engine import literal, one_of
from llm_platform.warehouse.hashing import row_hash, version_of
from llm_platform.warehouse.session import FEW_KEYS, UPSTREAM, Session, Transaction

DOCUMENTS = "documents"
ROWS = "rows"
"""Prefix of the names of kept rows, and name of what is said of them; see `kept_rows`."""
VERSIONED = ("document_id", "fingerprint", "status")
JUDGED = ("document_id", "attributes", "status", "fingerprint")
ANSWERED = ("fingerprint", "status", "answer", "confidence")
TOKENS = tuple(TokenUsage.model_fields)
FEW = 10_000
MOST_SHARE = 0.2
"""Where more texts than both have changed, counting everything anew costs no more."""

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Sums:
    """What was counted.

    Attributes:
        numbers: Name → sum.
        hashes: Name → exclusive or of the hashes of rows.
        counts: Name → value → how often it occurs.
    """

    numbers: Mapping[str, int]
    hashes: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]

    def moved(self, before: Sums, after: Sums) -> Sums:
        """The same with some rows as they are after instead of as they were before."""
        counts: dict[str, dict[str, int]] = {}
        for name, values in self.counts.items():
            taken, put = before.counts[name], after.counts[name]
            found = {key: values.get(key, 0) - taken.get(key, 0) + put.get(key, 0) for key in {*values, *taken, *put}}
            counts[name] = {key: count for key, count in found.items() if count}
        return Sums(
            {name: value - before.numbers[name] + after.numbers[name] for name, value in self.numbers.items()},
            {name: value ^ before.hashes[name] ^ after.hashes[name] for name, value in self.hashes.items()},
            counts,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON; hashes as text, since they are longer than its numbers."""
        hashes = {name: str(value) for name, value in self.hashes.items()}
        return {"numbers": dict(self.numbers), "hashes": hashes, "counts": {k: dict(v) for k, v in self.counts.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Sums:
        """Of `to_json`."""
        hashes = {name: int(value) for name, value in content["hashes"].items()}
        return cls(content["numbers"], hashes, content["counts"])


class _Counted:
    """Names of what is counted, and the SQL that counts it: the same for all rows, those before and those after."""

    def __init__(
        self, numbers: Mapping[str, str], hashes: Mapping[str, tuple[str, str]], counts: Mapping[str, tuple[str, str]]
    ) -> None:
        self._numbers, self._hashes, self._counts = list(numbers), list(hashes), list(counts)
        self._columns = [f"coalesce({sql}, 0)::HUGEINT::VARCHAR" for sql in numbers.values()]
        self._columns += [f"coalesce(bit_xor({sql}) FILTER ({where}), 0)::VARCHAR" for sql, where in hashes.values()]
        self._columns += [
            f"to_json(coalesce(histogram({sql}) FILTER ({where}), MAP()))::VARCHAR" for sql, where in counts.values()
        ]

    def select(self, relation: str) -> str:
        """The query."""
        return f"SELECT {', '.join(self._columns)} FROM {relation}"

    def sums(self, row: Row) -> Sums:
        """What it found."""
        values = iter(row)
        return Sums(
            {name: int(next(values)) for name in self._numbers},
            {name: int(next(values)) for name in self._hashes},
            {name: json.loads(next(values)) for name in self._counts},
        )


DOCUMENT_SUMS = _Counted(
    {"documents": "count(*)", "of_source": "count(*) FILTER (origin IS NULL)"},
    {"version": (row_hash(VERSIONED), "true"), "judged": (row_hash(JUDGED), "true")},
    {"status": ("status", "status IS NOT NULL")},
)
"""Of rows of `documents`."""

LEDGER_SUMS = _Counted(
    {
        **{name: f"sum({name}) FILTER (NOT reused)" for name in TOKENS},
        "cut": "count(cut_tokens)",
        "cut_tokens": "sum(cut_tokens)",
        "split": "count(parts)",
        "parts": "sum(parts)",
        "split_failed": "count(*) FILTER (parts IS NOT NULL AND status <> 'valid')",
    },
    {},
    {"status": ("status", "status IS NOT NULL")},
)
"""Of stored answers of one release, also to texts that nobody has any more."""

TEXT_SUMS = _Counted(
    {
        "missing": "count(*) FILTER (status IS NULL)",
        "texts": "count(status)",
        "answered": "sum(n) FILTER (status IS NOT NULL)",
        "valid": "sum(n) FILTER (status = 'valid')",
        "answered_squares": "sum(n * n) FILTER (status IS NOT NULL)",
        "valid_squares": "sum(n * n) FILTER (status = 'valid')",
        **{f"text_{name}": f"sum({name})" for name in TOKENS},
    },
    {"version": (row_hash(ANSWERED), "status IS NOT NULL")},
    {"latency": ("format('{:.3g}', latency_seconds)", "latency_seconds IS NOT NULL")},
)
"""Of texts: how many sendable documents have it (`n`), and its answer, whose columns are null where there is none."""

ANSWER_COLUMNS = ("status", "answer", "confidence", "latency_seconds", *TOKENS)


@dataclass(frozen=True)
class DocumentsTally:
    """What there is of documents."""

    sums: Sums

    @property
    def counts(self) -> dict[str, int]:
        """Status → number of documents, in the order of their names."""
        return dict(sorted(self.sums.counts["status"].items()))

    @property
    def of_source(self) -> int | None:
        """How many of them the source has; None where an older version has counted."""
        return self.sums.numbers.get("of_source")

    @property
    def data_version(self) -> str:
        """Hash of keys, fingerprints and statuses."""
        return version_of((self.sums.numbers["documents"], self.sums.hashes["version"]))

    @property
    def judged_version(self) -> str:
        """The same with what prompts do not read."""
        return version_of((self.sums.numbers["documents"], self.sums.hashes["judged"]))


@dataclass(frozen=True)
class AnswersTally:
    """What one release has answered.

    Attributes:
        ledger: Over its stored answers.
        texts: Over the texts that sendable documents have now.
    """

    ledger: Sums
    texts: Sums

    @property
    def missing(self) -> int:
        """Texts without an answer."""
        return self.texts.numbers["missing"]

    @property
    def data_version(self) -> str:
        """Hash of the answers to the documents as they are now."""
        return version_of((self.texts.numbers["texts"], self.texts.hashes["version"]))


@dataclass(frozen=True)
class _Kept:
    """A stored tally: what was counted at a snapshot of this lake, and of its upstream where there is one."""

    snapshot: int
    upstream: int | None
    content: dict[str, Any]


class Tallies:
    """Tallies of one application. They are computed when asked for, and stored by `keep`."""

    def __init__(self, session: Session, application: str) -> None:
        self._session, self._application = session, application

    def documents(self) -> DocumentsTally:
        """Of the documents now."""
        kept = self._now(DOCUMENTS, [DOCUMENTS], self._all_documents, self._changed_documents)
        assert kept is not None
        return DocumentsTally(Sums.from_json(kept.content["rows"]))

    def answers(self, release_id: str) -> AnswersTally:
        """Of a release now: ours, then those of the upstream that we lack."""
        kept = self._answers(release_id)
        assert kept is not None
        return AnswersTally(Sums.from_json(kept.content["ledger"]), Sums.from_json(kept.content["texts"]))

    def unanswered(self, release_id: str) -> list[str] | None:
        """Fingerprints of the texts that a release has not answered; None where only a look at all of them can tell."""
        kept = self._answers(release_id, in_full=False)
        if kept is None:
            return None
        if not kept.content["texts"]["numbers"]["missing"]:
            return []
        found: list[str] | None = kept.content.get("unanswered")
        return found

    def remember(self, name: str, content: dict[str, Any], *, at: int | None = None) -> None:
        """Have `keep` store what was made of some rows, with what tells whether they are the same still.

        Args:
            at: The snapshot that it holds for; None means the newest.
        """
        if self.recall(name) == content:
            return
        snapshot = self._session.snapshot() if at is None else at
        self._session.counted[self._application, name] = _Kept(snapshot, None, content)

    def recall(self, name: str) -> dict[str, Any] | None:
        """What was remembered last under a name."""
        kept = self._session.counted.get((self._application, name)) or self._stored(name)
        return None if kept is None else kept.content

    def standing(self, name: str) -> dict[str, Any] | None:
        """What was said last of something that is kept, such as the snapshot that it holds for."""
        found: dict[str, Any] | None = (self.recall(ROWS) or {}).get(name)
        return found

    def stand(self, name: str, standing: dict[str, Any]) -> None:
        """Say it: what is kept stays as it was stored, however long, and only this is written anew."""
        self.remember(ROWS, {**(self.recall(ROWS) or {}), name: standing})

    def keep(self) -> None:
        """Store what was counted since the last time, so that the next process begins from there."""
        session = self._session
        new = {
            name: kept
            for (application, name), kept in session.counted.items()
            if application == self._application and session.stored_tallies.get((application, name)) != kept
        }
        if not new:
            return

        def body(transaction: Transaction) -> bool:
            known_at = session.tallies_read_at.get(self._application)
            alone = known_at is not None and not session.is_written_since(known_at, self._application, "tallies")
            target = transaction.target("tallies")
            # Nobody can forget anything meanwhile; what was read before may quote it.
            rows = [
                [name, kept.snapshot, kept.upstream, json.dumps(kept.content)]
                for name, kept in new.items()
                if not name.startswith(ROWS)
                or not session.is_written_since(kept.snapshot, self._application, "forgotten")
            ]
            transaction.run(f"DELETE FROM {target} WHERE {one_of('name', list(new))}")
            if rows:
                values = ", ".join(["(?, ?, ?, ?, now())"] * len(rows))
                transaction.run(
                    f"INSERT INTO {target} (name, snapshot, upstream_snapshot, content, counted_at) VALUES {values}",
                    [value for row in rows for value in row],
                )
            return alone

        alone, snapshot = session.write(self._application, body)
        session.stored_tallies |= {(self._application, name): kept for name, kept in new.items()}
        if alone:
            # What has been read before, with what was just written, is all that there is.
            session.tallies_read_at[self._application] = snapshot

    def clear(self) -> None:
        """Take away what is stored, so that every process counts everything anew."""

        def body(transaction: Transaction) -> None:
            if transaction.count(f"SELECT count(*) FROM {transaction.relation('tallies')}"):
                transaction.run(f"DELETE FROM {transaction.target('tallies')}")

        self._session.write(self._application, body)
        self._session.stored_tallies.clear()
        self._session.tallies_read_at.clear()
        self._session.counted.clear()

    def forget(self) -> None:
        """Count everything anew from now on: nothing of what was kept is believed."""
        self._session.counted = {key: one for key, one in self._session.counted.items() if key[0] != self._application}
        self._session.recount.add(self._application)

    def _answers(self, release_id: str, *, in_full: bool = True) -> _Kept | None:
        return self._now(
            f"answers/{release_id}",
            [DOCUMENTS, "completions"],
            lambda cursor, at: self._all_answers(cursor, release_id, at),
            lambda cursor, kept, at: self._changed_answers(cursor, release_id, kept, at),
            in_full=in_full,
        )

    def _now(
        self,
        name: str,
        tables: list[str],
        count: Callable[[duckdb.DuckDBPyConnection, int], dict[str, Any]],
        move: Callable[[duckdb.DuckDBPyConnection, _Kept, int], dict[str, Any] | None],
        *,
        in_full: bool = True,
    ) -> _Kept | None:
        """The tally as it is now; None where everything would have to be counted, and `in_full` is false."""
        session, key = self._session, (self._application, name)
        at = session.snapshot()
        upstream = session.snapshot(catalog=UPSTREAM) if session.has_upstream else None
        kept: _Kept | None = session.counted.get(key) or self._stored(name)
        if kept is not None and (kept.upstream is None) == (upstream is None):
            if self._is_same(kept, tables, at=at, upstream=upstream):
                session.counted[key] = kept
                return kept
            if upstream is None and (moved := self._moved(move, kept, at)) is not None:
                kept = session.counted[key] = _Kept(at, upstream, {**moved, "moved": True})
                return kept
        if not in_full:
            return None
        with session.errors("count"), closing(session.open()) as cursor:
            # The keys of a whole table are grouped: that may spill, and must not grow with it.
            content = session.sparingly(lambda: count(cursor, at))
        kept = session.counted[key] = _Kept(at, upstream, content)
        return kept

    def _moved(
        self,
        move: Callable[[duckdb.DuckDBPyConnection, _Kept, int], dict[str, Any] | None],
        kept: _Kept,
        at: int,
    ) -> dict[str, Any] | None:
        session = self._session
        try:
            with session.errors("count changes of"), closing(session.open()) as cursor:
                return move(cursor, kept, at) if session.has_snapshot(kept.snapshot) else None
        except StorageError:
            if session.has_snapshot(kept.snapshot):
                raise
            return None  # a compaction has forgotten it meanwhile

    def _is_same(self, kept: _Kept, tables: list[str], *, at: int, upstream: int | None) -> bool:
        session = self._session
        if upstream is not None and upstream != kept.upstream:
            since = -1 if kept.upstream is None else kept.upstream
            if session.is_written_since(since, self._application, "completions", catalog=UPSTREAM):
                return False
        return kept.snapshot == at or not any(
            session.is_written_since(kept.snapshot, self._application, table) for table in tables
        )

    def _stored(self, name: str) -> _Kept | None:
        if self._application in self._session.recount:
            return None
        if name.startswith(f"{ROWS}/"):
            # They may be large: each is read where it is asked for.
            return self._read(f"name = {literal(name)}").get(name)
        session = self._session
        known_at = session.tallies_read_at.get(self._application)
        if known_at is None or session.is_written_since(known_at, self._application, "tallies"):
            at, found = session.snapshot(), self._read(f"NOT starts_with(name, '{ROWS}/')")
            others = {
                key: kept
                for key, kept in session.stored_tallies.items()
                if key[0] != self._application or key[1].startswith(f"{ROWS}/")
            }
            session.stored_tallies = others | {(self._application, key): kept for key, kept in found.items()}
            session.tallies_read_at[self._application] = at
        kept: _Kept | None = session.stored_tallies.get((self._application, name))
        return kept

    def _read(self, where: str) -> dict[str, _Kept]:
        """Name → the newest that is stored under it."""
        rows = self._session.rows(
            f"SELECT name, snapshot, upstream_snapshot, content FROM "
            f"{self._session.relation(self._application, 'tallies')} WHERE {where} ORDER BY snapshot"
        )
        return {row[0]: _Kept(int(row[1]), row[2], json.loads(row[3])) for row in rows}

    def _all_documents(self, cursor: duckdb.DuckDBPyConnection, at: int) -> dict[str, Any]:
        row = cursor.execute(DOCUMENT_SUMS.select(self._at(DOCUMENTS, at))).fetchall()[0]
        return {"rows": DOCUMENT_SUMS.sums(row).to_json()}

    def _changed_documents(self, cursor: duckdb.DuckDBPyConnection, kept: _Kept, at: int) -> dict[str, Any] | None:
        sums = Sums.from_json(kept.content["rows"])
        if "of_source" not in sums.numbers:
            return None  # an older version has counted
        if not self.stage_changed(cursor, kept.snapshot, at, most=sums.numbers["documents"]):
            return None
        before, after = (
            DOCUMENT_SUMS.sums(
                cursor.execute(
                    DOCUMENT_SUMS.select(f"{self._at(DOCUMENTS, when)} JOIN changed USING (document_id)")
                ).fetchall()[0]
            )
            for when in (kept.snapshot, at)
        )
        return {"rows": sums.moved(before, after).to_json()}

    def _all_answers(self, cursor: duckdb.DuckDBPyConnection, release_id: str, at: int) -> dict[str, Any]:
        answers = self._answers_of(release_id, at)
        ledger = LEDGER_SUMS.sums(cursor.execute(LEDGER_SUMS.select(answers)).fetchall()[0])
        texts = (
            f"(SELECT t.n, t.fingerprint, {_listed('c')} FROM (SELECT fingerprint, count(*) AS n FROM "
            f"{self._at(DOCUMENTS, at)} WHERE status = 'sendable' GROUP BY 1) t "
            f"LEFT JOIN {answers} c USING (fingerprint))"
        )
        counted = TEXT_SUMS.sums(cursor.execute(TEXT_SUMS.select(texts)).fetchall()[0])
        return {"ledger": ledger.to_json(), "texts": counted.to_json()}

    def _changed_answers(
        self, cursor: duckdb.DuckDBPyConnection, release_id: str, kept: _Kept, at: int
    ) -> dict[str, Any] | None:
        """Texts whose documents or answer have changed, before and after; None where it is better to count all."""
        session, texts = self._session, Sums.from_json(kept.content["texts"])
        ledger = Sums.from_json(kept.content["ledger"])
        known = texts.numbers["texts"] + texts.numbers["missing"]
        if not self.stage_changed(cursor, kept.snapshot, at, most=known):
            return None
        kinds = session.kinds_of_change(kept.snapshot, self._application, "completions")
        if kinds is None or kinds - {"insert"}:
            return None
        answers = self._answers_of(release_id, at)
        fresh = "SELECT NULL::VARCHAR AS fingerprint WHERE false"
        if kinds:
            new = session.insertions(self._application, "completions", after=kept.snapshot, until=at)
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE fresh AS SELECT DISTINCT fingerprint FROM {new} "
                f"WHERE release_id = {literal(release_id)}"
            )
            fresh = "SELECT fingerprint FROM fresh"
        then, now = self._at(DOCUMENTS, kept.snapshot), self._at(DOCUMENTS, at)
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE moved AS SELECT fingerprint, sum(was)::BIGINT AS was, sum(is_now)::BIGINT AS "
            "is_now FROM ("
            f"SELECT d.fingerprint, 1 AS was, 0 AS is_now FROM {then} d JOIN changed USING (document_id) "
            "WHERE d.status = 'sendable' UNION ALL "
            f"SELECT d.fingerprint, 0, 1 FROM {now} d JOIN changed USING (document_id) WHERE d.status = 'sendable' "
            f"UNION ALL SELECT fingerprint, 0, 0 FROM ({fresh})) GROUP BY 1"
        )
        count = int(cursor.execute("SELECT count(*) FROM moved").fetchall()[0][0])
        if count > max(FEW, MOST_SHARE * known):
            return None
        # What other documents have of these texts: documents that have changed are in `moved` already.
        held = self._held(cursor, at)
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE counted AS SELECT m.fingerprint, coalesce(o.n, 0) - m.is_now + m.was AS was, "
            "coalesce(o.n, 0) AS is_now, f.fingerprint IS NOT NULL AS fresh FROM moved m LEFT JOIN "
            f"({held}) o USING (fingerprint) LEFT JOIN ({fresh}) f USING (fingerprint)"
        )
        # An answer is stored once and nothing was taken away, so what is not fresh was there before.
        rows = f"(SELECT * FROM {new} WHERE release_id = {literal(release_id)})" if kinds else answers
        old = [row[0] for row in cursor.execute("SELECT fingerprint FROM counted WHERE NOT fresh").fetchall()]
        among = answers
        if len(old) <= FEW_KEYS:
            stored = session.looked_up(self._application).answers(old, at=at)
            among = f"(SELECT * FROM {stored} WHERE release_id = {literal(release_id)})"
        sources = [(rows, "fresh")] * bool(kinds) + [(among, "NOT fresh")] * bool(old)
        found = " UNION ALL ".join(
            f"SELECT c.fingerprint, {_listed('c')} FROM {source} c "
            f"JOIN (SELECT fingerprint FROM counted WHERE {which}) USING (fingerprint)"
            for source, which in sources
        )
        nothing_said = f"SELECT c.fingerprint, {_listed('c')} FROM {answers} c WHERE false"
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE said AS {found or nothing_said}")
        sides = {
            "was": f"SELECT k.was AS n, k.fingerprint, {_listed('c')} FROM counted k LEFT JOIN said c ON "
            "c.fingerprint = k.fingerprint AND NOT k.fresh WHERE k.was > 0",
            "is": f"SELECT k.is_now AS n, k.fingerprint, {_listed('c')} FROM counted k LEFT JOIN said c ON "
            "c.fingerprint = k.fingerprint WHERE k.is_now > 0",
        }
        before, after = (
            TEXT_SUMS.sums(cursor.execute(TEXT_SUMS.select(f"({side})")).fetchall()[0]) for side in sides.values()
        )
        moved = texts.moved(before, after)
        content: dict[str, Any] = {"texts": moved.to_json(), "ledger": kept.content["ledger"]}
        if kinds:
            added = LEDGER_SUMS.sums(cursor.execute(LEDGER_SUMS.select(rows)).fetchall()[0])
            nothing = LEDGER_SUMS.sums(cursor.execute(LEDGER_SUMS.select(f"{rows} WHERE false")).fetchall()[0])
            content["ledger"] = ledger.moved(nothing, added).to_json()
        was_missing = [] if not texts.numbers["missing"] else kept.content.get("unanswered")
        if was_missing is not None:
            content["unanswered"] = self._still_unanswered(cursor, was_missing, moved.numbers["missing"])
        return content

    def _held(self, cursor: duckdb.DuckDBPyConnection, at: int) -> str:
        """SQL for how many sendable documents (`n`) have each of the texts in `moved` at a snapshot."""
        texts = [row[0] for row in cursor.execute("SELECT fingerprint FROM moved").fetchall()]
        if len(texts) > FEW_KEYS:
            return (
                f"SELECT d.fingerprint, count(*) AS n FROM {self._at(DOCUMENTS, at)} d JOIN moved USING (fingerprint) "
                "WHERE d.status = 'sendable' GROUP BY 1"
            )
        found = self._session.looked_up(self._application).holders(texts, at=at)
        listed = ", ".join(f"({literal(text)}, {one.n:d})" for text, one in found.items())
        return f"SELECT * FROM (VALUES {listed}) v(fingerprint, n)" if listed else "SELECT NULL AS fingerprint, 0 AS n"

    @staticmethod
    def _still_unanswered(cursor: duckdb.DuckDBPyConnection, before: list[str], expected: int) -> list[str] | None:
        """Of what was unanswered before, what has not changed; of what has, what is unanswered now."""
        rows = cursor.execute(
            "SELECT k.fingerprint, k.is_now > 0 AND s.status IS NULL FROM counted k "
            "LEFT JOIN said s USING (fingerprint)"
        ).fetchall()
        changed = dict(rows)
        found = [one for one in before if one not in changed] + [one for one, missing in rows if missing]
        return sorted(found) if len(found) == expected and expected <= FEW else None

    def stage_changed(self, cursor: duckdb.DuckDBPyConnection, since: int, at: int, *, most: int) -> bool:
        """Fill the temporary table `changed` with keys of documents that any change mentions; False where they are
        many, or the history cannot tell.
        """
        session = self._session
        kinds = session.kinds_of_change(since, self._application, DOCUMENTS)
        if kinds is None or kinds - {"insert", "delete"}:
            return False
        if not kinds:
            cursor.execute("CREATE OR REPLACE TEMP TABLE changed (document_id VARCHAR)")
            return True
        keys = session.changed_keys(self._application, DOCUMENTS, after=since, until=at)
        if keys is not None:
            # What joins a table with such a key fails; only an older version took one.
            if any("\0" in key for key in keys):
                return False
            listed = ", ".join(map(literal, keys))
            cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE changed AS SELECT unnest([{listed}]::VARCHAR[]) AS document_id"
            )
            return True
        feed = session.changes_feed(self._application, DOCUMENTS, after=since, until=at)
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE changed AS SELECT DISTINCT document_id FROM {feed}")
        counted = "SELECT count(*), count(*) FILTER (contains(document_id, chr(0))) FROM changed"
        count, impossible = cursor.execute(counted).fetchall()[0]
        return not impossible and count <= max(FEW, MOST_SHARE * most)

    def _at(self, table: str, at: int) -> str:
        # A table at a version cannot be given another name.
        return f"(SELECT * FROM {self._session.relation(self._application, table, at_snapshot=at)})"

    def _answers_of(self, release_id: str, at: int) -> str:
        columns = ", ".join(["fingerprint", *ANSWER_COLUMNS, "reused", "cut_tokens", "parts"])
        ours, key = self._at("completions", at), f"release_id = {literal(release_id)}"
        if not self._session.has_upstream:
            return f"(SELECT {columns} FROM {ours} WHERE {key})"
        theirs = self._session.relation(self._application, "completions", catalog=UPSTREAM)
        return (
            f"(SELECT {columns} FROM {ours} WHERE {key} UNION ALL SELECT {columns} FROM {theirs} t WHERE {key} AND NOT "
            f"EXISTS (SELECT 1 FROM {ours} o WHERE o.{key} AND o.fingerprint = t.fingerprint))"
        )


def _listed(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in ANSWER_COLUMNS)
