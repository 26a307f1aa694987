"""Where applications stand: plain data, which a page, a terminal and a program show alike.

It holds numbers, names, ids and reasons, and never the text of a document or an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import Field

from llm_platform.records.base import Record
from llm_platform.records.figures import figure

DriftWord = Literal["no drift", "drifted", "too few to say"]
Responsible = Literal["the next run", "a reviewer", "an adjudicator", "the owner", "the operator", "the source's owner"]


class MeasuredShare(Record):
    """A share with its interval, and of how many it was measured."""

    value: float
    lower: float
    upper: float
    count: int

    @property
    def text(self) -> str:
        """`0.775 [0.712, 0.827] of 200`."""
        return f"{self.shown} {self.between}"

    @property
    def shown(self) -> str:
        """`0.775`."""
        return figure(self.value)

    @property
    def between(self) -> str:
        """`[0.712, 0.827] of 200`."""
        return f"[{figure(self.lower)}, {figure(self.upper)}] of {self.count:,}"


class ServingStatus(Record):
    """Who serves the published table, since when, by whose decision and on what evidence.

    Attributes:
        accuracy: Of the report that the decision was made on; None where nothing was evaluated.
        gates: The gates as they were at the decision, in words.
        rows: Rows of the published table.
        missing: Documents that have no answer of it yet.
        holds: Whether the newest report on the release says that it may serve; None without a report.
    """

    variant: str
    release_id: str
    model: str
    prompt: str
    since: datetime
    by: str
    note: str
    action: str
    report_id: str
    accuracy: MeasuredShare | None
    gates: tuple[str, ...]
    rows: int
    missing: int
    holds: str | None


class VariantStatus(Record):
    """A variant that does not serve: whether it may, and why not.

    Attributes:
        state: `may serve`, `refused`, `undecided`, `not trained yet`, `not fitted yet`, `recorded` or `no report`.
        stage: How far the rollout is with it, where it is on its way.
    """

    variant: str
    release_id: str | None
    state: str
    why: str
    accuracy: MeasuredShare | None
    missing: int
    stage: str = ""


class Work(Record):
    """One bulk run of a release: what it sent, how fast, and what failed for which reason."""

    variant: str
    run_id: str
    started_at: datetime
    seconds: float
    sent: int
    stored: int
    failed: int
    tokens_per_second: float
    causes: dict[str, int]


class Used(Record):
    """Tokens and money of some time; `cost_usd` is None where no price is known."""

    tokens: int = 0
    cost_usd: float | None = None

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.tokens:,} tokens" + ("" if self.cost_usd is None else f", {self.cost_usd:,.2f} USD")


class UnderWay(Record):
    """A release that is being asked now, as its process last said.

    Attributes:
        used: Until now.
        expected: What was estimated at the start, with what was used then; None where nothing was.
        silent: Seconds since the process last said anything, where that is long; it may be gone.
    """

    variant: str
    run_id: str
    done: int
    total: int | None
    tokens_per_second: float
    seconds_left: float | None
    used: Used
    expected: Used | None
    failed: dict[str, int]
    retries: dict[str, int]
    silent: float | None = None


class Spending(Record):
    """What was used today and this month (UTC), and of what budget, in words; None where there is no such budget.

    Attributes:
        budget: What the last run used of its own.
        month_budget: What the month has used of its own.
        month_over: Whether there is nothing left of it.
    """

    today: Used
    month: Used
    budget: str | None
    month_budget: str | None = None
    month_over: bool = False


class DriftStanding(Record):
    """The newest look at drift, as one of three states.

    Attributes:
        drifted: What has drifted.
        told: How many properties could be told, of `of`.
    """

    state: DriftWord
    drifted: tuple[str, ...]
    told: int
    of: int
    at: datetime


class LiveAccuracy(Record):
    """How right live answers are, by those that were drawn and labelled."""

    text: str
    standing: str
    labelled: int
    drawn: int


class DocumentCounts(Record):
    """Documents by what can be done with them."""

    total: int
    sendable: int
    unsendable: dict[str, int]


class WaitsFor(Record):
    """Something that waits for somebody.

    Attributes:
        page: Where it is done, below the application's own address: a queue, `answers?only=invalid`, a card.
        command: What does it at a terminal.
    """

    who: Responsible
    what: str
    page: str | None = None
    command: str | None = None


class EndpointStanding(Record):
    """What the endpoints of a lock entry said at the last look."""

    entry: str
    state: str
    note: str
    at: datetime | None
    has_page: bool = False


class OpenAlert(Record):
    """Trouble that has not ended."""

    kind: str
    application: str
    variant: str
    message: str
    since: datetime
    link: str


class ApplicationStatus(Record):
    """Where one application stands."""

    name: str
    title: str
    owners: tuple[str, ...]
    serving: ServingStatus | None
    nothing_serves: str
    challengers: tuple[VariantStatus, ...]
    last_run: Work | None
    under_way: tuple[UnderWay, ...] = ()
    documents: DocumentCounts
    drift: DriftStanding | None
    live: LiveAccuracy | None
    spending: Spending
    endpoints: tuple[EndpointStanding, ...]
    alerts: tuple[OpenAlert, ...]
    waiting: tuple[WaitsFor, ...]
    cards: dict[str, str]


class NamespaceStatus(Record):
    """What belongs to no application that can be used.

    Attributes:
        broken: Applications that cannot be used, and why.
    """

    namespace: str = ""
    broken: dict[str, str] = Field(default_factory=dict)
    alerts: tuple[OpenAlert, ...] = ()


class PlatformStatus(Record):
    """Where everything in a namespace stands."""

    at: datetime
    platform: NamespaceStatus
    applications: tuple[ApplicationStatus, ...]


def lines_of(status: PlatformStatus) -> Iterator[str]:
    """The same for a terminal."""
    yield f"Namespace {status.platform.namespace}, {status.at:%Y-%m-%d %H:%M} UTC"
    for one in status.applications:
        yield ""
        yield from _application(one)
    for name, why in status.platform.broken.items():
        yield f"\n{name}\n  cannot be used: {why}"
    for alert in status.platform.alerts:
        yield f"\nAlert since {alert.since:%Y-%m-%d %H:%M}: {alert.message}"
    if not status.applications and not status.platform.broken:
        yield "There is no application yet: llm-platform application new NAME --source FILE"


def _application(one: ApplicationStatus) -> Iterator[str]:
    yield f"{one.name}: {one.title}"
    yield from _told("Serves", *_serving(one))
    for other in one.challengers:
        known = "" if other.accuracy is None else f", accuracy {other.accuracy.text}"
        stage = f" ({other.stage})" if other.stage else ""
        yield from _told("Beside it", f"{other.variant}{stage}: {other.state}{known}. {other.why}".rstrip(" ."))
    if one.under_way:
        yield from _told("Under way", *map(under_way_line, one.under_way))
    yield from _told("Last run", "none" if one.last_run is None else work_line(one.last_run))
    yield from _told("Documents", documents_line(one.documents))
    yield from _told("Drift", drift_line(one.drift))
    yield from _told("Live", "not measured yet" if one.live is None else f"{one.live.text}: {one.live.standing}")
    of_month = f" ({one.spending.month_budget})" if one.spending.month_budget else ""
    spent = f"today {one.spending.today.text}; this month {one.spending.month.text}{of_month}"
    yield from _told("Used", spent, *([f"last run: {one.spending.budget}"] if one.spending.budget else []))
    endpoints = [f"{found.entry}: {found.state}{f', {found.note}' if found.note else ''}" for found in one.endpoints]
    yield from _told("Endpoints", *(endpoints or ["none"]))
    alerts = [f"since {found.since:%Y-%m-%d %H:%M}: {found.message}" for found in one.alerts]
    yield from _told("Alerts", *(alerts or ["none"]))
    waits = [f"{found.who}: {found.what}{f' ({found.command})' if found.command else ''}" for found in one.waiting]
    yield from _told("Waits for", *(waits or ["nobody"]))


def _serving(one: ApplicationStatus) -> list[str]:
    found = one.serving
    if found is None:
        return [f"nothing: {one.nothing_serves}"]
    lines = [serving_line(found)]
    if found.accuracy is not None:
        lines.append(f"on report {found.report_id}: accuracy {found.accuracy.text}")
    lines.append(f"{found.rows:,} rows are published, {found.missing:,} documents wait for an answer of it")
    return lines if found.holds is None else [*lines, found.holds]


def serving_line(found: ServingStatus) -> str:
    """Who serves, since when and by whose decision, in a sentence."""
    note = f" ({found.note})" if found.note else ""
    return f"{found.variant} (release {found.release_id}) since {found.since:%Y-%m-%d %H:%M} UTC, by {found.by}{note}"


def work_line(found: Work) -> str:
    """A run in a sentence."""
    failed = f", {found.failed:,} without a valid answer" if found.failed else ""
    return (
        f"{found.variant} at {found.started_at:%Y-%m-%d %H:%M} UTC: {found.stored:,} answers in {found.seconds:,.0f} "
        f"s, {found.tokens_per_second:,.0f} tokens/s{failed}"
    )


def under_way_line(found: UnderWay) -> str:
    """What is being asked, in a sentence."""
    of = "" if found.total is None else f" of {found.total:,}"
    left = "" if found.seconds_left is None else f", about {found.seconds_left:,.0f} s left"
    expected = "" if found.expected is None else f" of about {found.expected.text}"
    failed = f", {sum(found.failed.values()):,} without a valid answer" if found.failed else ""
    return (
        f"{found.variant}: {found.done:,}{of} texts, {found.tokens_per_second:,.0f} tokens/s{left}, "
        f"{found.used.text}{expected}{failed}"
    )


def documents_line(found: DocumentCounts) -> str:
    """Documents in a sentence."""
    others = "".join(f", {count:,} {status}" for status, count in found.unsendable.items())
    return f"{found.total:,}, {found.sendable:,} can be sent{others}"


def drift_line(found: DriftStanding | None) -> str:
    """The state of drift in a sentence."""
    if found is None:
        return "not looked at yet"
    names = f" ({', '.join(found.drifted)})" if found.drifted else ""
    return f"{found.state}{names}; {found.told} of {found.of} properties could be told, {found.at:%Y-%m-%d %H:%M} UTC"


def _told(name: str, *lines: str) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"  {name if number == 0 else '':<11} {line}"
