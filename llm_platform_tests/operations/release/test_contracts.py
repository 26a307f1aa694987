"""What a release has to fill, and what becomes of readers when the files change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llm_platform.application.model import Application
from llm_platform.contracts.files import contract_files
from llm_platform.errors import ContractBroken
from llm_platform.operations.release.contracts import Filled, check_contract, filled_by, tables_of
from llm_platform.records import Release, canonical_json
from llm_platform.warehouse.copies import FolderPlace
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.contracts.builders import application, release
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.builders import completion, fill
from llm_platform_tests.warehouse.conftest import sqlite_location

VENDOR = {"vendor": {"type": "string"}}
MORE = {**VENDOR, "region": {"type": "string"}}
RENAMED = {"creditor": {"type": "string"}}
DAY = date(2026, 12, 1)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Warehouse]:
    """Three documents, and nothing published."""
    with Warehouse.attach(sqlite_location(tmp_path)) as warehouse:
        fill(warehouse, "abc", application="invoices")
        yield warehouse


def answer(lake: Warehouse, by: Release, said: Mapping[str, Any] | str) -> None:
    """Answers of a release to every document."""
    completions = lake.application("invoices").completions
    missing = completions.missing(by.release_id).column("document_id").to_pylist()
    text = said if isinstance(said, str) else canonical_json(dict(said))
    with completions.lease(by.release_id, holder="test") as lease:
        completions.append(lease, [completion(key, release_id=by.release_id, answer=text) for key in missing])


def publish(
    lake: Warehouse, files: Application, by: Release, said: Mapping[str, Any] | str, *, today: date = DAY
) -> Filled:
    """One publication, as the asset does it once a champion has answered."""
    store = lake.application("invoices")
    answer(lake, by, said)
    filled = filled_by(store, files, by, today=today)
    store.published.publish(by.release_id, filled.contracts, variant="plain", retired=filled.retired)
    return filled


def column(lake: Warehouse, number: int, name: str) -> list[Any]:
    found: list[Any] = lake.application("invoices").published.table(number)[name].to_pylist()
    return found


def test_the_table_of_contract_1_does_not_stand_still_beside_contract_2(lake: Warehouse) -> None:
    """Its readers kept rows that were deleted upstream, and answers that nobody gives any more; nobody was told."""
    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})

    publish(lake, application(MORE, contract=2), release(MORE), {"vendor": "Acme Ltd", "region": "north"})
    fill(lake, "ab", application="invoices")
    publish(lake, application(MORE, contract=2), release(MORE), {"vendor": "Acme Ltd", "region": "north"})

    assert column(lake, 1, "document_id") == column(lake, 2, "document_id") == ["a", "b"]
    assert column(lake, 1, "vendor") == ["Acme Ltd", "Acme Ltd"]
    assert "region" not in lake.application("invoices").published.columns(1)


def test_a_release_that_cannot_fill_contract_1_is_refused_with_the_reason(lake: Warehouse) -> None:
    """And the error says each of the ways out."""
    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})

    with pytest.raises(ContractBroken) as raised:
        publish(lake, application(RENAMED, contract=2), release(RENAMED), {"creditor": "Acme"})

    said = str(raised.value)
    assert "published_v1 (contract 1.0.0): column 'vendor' is filled from a field 'vendor', which is not" in said
    assert "'publish.beside.<number>.fields'" in said
    assert "'publish.beside.<number>.retired'" in said
    assert column(lake, 1, "vendor") == ["Acme"] * 3


def test_a_renamed_field_fills_both_tables_when_it_is_said_how(lake: Warehouse) -> None:
    """The way out that costs nobody anything."""
    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})
    files = application(RENAMED, contract=2, beside={"1": {"fields": {"vendor": "creditor"}}})

    publish(lake, files, release(RENAMED), {"creditor": "Acme Ltd"})

    assert column(lake, 1, "vendor") == column(lake, 2, "creditor") == ["Acme Ltd"] * 3


def test_a_finer_label_is_a_coarser_one_for_those_who_stay(lake: Warehouse) -> None:
    """A classification changes by its labels, which readers branch on."""
    two, three = ("HAPPY", "SAD"), ("HAPPY", "SAD", "ANGRY")
    publish(lake, application(labels=two), release(labels=two), "HAPPY")
    with pytest.raises(ContractBroken, match="has the values 'HAPPY', 'SAD', and not 'ANGRY'"):
        publish(lake, application(labels=three, contract=2), release(labels=three), "ANGRY")

    files = application(labels=three, contract=2, beside={"1": {"labels": {"ANGRY": "SAD"}}})
    publish(lake, files, release(labels=three), "ANGRY")

    assert (column(lake, 1, "answer"), column(lake, 2, "answer")) == (["SAD"] * 3, ["ANGRY"] * 3)


def test_a_table_is_filled_until_its_day_and_gone_from_then_on(lake: Warehouse, tmp_path: Path) -> None:
    """On a stated day: before it readers have time, after it nothing that was deleted is kept for them."""
    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})
    files = application(MORE, contract=2, beside={"1": {"retired": "2026-12-31"}})
    said = {"vendor": "Acme Ltd", "region": "north"}
    store = lake.application("invoices")
    place = FolderPlace(tmp_path / "readers")

    before = publish(lake, files, release(MORE), said, today=date(2026, 12, 30))
    store.copies.bring(before.contracts, [place], files=contract_files)
    there = column(lake, 1, "vendor")
    after = publish(lake, files, release(MORE), said, today=date(2026, 12, 31))
    store.copies.bring(after.contracts, [place], files=contract_files)

    assert there == ["Acme Ltd"] * 3
    assert (store.published.numbers(), after.retired) == ((2,), (1,))
    assert not (tmp_path / "readers" / "published_v1.parquet").exists()
    assert (tmp_path / "readers" / "published_v2.parquet").exists()


def test_readers_keep_getting_answers_while_the_files_are_ahead_of_the_champion(lake: Warehouse) -> None:
    """A file that promises more than the champion answers must not stop the champion's new answers."""
    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})
    fill(lake, "abcd", application="invoices")

    same = publish(lake, application(MORE), release(VENDOR), {"vendor": "Acme"})
    number = publish(lake, application(MORE, contract=2), release(VENDOR), {"vendor": "Acme"})
    then = publish(lake, application(MORE), release(MORE), {"vendor": "Acme", "region": "north"})

    assert [one.version for one in same.contracts] == [one.version for one in number.contracts] == ["1.0.0"]
    assert same.waiting is not None
    assert "contract 1.0.0" not in same.waiting
    assert "waits for a release that fills it: column 'region'" in same.waiting
    assert [one.version for one in then.contracts] == ["1.1.0"]
    assert column(lake, 1, "region") == ["north"] * 4


