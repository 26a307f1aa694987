"""What people judge, from the lake to the page and back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken
from llm_platform.operations.evidence.evaluation import judged_releases
from llm_platform.operations.releases import CHAMPION, LoadedApplication
from llm_platform.operations.reviewing.answers import SERVES, answers_page
from llm_platform.operations.reviewing.status import CARDS, application_status, works_under_way
from llm_platform.operations.serving.endpoint_page import ENDPOINT_PAGES
from llm_platform.records import AnswersFilter, QueueProgress, ReviewQueue
from llm_platform.review.agreement import Agreement, agreements
from llm_platform.review.answers import AnswerFilters, AnswersPage
from llm_platform.review.desk import Opened, Overview, SecondOpinion, Submitted
from llm_platform.review.items import (
    GivenAnswer,
    Item,
    Occasion,
    choices_of,
    comparable,
    remark_rows,
    undo_row,
    verdict_rows,
)
from llm_platform.review.people import Person
from llm_platform.review.status import ApplicationStatus, UnderWay
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.review_items import ReviewItems

SECOND_OPINIONS = 0.2
"""Share of documents, drawn by their hash, that two people judge: what agreement is measured on."""
CLAIM_SECONDS = 600.0
"""How long nobody else is given a document that somebody has open."""
RELEASES_SECONDS = 60.0
STATUS_SECONDS = 60.0
COMMITS_SECONDS = 3.0
OPEN_QUEUES = ("disagreements", "low_confidence", "drift", "drawn", "audit")
SECOND_LOOKS = ("mine", "adjudication")


class ReviewDesk:
    """The reviewing of one application; several threads may use it."""

    def __init__(
        self,
        lake: Warehouse,
        loaded: LoadedApplication,
        *,
        second_opinions: float = SECOND_OPINIONS,
        cards_folder: Path = Path(),
        progress_folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lake = lake
        self._loaded = loaded
        self._cards_folder = cards_folder
        self._progress_folder = progress_folder
        self._status: tuple[int, float, ApplicationStatus] | None = None
        self._values: tuple[float, dict[str, list[str]]] | None = None
        self._store = lake.application(loaded.application.name)
        self._items: ReviewItems = self._store.review_items(second_opinions=second_opinions, clock=clock)
        self._clock, self._now = clock, now
        self._claims: dict[tuple[str, str], tuple[str, float]] = {}
        self._skipped: dict[tuple[str, ReviewQueue], list[str]] = {}
        self._lock = threading.Lock()
        self._releases: tuple[dict[str, str], float] = ({}, -RELEASES_SECONDS)

    @property
    def application(self) -> Application:
        """The application."""
        return self._loaded.application

    def status(self, *, now: datetime) -> ApplicationStatus:
        """Where the application stands; read again once the lake has changed, or after a minute.

        A run that commits several times a second does not make each look at the page read everything anew.
        """
        snapshot = self._lake.snapshot()
        known = self._status
        age = STATUS_SECONDS if known is None else self._clock() - known[1]
        if known is None or age >= STATUS_SECONDS or (known[0] != snapshot and age >= COMMITS_SECONDS):
            status = application_status(self._lake, self._loaded, cards_folder=self._cards_folder, now=now)
            self._status = known = (snapshot, self._clock(), status)
        return known[2].model_copy(update={"under_way": self.under_way(now=now)})

    def under_way(self, *, now: datetime) -> tuple[UnderWay, ...]:
        """What is being asked now."""
        if self._progress_folder is None:
            return ()
        return works_under_way(self._store, self._loaded, self._progress_folder, now=now)

    def card(self, page: str) -> str | None:
        """A page that runs have written beside the report card, as HTML; None where there is none of this name."""
        path = self._cards_folder / f"{page}.html"
        return path.read_text(encoding="utf-8") if page in CARDS and path.is_file() else None

    def endpoints(self, entry: str) -> str | None:
        """The page of the endpoints of a lock entry, as HTML; None where nobody has looked at them yet."""
        path = self._cards_folder.parent / ENDPOINT_PAGES / f"{entry}.html"
        return path.read_text(encoding="utf-8") if entry in self._loaded.lock and path.is_file() else None

    def answers(self, wanted: AnswersFilter, person: Person) -> AnswersPage:
        """A page of documents with the answers of every variant, as far as the person may read them."""
        page = answers_page(self._store, self._loaded, self._items, wanted, person, shown=self._shown())
        self._note(person, "answers", [row.document_id for row in page.rows])
        return page

    def answer_filters(self, person: Person) -> AnswerFilters:
        """What there is to filter answers by; of the attributes, as they were a minute ago, and not for a viewer."""
        if self._values is None or self._clock() - self._values[0] >= RELEASES_SECONDS:
            values = self._store.answer_pages.values(self.application.source.attributes)
            self._values = (self._clock(), values)
        names = tuple(name.removesuffix(SERVES) for name in self._shown().values())
        values = self._values[1] if person.judges else {}
        return AnswerFilters(variants=names, tags=tuple(self._store.answer_pages.tags()), values=values)

    def opened(self, document_id: str, person: Person) -> Opened:
        """One document by itself, to be judged where it was found.

        Raises:
            ContractBroken: it is gone.
        """
        item = self._item(document_id)
        self._note(person, "opened answer", [document_id])
        said = self._items.said([item.fingerprint]).get(item.fingerprint, [])
        return Opened(item, QueueProgress(total=0, done=0, waiting=0), self._told(said, person))

    def overview(self, person: Person) -> Overview:
        """Progress of every queue that the person may use, except slices."""
        self._refresh()
        names = [*OPEN_QUEUES, "mine", *(["adjudication"] if person.adjudicates else [])]
        queues = {name: self._items.progress(ReviewQueue.model_validate({"name": name}), person.name) for name in names}
        return Overview(
            queues=queues,
            bases=self._items.counts(),
            judged_by_person=self._items.judged_by(person.name),
            texts=queues["audit"].total,
        )

    def slices(self) -> dict[str, list[tuple[str | None, int]]]:
        """Attribute → its commonest values, with their number of texts."""
        self._refresh()
        return {name: self._items.values(name) for name in self.application.source.attributes}

    def open(self, person: Person, queue: ReviewQueue, *, document_id: str | None = None) -> Opened | None:
        """The next document of a queue for a person, or the one that is named.

        Raises:
            ContractBroken: the named document is gone.
        """
        if queue.name == "answers":
            return None if document_id is None else self.opened(document_id, person)
        self._refresh()
        if document_id is None:
            with self._lock:
                claimed, skipped = self._claimed_by_others(person, queue), self._skipped.get((person.name, queue), [])
                found = self._items.next(queue, person.name, avoid=[*claimed, *skipped])
                if found is None and skipped:
                    # What was skipped is what is left: it comes again, in the order in which it was skipped.
                    self._skipped.pop((person.name, queue))
                    found = self._items.next(queue, person.name, avoid=claimed)
                if found is None:
                    return None
                self._claims[_lane(queue), found[1]] = (person.name, self._clock() + CLAIM_SECONDS)
            document_id = found[0]
        item = self._item(document_id)
        self._note(person, queue.name, [document_id])
        opinions = self._opinions(item, person) if queue.name in SECOND_LOOKS else ()
        reference = self._items.reference(item.fingerprint) if queue.name == "adjudication" else None
        return Opened(item, self._items.progress(queue, person.name), opinions, reference)

    def skip(self, person: Person, queue: ReviewQueue, document_id: str) -> None:
        """Put a document at the end of a queue, for this person and for as long as the page runs."""
        fingerprint = self._store.documents.fingerprint(document_id)
        with self._lock:
            if fingerprint is not None:
                self._skipped.setdefault((person.name, queue), []).append(fingerprint)
                self._claims.pop((_lane(queue), fingerprint), None)

    def decide(self, person: Person, submitted: Submitted, *, at: datetime) -> None:
        """Store a decision with its tags and note, in one transaction.

        Raises:
            ContractBroken: the text or its answers are not what the person saw; nothing is stored.
        """
        item = self._item(submitted.document_id)
        if item.shown != submitted.shown:
            raise ContractBroken(
                f"Document {item.document_id!r} or its answers have changed since the page was opened, so nothing was "
                "stored. Look at it again."
            )
        occasion = Occasion(person.name, person.role, at, submitted.queue.name, submitted.blind, submitted.group_id)
        rows = verdict_rows(item, submitted.decision, occasion, self.application)
        rows += remark_rows(item, occasion, tags=submitted.tags, note=submitted.note)
        self._store.annotations.append(rows)
        with self._lock:
            self._claims.pop((_lane(submitted.queue), item.fingerprint), None)

    def undo(self, person: Person, *, at: datetime) -> tuple[str, str] | None:
        """Take the person's newest decision back; (queue, document_id) of it, None when there is none."""
        self._refresh()
        newest = next((group for group in self._items.groups(by=person.name) if not group["undone"]), None)
        if newest is None:
            return None
        occasion = Occasion(
            person.name, person.role, at, newest["queue"], bool(newest["blind"]), f"{newest['group_id']}-undo"
        )
        row = undo_row(occasion, undoes=newest["group_id"], document_id=newest["document_id"])
        self._store.annotations.append([row])
        return newest["queue"], newest["document_id"]

    def history(self, *, by: str | None, before: int | None) -> list[dict[str, Any]]:
        """Decisions as they were made, newest first, a page at a time."""
        self._refresh()
        return self._items.groups(by=by, before=before)

    def agreements(self) -> list[Agreement]:
        """How far people agree, on what each said before seeing the others."""
        self._refresh()
        rows = self._items.first_verdicts().to_pylist()
        return agreements(rows, by_label=self.application.task == "classify")

    def progress(self, person: Person, queue: ReviewQueue) -> QueueProgress:
        """How far one queue is."""
        self._refresh()
        return self._items.progress(queue, person.name)

    def _note(self, person: Person, where: str, document_ids: Sequence[str]) -> None:
        """Write down who looks at what, before it is shown; what cannot be written down is not shown."""
        if document_ids:
            self._store.reads.append(f"review page: {where}", by=person.name, at=self._now(), document_ids=document_ids)

    def _refresh(self) -> None:
        self._items.refresh(tuple(self._shown()), whole_answers=self.application.task == "generate")

    def _shown(self) -> dict[str, str]:
        """Release → variant whose answers are shown; what serves comes first."""
        with self._lock:
            if self._clock() - self._releases[1] < RELEASES_SECONDS:
                return self._releases[0]
        champion = self._store.rollout.champion()
        found = {release.release_id: name for name, release in judged_releases(self._store, self._loaded).items()}
        if champion is not None and champion.release_id in found:
            first = found.pop(champion.release_id)
            found = {champion.release_id: first if first == CHAMPION else f"{first}{SERVES}", **found}
        with self._lock:
            self._releases = (found, self._clock())
        return found

    def _item(self, document_id: str) -> Item:
        document = self._items.document(document_id)
        if document is None:
            raise ContractBroken(f"There is no document {document_id!r} any more. Go on with the next one.")
        shown = self._shown()
        answers = self._items.answers(document["fingerprint"], tuple(shown))
        given = [_given(answers[release], name) for release, name in shown.items() if release in answers]
        return Item(
            document_id=document_id,
            fingerprint=document["fingerprint"],
            text=document["text"],
            attributes=json.loads(document["attributes"] or "{}"),
            choices=choices_of(document["fingerprint"], given, self.application),
        )

    def _opinions(self, item: Item, person: Person) -> tuple[SecondOpinion, ...]:
        """What people said, as "You" and numbers: who said it must not count."""
        return self._told(self._items.opinions(item.fingerprint), person)

    def _told(self, found: Sequence[Mapping[str, Any]], person: Person) -> tuple[SecondOpinion, ...]:
        others = 0
        opinions = []
        for row in found:
            others += row["by"] != person.name
            who = "You" if row["by"] == person.name else f"Person {others}"
            rejected = tuple(comparable(answer, self.application) or "" for answer in row["rejected"])
            opinions.append(SecondOpinion(who, row["answer"], rejected, row.get("notes") or ""))
        return tuple(opinions)

    def _claimed_by_others(self, person: Person, queue: ReviewQueue) -> list[str]:
        now = self._clock()
        self._claims = {key: claim for key, claim in self._claims.items() if claim[1] > now}
        lane = _lane(queue)
        return [text for (taken, text), (name, _) in self._claims.items() if taken == lane and name != person.name]


def _lane(queue: ReviewQueue) -> str:
    """Queues in which two people would do the same work; a second look is other work than the first."""
    return queue.name if queue.name in SECOND_LOOKS else "first look"


def _given(row: Mapping[str, Any], name: str) -> GivenAnswer:
    return GivenAnswer(row["release_id"], name, row["answer"], row["confidence"], row["reason"] or row["status"])
