"""What was asked to be forgotten, where it was, and what became of it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from llm_platform.records.base import Record


class TableMeasure(Record):
    """One table before or after.

    Attributes:
        found: Rows about what is to be forgotten.
        kept: All others.
        digest: Of the others' content, whatever their order.
    """

    found: int
    kept: int
    digest: str


class Traces(Record):
    """What of some documents is in one namespace, and by what it is recognized there.

    Attributes:
        fingerprints: Of texts that nobody else has: the documents', their parts', and what judges were asked.
        texts: Of the documents and of examples made of them.
        tables: `<application>.<table>` → what is there.
        adapters: Adapters that were trained on them.
        releases: Releases whose prompts show them.
    """

    fingerprints: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    tables: dict[str, TableMeasure] = Field(default_factory=dict)
    adapters: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows about them."""
        return sum(table.found for table in self.tables.values())


class ForgetRequest(Record):
    """A request that is kept until it is done; it names what is to be forgotten, so it goes with it.

    Attributes:
        found: Namespace → what was there before anything was removed; None until all of them have been looked through.
        erased: Namespaces in which everything is done, each with what was done to files.
        copies_left: Copies of which past versions could not be taken away → why.
    """

    request_id: str
    application: str
    document_ids: tuple[str, ...]
    by: str
    reason: str
    asked_at: datetime
    found: dict[str, Traces] | None = None
    erased: dict[str, dict[str, int]] = Field(default_factory=dict)
    unreachable: dict[str, str] = Field(default_factory=dict)
    copies_left: dict[str, str] = Field(default_factory=dict)


class Bar(Record):
    """Why an adapter or a release may not be promoted, and who has accepted it all the same."""

    kind: str
    subject: str
    request_id: str
    reason: str
    at: datetime
    accepted_by: str | None = None
    accepted_because: str | None = None
    accepted_at: datetime | None = None
