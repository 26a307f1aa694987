"""What readers are promised, held against the files of the working tree and against a release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from llm_platform.application.model import Application
from llm_platform.contracts.changes import Change, changes, next_version, parts
from llm_platform.contracts.consumers import Break, Promises, Query, breaks_of, tables_read
from llm_platform.contracts.shape import contract_of, filled_from, masked_like, why_not_filled
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.operations.live import live_rollouts
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Release
from llm_platform.records.contracts import ANSWER, Contract, text_contract
from llm_platform.records.rollout import Route
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class Tables:
    """The contracts of an application.

    Attributes:
        published: Number → what readers of a table that is there are promised, without those that are retired.
        described: What the files describe, in the version that it is published under.
        changed: How that differs from what is published under its number.
        broken: Why it may not be published under that number and version; None where it may.
        retired: Numbers of tables whose day has come.
        before: What those readers had until now, where the files mask more of it.
    """

    published: dict[int, Contract]
    described: Contract
    changed: tuple[Change, ...] = ()
    broken: str | None = None
    retired: tuple[int, ...] = ()
    before: dict[int, Contract] = field(default_factory=dict)


@dataclass(frozen=True)
class Filled:
    """What a release fills, the table that the files describe first if it can.

    Attributes:
        waiting: Why the contract that the files describe is not published yet; None where it is.
    """

    contracts: tuple[Contract, ...]
    retired: tuple[int, ...] = ()
    waiting: str | None = None


def tables_of(
    store: ApplicationStore, application: Application, *, today: date | None = None, upstream: bool = False
) -> Tables:
    """The contracts of an application: published, described, and whether the one may follow the other.

    Args:
        store: Of the application.
        application: Its files.
        today: Day on which tables are retired; None is the clock's, in UTC.
        upstream: Hold the files against what the namespace below publishes, if it does: its readers are the real ones.
    """
    day = today or datetime.now(UTC).date()
    stored = store.contracts.published()
    # Tables from before contracts were stored have an answer that is one text, whatever the task.
    before_contracts = [number for number in store.published.numbers() if number not in stored]
    there = {
        number: stored.get(number) or text_contract(number, application=application.name)
        for number in store.published.numbers()
    }
    if upstream and (below := store.contracts.published(upstream=True)):
        there, before_contracts = below, []
    beside = {int(number): spec for number, spec in application.publish.beside.items()}
    retired = tuple(n for n, spec in beside.items() if n in there and spec.retired is not None and spec.retired <= day)
    described = contract_of(application)
    if "hash" in described.masks.values():
        described = described.model_copy(update={"mask_key": store.copies.mask_key_id()})
    had = {number: contract for number, contract in there.items() if number not in retired}
    published = {
        number: contract
        if number == described.number
        else masked_like(filled_from(contract, beside.get(number)), described)
        for number, contract in had.items()
    }
    before = had.get(described.number)
    if before is None:
        return Tables(published, described, retired=retired, before=had)
    described = _with_kept_answer(described, before)
    found = changes(before, described)
    if described.number in before_contracts:
        # Nobody was promised a version.
        found = tuple(one for one in found if one.kind == "breaking")
    versioned, broken = _versioned(application, before, described, found)
    return Tables(published, versioned, found, broken, retired, had)


def filled_by(
    store: ApplicationStore, application: Application, release: Release, *, today: date | None = None
) -> Filled:
    """What a release is to fill: every table that is there, and the one that the files describe if it can.

    Raises:
        ContractBroken: it cannot fill a table that readers have; says which column, and what to do.
    """
    tables = tables_of(store, application, today=today)
    described, published = tables.described, dict(tables.published)
    waiting = tables.broken
    lacking = why_not_filled(described, release)
    if waiting is None and lacking:
        waiting = f"contract {described.version} waits for a release that fills it: {'; '.join(lacking)}"
    before = published.pop(described.number, None)
    first = [described] if waiting is None else [before] if before is not None else []
    contracts = (*first, *published.values())
    reasons = [
        f"{one.table} (contract {one.version}): {why}" for one in contracts for why in why_not_filled(one, release)
    ]
    if reasons or not contracts:
        raise ContractBroken(_cannot_fill(application, release, reasons or [waiting or "there is no contract"]))
    return Filled(contracts, tables.retired, waiting)


def routes_that_fill(store: ApplicationStore, contracts: Sequence[Contract]) -> tuple[Route, ...]:
    """Canaries that can fill what readers have been promised; documents of others are the champion's."""
    found = []
    for route in live_rollouts(store).routes:
        release = store.releases.get(route.release_id)
        if release is not None and not any(why_not_filled(one, release) for one in contracts):
            found.append(route)
    return tuple(found)


def _cannot_fill(application: Application, release: Release, reasons: Sequence[str]) -> str:
    lines = "\n".join(f"  {reason}" for reason in reasons)
    return (
        f"{application.name}: release {release.release_id} cannot fill what readers have been promised:\n{lines}\n"
        "Answer what is missing; or give the files another number ('publish.contract') and say from which fields or "
        "labels the table that is there is filled ('publish.beside.<number>.fields', '.labels'), or on which day it "
        "ends ('publish.beside.<number>.retired')."
    )


