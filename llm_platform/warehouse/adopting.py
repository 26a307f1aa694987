"""Rows of the namespace that is attached, taken over under their keys: what a branch has paid becomes production's."""

from __future__ import annotations

from collections.abc import Sequence

from llm_platform.records.tables import TABLES
from llm_platform.warehouse.engine import identifier
from llm_platform.warehouse.provenance import sign, strange_commits
from llm_platform.warehouse.session import UPSTREAM, Session, Transaction

KEYS = {
    "prompts": ("version", "name"),
    "example_pools": ("pool", "document_id"),
    "releases": ("release_id",),
    "inference_runs": ("run_id", "release_id", "started_at"),
    "made_of": ("release_id", "fingerprint", "position"),
    "completions": ("release_id", "fingerprint"),
}
"""Tables that are taken over, what answers rest on first, and the key of each."""
OF_RELEASES = ("made_of", "completions", "inference_runs")


class Adoption:
    """What of an attached branch one application of ours takes over."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def releases(self) -> list[tuple[str, str, str, int]]:
        """(id, id of its requests, content, answers that are missing here) of each release that the branch has."""
        theirs = self._session.relation(self._application, "releases", catalog=UPSTREAM)
        return [
            (release_id, request_id, content, int(missing))
            for release_id, request_id, content, missing in self._session.rows(
                f"SELECT r.release_id, r.request_id, r.content, count(c.fingerprint) FROM {theirs} r "
                f"LEFT JOIN ({self._missing('completions')}) c USING (release_id) GROUP BY ALL ORDER BY ALL"
            )
        ]

    def contents(self) -> list[str]:
        """Contents of all releases of the namespace that is attached."""
        theirs = self._session.relation(self._application, "releases", catalog=UPSTREAM)
        return [row[0] for row in self._session.rows(f"SELECT content FROM {theirs} ORDER BY 1")]

    def prompt_versions(self) -> set[str]:
        """Versions of all prompts that the namespace that is attached has read, those of trainings included."""
        theirs = self._session.relation(self._application, "prompts", catalog=UPSTREAM)
        return {row[0] for row in self._session.rows(f"SELECT version FROM {theirs}")}

    def orphans(self) -> list[str]:
        """Releases that answers of the branch name, and that it does not have."""
        answers = self._session.relation(self._application, "completions", catalog=UPSTREAM)
        theirs = self._session.relation(self._application, "releases", catalog=UPSTREAM)
        found = self._session.rows(
            f"SELECT DISTINCT release_id FROM {answers} ANTI JOIN {theirs} USING (release_id) ORDER BY 1"
        )
        return [row[0] for row in found]

    def foreign(self) -> int:
        """Answers of the branch that are filed under a release whose requests they are no answers to."""
        answers = self._session.relation(self._application, "completions", catalog=UPSTREAM)
        theirs = self._session.relation(self._application, "releases", catalog=UPSTREAM)
        same = f"{answers} c JOIN {theirs} r USING (release_id)"
        return int(self._session.value(f"SELECT count(*) FROM {same} WHERE c.request_id <> r.request_id"))

    def alterations(self) -> list[str]:
        """What of the branch's answers the platform did not write, a sentence each."""
        return list(strange_commits(self._session, self._application, catalog=UPSTREAM))

    def take(self, releases: Sequence[str]) -> dict[str, int]:
        """Table → rows taken over: of answers those of some releases, and what they rest on. One transaction."""

        def body(transaction: Transaction) -> dict[str, int]:
            return {table: _take(transaction, table, self._missing(table), list(releases)) for table in KEYS}

        with self._session.errors("take over the answers of a branch into"):
            return self._session.write(self._application, body)[0]

    def _missing(self, table: str) -> str:
        ours = self._session.relation(self._application, table)
        theirs = self._session.relation(self._application, table, catalog=UPSTREAM)
        same = " AND ".join(f"o.{identifier(key)} = t.{identifier(key)}" for key in KEYS[table])
        return f"SELECT t.* FROM {theirs} t WHERE NOT EXISTS (SELECT 1 FROM {ours} o WHERE {same})"


def _take(transaction: Transaction, table: str, missing: str, releases: list[str]) -> int:
    where, given = "", {}
    if table in OF_RELEASES:
        where, given = " WHERE release_id IN (SELECT unnest($releases::VARCHAR[]))", {"releases": releases}
    transaction.run(f"CREATE OR REPLACE TEMP TABLE taken AS SELECT * FROM ({missing}){where}", given)
    count = transaction.count("SELECT count(*) FROM taken")
    if not count:
        return 0
    columns = list(TABLES[table])
    listed = ", ".join(map(identifier, columns))
    selected = listed
    if "sequence" in columns:
        following = transaction.next_sequence(table)
        by = 'row_number() OVER (ORDER BY "sequence" NULLS FIRST, created_at) - 1'
        selected = listed.replace(identifier("sequence"), f"{following} + {by}")
    transaction.run(f"INSERT INTO {transaction.target(table)} ({listed}) SELECT {selected} FROM taken")
    if table == "completions":
        sign(transaction, "taken")
    return count