def test_files_that_break_a_contract_are_not_published_under_its_number(lake: Warehouse) -> None:
    """Readers keep what they were promised, and the team is told which number is due."""
    publish(lake, application(VENDOR, freshness_hours=24.0), release(VENDOR), {"vendor": "Acme"})
    weaker = application(VENDOR, freshness_hours=48.0)

    found = publish(lake, weaker, release(VENDOR), {"vendor": "Acme"})

    assert found.waiting is not None
    assert "the table freshness_hours is 48, and was 24" in found.waiting
    assert "'publish.contract: 2'" in found.waiting
    assert found.contracts[0].freshness_hours == 24.0


@pytest.mark.parametrize(
    ("stated", "published", "why"),
    [
        (None, "1.1.0", None),
        ("1.1.0", "1.1.0", None),
        ("1.4.2", "1.4.2", None),
        ("1.0.0", "1.0.0", "version 1.0.0 is stated, and 1.1.0 is due: region is new, a string"),
        ("1.0.1", "1.0.0", "version 1.0.1 is stated, and 1.1.0 is due"),
    ],
)
def test_a_version_that_is_stated_has_to_be_the_next_one(
    lake: Warehouse, stated: str | None, published: str, why: str | None
) -> None:
    """Two contents under one version are no version; who states none has it counted."""
    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})

    files = application(MORE, **({} if stated is None else {"version": stated}))
    found = publish(lake, files, release(MORE), {"vendor": "Acme", "region": "north"})

    assert found.contracts[0].version == published
    assert (found.waiting is None) is (why is None)
    assert why is None or why in (found.waiting or "")


def test_an_extraction_of_an_older_version_keeps_its_json(lake: Warehouse) -> None:
    """A table of before has readers of `answer`: fields get columns beside it, and the next number has only those."""
    store = lake.application("invoices")
    answer(lake, release(VENDOR), {"vendor": "Acme"})
    store.published.publish(release(VENDOR).release_id, 1)
    store._session.write("invoices", lambda transaction: transaction.run("DROP TABLE lake.invoices.contracts"))
    store._session._columns.clear()

    publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})
    publish(lake, application(VENDOR, contract=2), release(VENDOR), {"vendor": "Acme"})

    assert column(lake, 1, "answer") == ['{"vendor":"Acme"}'] * 3
    assert column(lake, 1, "vendor") == column(lake, 2, "vendor") == ["Acme"] * 3
    assert "answer" not in store.published.columns(2)
    kept = store.contracts.published()[1].column("answer")
    assert kept is not None
    assert kept.deprecated