def _with_kept_answer(described: Contract, before: Contract) -> Contract:
    """Tables that had an extraction's answer as JSON keep that column until their next number."""
    had = before.column(ANSWER)
    if had is None or had.field is not None or had.values or described.column(ANSWER) is not None:
        return described
    said = "The whole answer as JSON; its fields have columns of their own."
    hidden = any(one.mask is not None for one in described.answers)
    kept = had.model_copy(update={"description": said, "deprecated": True, "mask": "drop" if hidden else had.mask})
    return described.model_copy(update={"columns": (*described.columns, kept)})


def _versioned(
    application: Application, before: Contract, described: Contract, found: Sequence[Change]
) -> tuple[Contract, str | None]:
    """The contract in its version, and why it may not be published under its number and version."""
    needed, stated = next_version(before, found), application.publish.version
    breaking = [f"{one.column or 'the table'} {one.text}" for one in found if one.kind == "breaking"]
    if breaking:
        why = (
            f"the files break contract {before.version} of {application.name}.{before.table}, which readers have: "
            f"{'; '.join(breaking)}. Give it another number ('publish.contract: {_free(application, before)}'), which "
            "makes a table beside that one"
        )
        return described, why
    if stated is None:
        return described.model_copy(update={"version": needed}), None
    if parts(stated) < parts(needed):
        what = (
            "; ".join(f"{one.column or 'the table'} {one.text}" for one in found) or "it is published in that version"
        )
        return described, f"version {stated} is stated, and {needed} is due: {what}. Write 'version: {needed}'"
    return described, None


def _free(application: Application, before: Contract) -> int:
    return max([before.number, *map(int, application.publish.beside)]) + 1


@dataclass(frozen=True)
class ContractCheck:
    """The working tree held against what is published, and against the queries of consumers.

    Attributes:
        tables: What is published and what the files describe.
        breaks: Consumers that break, on which column.
        unfilled: Variant → why it could not be promoted, if none could; empty where one could.
        unread: Consumers of which no query reads a published table, and why that is not as it should be.
    """

    tables: Tables
    breaks: tuple[Break, ...] = ()
    unfilled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nobody breaks: readers, consumers, and the next promotion."""
        return self.tables.broken is None and not (self.breaks or self.unfilled or self.unread)


def check_contract(
    store: ApplicationStore | None, loaded: LoadedApplication, *, today: date | None = None
) -> ContractCheck:
    """Hold the working tree against what is published here, or in the namespace that this one stands on.

    Args:
        store: None where nothing was ever published.
        loaded: The files.
        today: Day on which tables are retired; None is the clock's, in UTC.

    Raises:
        SpecificationError: a query is no SQL.
    """
    application = loaded.application
    if store is None:
        tables = Tables({}, contract_of(application))
    else:
        tables = tables_of(store, application, today=today, upstream=True)
    promises = _promises(application, tables)
    queries = consumer_queries(application)
    breaks = [one for query in queries for one in breaks_of(query, promises)]
    reading = {query: tables_read(query, promises) for query in queries}
    others = [one for number, one in tables.published.items() if number != tables.described.number]
    lacking = {
        variant: tuple(f"{one.table}: {why}" for one in others for why in why_not_filled(one, release))
        for variant, release in ((name, loaded.without_adapter(name)) for name in application.variants)
    }
    return ContractCheck(
        tables,
        tuple(breaks),
        unfilled=lacking if all(lacking.values()) else {},
        unread=tuple(
            f"{query.consumer} ({query.name}) reads no published table of {application.name}"
            for query, read in reading.items()
            if not read
        ),
        notes=tuple(_notes(application, tables, reading)),
    )


def consumer_queries(application: Application) -> list[Query]:
    """The files of SQL that `publish.consumers` names.

    Raises:
        SpecificationError: one cannot be read.
    """
    found = []
    for name, consumer in application.publish.consumers.items():
        for file in consumer.queries:
            try:
                sql = (application.folder / file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                raise SpecificationError(
                    f"{application.name}: {file!r} of consumer {name!r} cannot be read as text in UTF-8."
                ) from None
            found.append(Query(name, file, sql, consumer.dialect))
    return found


def _promises(application: Application, tables: Tables) -> Promises:
    before = {one.table: one.for_readers() for one in (tables.before or tables.published).values()}
    now = [*tables.published.values(), tables.described]
    after = {one.table: one.for_readers() for one in now}
    beside = application.publish.beside
    retired = {f"published_v{n}": f"it is retired since {beside[str(n)].retired}" for n in tables.retired}
    return Promises(application.name, before, after, retired)


def _notes(application: Application, tables: Tables, reading: Mapping[Query, frozenset[str]]) -> Iterator[str]:
    for number, contract in tables.published.items():
        if number == tables.described.number:
            continue
        spec = application.publish.beside.get(str(number))
        for change in changes(tables.before.get(number, contract), contract):
            if change.kind == "breaking":
                yield f"{contract.table}.{change.column} {change.text}, as 'publish.masks' has it for every table"
        readers = sorted({query.consumer for query, read in reading.items() if contract.table in read})
        who = f"; read by {', '.join(readers)}" if readers else ""
        if spec is None or spec.retired is None:
            yield f"{contract.table} is filled until 'publish.beside.{number}.retired' says a day{who}"
        else:
            yield f"{contract.table} is filled until {spec.retired}{who}"
