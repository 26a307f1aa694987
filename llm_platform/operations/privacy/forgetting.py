"""Forget documents: everything that was made of them, everywhere that the platform keeps it, with a signed certificate.

A request is stored before anything is removed, and goes when everything is done; each step may be done twice. So a
request whose process died is finished by the next one, whoever's it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_platform.contracts.files import contract_files
from llm_platform.errors import LeaseHeld, SpecificationError, StorageError, TransientError
from llm_platform.files import write_text
from llm_platform.operations.privacy.files import forget_in_files
from llm_platform.records import Bar, ForgetRequest, TableMeasure, Traces
from llm_platform.signing.envelopes import STATEMENT_TYPE
from llm_platform.warehouse.bars import forgotten_rows
from llm_platform.warehouse.copies import CopyPlace
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.masking import hashed_for_readers

if TYPE_CHECKING:
    from llm_platform.signing.keys import SigningKey

PREDICATE_TYPE = "https://llm-platform.dev/forgotten/v1"
"""Kind of what is stated; a name, not an address."""


CopiesOf = Callable[[str, str], Sequence[CopyPlace]]


def no_copies(_application: str, _namespace: str) -> Sequence[CopyPlace]:
    """Nowhere."""
    return ()


@dataclass(frozen=True)
class ForgetPlace:
    """One namespace: how its lake is opened, and where its files are.

    Attributes:
        open: Opens the lake, writable, without an upstream: its own rows and no others are to go.
    """

    name: str
    open: Callable[[], AbstractContextManager[Warehouse]]
    folder: Path


@dataclass(frozen=True)
class Forgotten:
    """A request that was carried out.

    Attributes:
        path: Of the certificate.
    """

    request: ForgetRequest
    statement: Mapping[str, Any]
    path: Path

    @property
    def rows(self) -> int:
        """Rows that were removed or mended."""
        return sum(traces.rows for traces in (self.request.found or {}).values())


@dataclass(frozen=True)
class Forgetting:
    """Where documents are forgotten, and by whom it is signed.

    Attributes:
        places: Every namespace of the deployment, the one whose command it is first; it keeps the request.
        copies: (application, namespace) → where else its published tables are there.
    """

    places: Sequence[ForgetPlace]
    key: SigningKey
    now: Callable[[], datetime]
    copies: CopiesOf = no_copies

    def look(self, application: str, document_ids: Sequence[str]) -> dict[str, Traces]:
        """Namespace → what there is of some documents. Changes nothing."""
        return self._found(application, document_ids)[0]

    def unknown(self, application: str, document_ids: Sequence[str]) -> list[str]:
        """Those of some documents that nothing in any namespace names, and that were not forgotten before."""
        left = dict.fromkeys(document_ids)
        for place in self.places:
            try:
                with place.open() as lake:
                    store = lake.application(application)
                    known = {*store.traces.named(list(left)), *store.bars.forgotten(left)}
            except (StorageError, TransientError):
                if place is self.places[0]:
                    raise
                continue  # a request names it as not reached
            left = dict.fromkeys(one for one in left if one not in known)
        return list(left)

    def ask(self, application: str, document_ids: Sequence[str], *, by: str, reason: str) -> ForgetRequest:
        """Store a request; from now on it will be carried out, whatever becomes of this process.

        Raises:
            SpecificationError: it names no documents.
        """
        if not document_ids:
            raise SpecificationError("Nothing is named to be forgotten. Name keys of documents.")
        request = ForgetRequest(
            request_id=uuid.uuid4().hex,
            application=application,
            document_ids=tuple(dict.fromkeys(document_ids)),
            by=by,
            reason=reason,
            asked_at=self.now(),
        )
        with self.places[0].open() as lake:
            lake.forget_requests.put(request, self.key)
        return request

    def ask_departed(self, application: str) -> int:
        """Ask for documents that have left the source since the last time; returns how many."""
        with self.places[0].open() as lake:
            keys = lake.application(application).bars.departed()
            waiting = {
                one for request in lake.forget_requests.of(application, self.key) for one in request.document_ids
            }
        new = [one for one in keys if one not in waiting]
        if new:
            self.ask(application, new, by="retention.deleted", reason="the document left the source")
        return len(new)

    def finish(self, application: str) -> list[Forgotten]:
        """Carry out every request that is not done; what a process left that died is taken up where it was.

        Raises:
            LeaseHeld: somebody is answering the application's documents.
            TransientError: others kept a lake busy.
            StorageError: something cannot be read or written; the request stays.
        """
        with self.places[0].open() as lake:
            waiting = lake.forget_requests.of(application, self.key)
        return [self._carry_out(request) for request in waiting]

    def _carry_out(self, request: ForgetRequest) -> Forgotten:
        if request.found is None:
            found, unreachable = self._found(request.application, request.document_ids)
            request = self._kept(request.model_copy(update={"found": found, "unreachable": unreachable}))
        assert request.found is not None
        together = _together(request.found.values())
        for place in self.places:
            if place.name not in request.found or place.name in request.erased:
                continue
            with place.open() as lake:
                done = self._forget_in(place, lake, request, together)
                left = self._forget_in_copies(place, lake, request.application)
            kept = {"erased": {**request.erased, place.name: done}, "copies_left": {**request.copies_left, **left}}
            request = self._kept(request.model_copy(update=kept))
        return self._certified(request, together)

    def _kept(self, request: ForgetRequest) -> ForgetRequest:
        with self.places[0].open() as lake:
            lake.forget_requests.put(request, self.key)
        return request

    def _found(self, application: str, document_ids: Sequence[str]) -> tuple[dict[str, Traces], dict[str, str]]:
        found: dict[str, Traces] = {}
        unreachable: dict[str, str] = {}
        for place in self.places:
            try:
                with place.open() as lake:
                    found[place.name] = lake.application(application).traces.find(document_ids)
            except (StorageError, TransientError) as error:
                if place is self.places[0]:
                    raise
                unreachable[place.name] = type(error).__name__
        return found, unreachable

    def _forget_in(
        self, place: ForgetPlace, lake: Warehouse, request: ForgetRequest, together: Traces
    ) -> dict[str, int]:
        store = lake.application(request.application)
        if (holder := store.completions.busy()) is not None:
            raise LeaseHeld(
                f"Documents of {request.application} are being answered by {holder.describe()} in namespace "
                f"{place.name!r}. Let it finish, or stop it, then: llm-platform forget {request.application}"
            )
        own = (request.found or {})[place.name]
        bars = [
            Bar(kind=kind, subject=subject, request_id=request.request_id, reason=why, at=request.asked_at)
            for kind, subjects, why in (
                ("adapter", own.adapters, "it was trained on documents that were forgotten"),
                ("release", own.releases, "its prompt showed documents that were forgotten"),
            )
            for subject in subjects
        ]
        # A namespace that does not know the application is not taught it.
        if request.application in lake.applications() or place is self.places[0]:
            barred = forgotten_rows(
                self.key,
                request.application,
                request.document_ids,
                request_id=request.request_id,
                at=request.asked_at,
            )
            store.traces.remove(request.document_ids, together, barred=barred, bars=bars)
        hashed = hashed_for_readers(self.key, request.document_ids, application=request.application)
        files = forget_in_files(place.folder, request, together, hashed=hashed)
        return {**asdict(lake.erase()), "files": files}

    def _forget_in_copies(self, place: ForgetPlace, lake: Warehouse, application: str) -> dict[str, str]:
        """Bring the copies of a namespace up to what is left; those of which past versions stay → why."""
        store = lake.application(application)
        places, contracts = self.copies(application, place.name), tuple(store.contracts.published().values())
        if not places or not contracts:
            return {}
        store.copies.bring(contracts, places, files=contract_files)
        left = {}
        for one in places:
            try:
                refused = store.copies.erase(one)
            except StorageError as error:
                left[one.address] = str(error)
                continue
            if refused:
                left[one.address] = f"{refused} are locked by the store until its retention ends"
        return left

    def _certified(self, request: ForgetRequest, together: Traces) -> Forgotten:
        after: dict[str, dict[str, TableMeasure]] = {}
        for place in self.places:
            if place.name in (request.found or {}):
                with place.open() as lake:
                    store = lake.application(request.application)
                    after[place.name] = store.traces.measure(request.document_ids, together)
                    if left := lake.leftovers():
                        self._kept(request.model_copy(update={"erased": {}}))
                        raise TransientError(
                            f"Another process wrote files of namespace {place.name!r} meanwhile that no catalog "
                            f"names yet (first: {left[0]}). Let it finish, then: llm-platform forget "
                            f"{request.application}"
                        )
        remaining = {
            f"{name}/{table}": one.found for name, tables in after.items() for table, one in tables.items() if one.found
        }
        if remaining:
            self._kept(request.model_copy(update={"found": None, "erased": {}}))
            raise TransientError(
                f"Rows about documents that are to be forgotten were written meanwhile ({', '.join(remaining)}). "
                f"Stop what writes them, then: llm-platform forget {request.application}"
            )
        statement = self._statement(request, after)
        envelope = self.key.envelope(statement)
        home = self.places[0]
        folder = home.folder / "certificates"
        path = write_text(folder / f"{request.request_id}.dsse.json", envelope + "\n")
        write_text(folder / f"{self.key.key_id[:16]}.pub.pem", self.key.public_pem)
        with home.open() as lake:
            lake.application(request.application).bars.certify(
                request.request_id,
                by=request.by,
                at=self.now(),
                documents=len(request.document_ids),
                envelope=envelope,
            )
            lake.forget_requests.done(request.request_id)
        return Forgotten(request, statement, path)

    def _statement(self, request: ForgetRequest, after: Mapping[str, Mapping[str, TableMeasure]]) -> dict[str, Any]:
        subjects = [
            {"name": f"document {number}", "digest": {"hmac-sha256": self.key.keyed_hash(request.application, one)}}
            for number, one in enumerate(request.document_ids, 1)
        ]
        found = request.found or {}
        return {
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "request_id": request.request_id,
                "application": request.application,
                "documents": len(subjects),
                "asked_by": request.by,
                "reason": request.reason,
                "asked_at": request.asked_at.isoformat(),
                "finished_at": self.now().isoformat(),
                "namespaces": {
                    name: {
                        "tables": {
                            table: _table(before, after.get(name, {}).get(table))
                            for table, before in traces.tables.items()
                        },
                        "erased": request.erased.get(name, {}),
                        "adapters_trained_on_them": list(traces.adapters),
                        "releases_that_showed_them": list(traces.releases),
                    }
                    for name, traces in found.items()
                },
                "not_reached": {
                    **{f"namespace {name}": why for name, why in request.unreachable.items()},
                    **_refused(request.erased),
                    **{f"past versions of the copy at {place}": why for place, why in request.copies_left.items()},
                    "copies": "what readers have taken from a copy is theirs to let go of",
                    "backups": "of the catalog's database, of buckets and of disks, until their own retention ends",
                    "source": "the table of documents and files of known answers belong to who keeps them",
                },
            },
        }


def _table(before: TableMeasure, after: TableMeasure | None) -> dict[str, Any]:
    now = after if after is not None else before.model_copy(update={"found": 0})
    return {
        "rows_removed_or_mended": before.found,
        "rows_about_them_now": now.found,
        "other_rows_before": before.kept,
        "other_rows_now": now.kept,
        "other_rows_digest_before": before.digest,
        "other_rows_digest_now": now.digest,
    }


def _refused(erased: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    return {
        f"object versions of {name}": f"{done['refused']} are locked by the store until its retention ends"
        for name, done in erased.items()
        if done.get("refused")
    }


def _together(found: Iterable[Traces]) -> Traces:
    """What is known of the documents in any namespace: a branch may know a text only by its fingerprint."""
    traces = list(found)
    return Traces(
        fingerprints=tuple(sorted({one for each in traces for one in each.fingerprints})),
        texts=tuple(sorted({one for each in traces for one in each.texts})),
        tables={table: one for each in traces for table, one in each.tables.items()},
    )