def team_of(tmp_path: Path) -> Team:
    team = Team(tmp_path, "http://127.0.0.1:9")
    (team.folder / "queries").mkdir()
    (team.folder / "queries" / "totals.sql").write_text("SELECT answer, count(*) FROM tickets.published_v1 GROUP BY 1")
    team.specification["publish"] = {"consumers": {"dashboard": {"queries": ["queries/totals.sql"]}}}
    team.write_specification()
    return team


def test_the_check_tells_the_files_against_readers_and_consumers(tmp_path: Path) -> None:
    """Before a change is merged: what it is to readers, and which consumer breaks on which column."""
    team = team_of(tmp_path)
    with team.warehouse.open() as lake:
        store = lake.application(NAME)
        fill(lake, "ab", application=NAME)
        first = check_contract(store, team.loaded)
        store.published.publish("r", [tables_of(store, team.loaded.application).described])

        same = check_contract(store, team.loaded)
        team.specification["labels"] = ["HAPPY", "SAD", "ANGRY"]
        for prompt in ("clear", "vague"):
            path = team.folder / "prompts" / f"{prompt}.md"
            path.write_text(path.read_text().replace("SAD: SAD}", "SAD: SAD, ANGRY: ANGRY}"))
        team.write_specification()
        broken = check_contract(store, team.loaded)
        team.specification["publish"]["contract"] = 2
        team.write_specification()
        second = check_contract(store, team.loaded)
        team.specification["publish"]["beside"] = {"1": {"labels": {"ANGRY": "SAD"}, "retired": "2999-01-01"}}
        team.write_specification()
        filled = check_contract(store, team.loaded)
        team.specification["publish"]["beside"] = {"1": {"retired": "2026-01-01"}}
        team.write_specification()
        retired = check_contract(store, team.loaded)

    assert first.holds
    assert same.holds
    assert not broken.holds
    assert [str(one) for one in broken.breaks] == [
        "dashboard (queries/totals.sql) breaks on published_v1.answer: may have the values 'ANGRY', which it never had"
    ]
    assert "'publish.contract: 2'" in (broken.tables.broken or "")
    assert list(second.unfilled) == ["clear", "vague"]
    assert not second.breaks
    assert filled.holds
    assert filled.notes == ("published_v1 is filled until 2999-01-01; read by dashboard",)
    assert [one.why for one in retired.breaks] == ["it is retired since 2026-01-01"]


def test_a_consumer_that_reads_nothing_of_ours_is_told(tmp_path: Path) -> None:
    """A query with a misspelt table would pass every check for ever."""
    team = team_of(tmp_path)
    (team.folder / "queries" / "totals.sql").write_text("SELECT answer FROM publishd_v1")

    found = check_contract(None, team.loaded)

    assert not found.holds
    assert found.unread == (f"dashboard (queries/totals.sql) reads no published table of {NAME}",)


def test_a_branch_is_held_against_what_production_publishes(tmp_path: Path) -> None:
    """Its own table has no readers; the ones that would break are production's."""
    production, branch = sqlite_location(tmp_path, "production"), sqlite_location(tmp_path, "branch")
    with Warehouse.attach(production) as lake:
        fill(lake, "abc", application="invoices")
        publish(lake, application(VENDOR), release(VENDOR), {"vendor": "Acme"})
    with Warehouse.attach(branch, upstream=production) as lake:
        fill(lake, "abc", application="invoices")
        store = lake.application("invoices")

        own = tables_of(store, application(RENAMED))
        held = tables_of(store, application(RENAMED), upstream=True)

    with Warehouse.attach(production) as lake:
        files = application(MORE, contract=2, beside={"1": {"retired": "2026-01-01"}})
        publish(lake, files, release(MORE), {"vendor": "Acme", "region": "north"})
    with Warehouse.attach(branch, upstream=production) as lake:
        later = tables_of(lake.application("invoices"), application(MORE, contract=2), upstream=True)

    assert own.broken is None
    assert "vendor is gone" in (held.broken or "")
    assert list(later.published) == [2]


def test_a_table_of_an_older_version_is_checked_as_it_is_published(lake: Warehouse) -> None:
    """The command must not ask for a version that the publication does not ask for."""
    store = lake.application("invoices")
    answer(lake, release(labels=("HAPPY", "SAD")), "HAPPY")
    store.published.publish(release(labels=("HAPPY", "SAD")).release_id, 1)
    store._session.write("invoices", lambda transaction: transaction.run("DROP TABLE lake.invoices.contracts"))
    store._session._columns.clear()
    files = application(labels=("HAPPY", "SAD"), version="1.0.0")

    checked, published = tables_of(store, files, upstream=True), tables_of(store, files)

    assert checked.broken is published.broken is None
    assert checked.described.version == published.described.version == "1.0.0"
