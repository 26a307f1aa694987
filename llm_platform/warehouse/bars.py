"""What may not come back: documents that were forgotten, by a keyed hash, and what was made of them, until accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from llm_platform.errors import SpecificationError
from llm_platform.records.forgetting import Bar
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.schema import listed
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

if TYPE_CHECKING:
    from llm_platform.signing.keys import SigningKey

LISTED = listed("bars")


def forgotten_rows(
    key: SigningKey, application: str, document_ids: Iterable[str], *, request_id: str, at: datetime
) -> pa.Table:
    """Rows of `forgotten`: which documents they are, only who has the key can tell."""
    rows = [
        {"subject": key.keyed_hash(application, one), "key_id": key.key_id, "request_id": request_id, "at": at}
        for one in document_ids
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema("forgotten"))


def leave_out_forgotten(
    session: Session, application: str, cursor: duckdb.DuckDBPyConnection, tables: Sequence[str]
) -> None:
    """Take documents that were forgotten out of temporary tables with a `document_id`.

    Raises:
        SpecificationError: documents were forgotten, and the key that tells which is not here.
    """
    subjects = _subjects(session, application)
    if not subjects:
        return
    for table in tables:
        rows = cursor.execute(f"SELECT DISTINCT document_id FROM {table}").fetchall()
        barred = _barred(session, application, subjects, [row[0] for row in rows])
        if barred:
            cursor.register("barred_keys", pa.table({"document_id": pa.array(barred, pa.string())}))
            cursor.execute(f"DELETE FROM {table} WHERE document_id IN (SELECT document_id FROM barred_keys)")
            cursor.unregister("barred_keys")


def _subjects(session: Session, application: str) -> dict[str, str]:
    """Keyed hash of each document that was forgotten, here or upstream → id of the key."""
    found: dict[str, str] = {}
    for catalog in (LAKE, UPSTREAM):
        relation = session.relation(application, "forgotten", catalog=catalog)
        found |= dict(session.rows(f"SELECT DISTINCT subject, key_id FROM {relation}"))
    return found


def _barred(session: Session, application: str, subjects: Mapping[str, str], keys: Iterable[str | None]) -> list[str]:
    key = _key(session, application, set(subjects.values()))
    return [one for one in keys if one is not None and key.keyed_hash(application, one) in subjects]


def _key(session: Session, application: str, key_ids: set[str]) -> SigningKey:
    why = (
        f"Documents of {application} were forgotten, and only the key that signed for it tells which must not come back"
    )
    if session.signing_key is None:
        raise SpecificationError(f"{why}. Name its file in LLM_PLATFORM_SIGNING_KEY.")
    # Loads cryptography, which a lake without bars does not need.
    from llm_platform.signing.keys import signing_key

    key = signing_key(Path(session.signing_key))
    if key_ids != {key.key_id}:
        raise SpecificationError(
            f"{why}; {session.signing_key} is another one. Name its file in LLM_PLATFORM_SIGNING_KEY."
        )
    return key


class Bars:
    """Adapters and releases of one application that may not be promoted, because of what they were made of."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def forgotten(self, document_ids: Iterable[str | None]) -> list[str]:
        """Those of some keys whose documents were forgotten.

        Raises:
            SpecificationError: documents were forgotten, and the key that tells which is not here.
        """
        subjects = _subjects(self._session, self._application)
        return _barred(self._session, self._application, subjects, document_ids) if subjects else []

    def standing(self, kind: str, subject: str) -> Bar | None:
        """The bar on one of them that nobody has accepted: ours, else the upstream's."""
        return next((bar for bar in self.of(kind, subject) if bar.accepted_by is None), None)

    def of(self, kind: str, subject: str) -> list[Bar]:
        """Every bar on one of them, accepted or not."""
        found: dict[str, Bar] = {}
        for catalog in (LAKE, UPSTREAM):
            relation = self._session.relation(self._application, "bars", catalog=catalog)
            rows = self._session.rows(
                f"SELECT {LISTED} FROM {relation} WHERE kind = ? AND subject = ? ORDER BY accepted_at NULLS LAST",
                [kind, subject],
            )
            for row in rows:
                bar = Bar(**dict(zip(Bar.model_fields, row, strict=True)))
                found.setdefault(bar.request_id, bar)
        return list(found.values())

    def accept(self, kind: str, subject: str, *, by: str, because: str, at: datetime) -> int:
        """Write down that a person takes it as it is; returns for how many requests."""
        standing = [bar for bar in self.of(kind, subject) if bar.accepted_by is None]
        accepted = [
            bar.model_copy(update={"accepted_by": by, "accepted_because": because, "accepted_at": at})
            for bar in standing
        ]
        rows = pa.Table.from_pylist([bar.model_dump() for bar in accepted], schema=arrow_schema("bars"))

        def body(transaction: Transaction) -> None:
            transaction.run(f"INSERT INTO {transaction.target('bars')} ({LISTED}) SELECT {LISTED} FROM accepted")

        if accepted:
            with self._session.cursor("accept what was barred in") as cursor:
                cursor.register("accepted", rows)
                self._session.write(self._application, body, cursor=cursor)
        return len(accepted)

    def accepted(self) -> list[Bar]:
        """Bars of this lake that people took off, oldest first."""
        relation = self._session.relation(self._application, "bars")
        rows = self._session.rows(f"SELECT {LISTED} FROM {relation} WHERE accepted_by IS NOT NULL ORDER BY accepted_at")
        return [Bar(**dict(zip(Bar.model_fields, row, strict=True))) for row in rows]

    def departed(self) -> list[str]:
        """Keys of documents that have left the source and are to be forgotten."""
        relation = self._session.relation(self._application, "departed")
        return [row[0] for row in self._session.rows(f"SELECT DISTINCT document_id FROM {relation} ORDER BY 1")]

    def certify(self, request_id: str, *, by: str, at: datetime, documents: int, envelope: str) -> None:
        """Keep the certificate of a request, once."""

        def body(transaction: Transaction) -> None:
            stored = transaction.relation("certificates")
            if not transaction.run(f"SELECT 1 FROM {stored} WHERE request_id = ?", [request_id]):
                transaction.run(
                    f"INSERT INTO {transaction.target('certificates')} VALUES (?, ?, ?, ?, ?)",
                    [request_id, by, at, documents, envelope],
                )

        self._session.write(self._application, body)

    def certificates(self) -> pa.Table:
        """Every certificate, oldest first."""
        relation = self._session.relation(self._application, "certificates")
        return self._session.table(f'SELECT * FROM {relation} ORDER BY "at", request_id')
