"""A table that is followed by a replication slot, from its Postgres to the documents of a lake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_platform.operations.answering.documents import consumed_and_current, update_documents
from llm_platform.operations.answering.source_look import look_at_source
from llm_platform.operations.release.plan import plan
from llm_platform.operations.watching.slots import slot_events
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.source_slots import Slot
from llm_platform_tests.team import NAME, Team
from llm_platform_tests.warehouse.slots import Desk


@pytest.fixture
def desk(postgres_dsn: str) -> Iterator[Desk]:
    made = Desk(postgres_dsn)
    yield made
    made.remove()


@pytest.fixture
def team(tmp_path: Path, desk: Desk) -> Team:
    made = Team(tmp_path, "http://127.0.0.1:9", documents=0, warehouses={"crm": f"postgres:{desk.dsn}"})
    made.specification |= {"source": desk.values, "evaluation": {"gates": {}}}
    del made.specification["references"]
    made.write_specification()
    return made


def events(lake: Warehouse, team: Team, **limit: int) -> list[tuple[bool, str]]:
    return [(event.failing, event.message) for event in slot_events(lake, [team.loaded.application], **limit)]


def texts(lake: Warehouse) -> dict[str, str]:
    table = lake.application(NAME).documents.table(["document_id", "text"])
    return dict(zip(*(table[name].to_pylist() for name in ("document_id", "text")), strict=True))


def test_changes_are_acknowledged_once_they_are_stored(team: Team, desk: Desk) -> None:
    """Acknowledged before, a run that fails would have lost them; never, and the server's disk is full."""
    with team.warehouse.open() as lake:
        began = desk.acknowledged
        first = update_documents(lake, team.loaded)
        stored = desk.acknowledged
        desk.run(f'UPDATE {desk.name} SET "Body" = \'second\' WHERE "Ticket Id" = 2')
        desk.run(f'DELETE FROM {desk.name} WHERE "Ticket Id" = 3')
        planned = plan(lake, team.loaded), desk.acknowledged
        second = update_documents(lake, team.loaded)
        snapshot = lake.snapshot()
        idle = update_documents(lake, team.loaded)

        assert (first.full, stored) == (True, first.state.lsn)
        assert stored != began
        assert planned[0][0].asset == "documents"
        assert planned[1] == stored
        assert (second.full, second.change.updated, second.change.deleted) == (False, 1, 1)
        assert desk.acknowledged == second.state.lsn
        assert texts(lake) == {"1": "one", "2": "second"}
        assert (idle.change.changed, lake.snapshot(), idle.state) == (0, snapshot, second.state)
        assert not [step for step in plan(lake, team.loaded) if step.asset == "documents"]


def test_a_run_that_ends_before_it_acknowledges_loses_nothing(
    team: Team, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same keys are read once more, by the next run that there is a reason for."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with team.warehouse.open() as lake:
        update_documents(lake, team.loaded)
        before = desk.acknowledged
        desk.run(f"INSERT INTO {desk.name} VALUES (4, 'four', 'red')")
        monkeypatch.setattr(Slot, "acknowledge", killed)
        with pytest.raises(KeyboardInterrupt):
            update_documents(lake, team.loaded)
        monkeypatch.undo()
        consumed, current = consumed_and_current(lake, team.loaded)
        between = desk.acknowledged
        again = update_documents(lake, team.loaded)

        assert texts(lake)["4"] == "four"
        assert consumed is not None
        assert consumed.token == current.token
        assert between == before
        assert (again.full, again.change.changed, again.change.unchanged) == (False, 0, 1)
        assert desk.acknowledged == again.state.lsn != before


def test_a_branch_acknowledges_nothing(team: Team, desk: Desk) -> None:
    """What it has read, production has not; and what production was done with before, the branch compares."""
    branch = WarehouseResource.of(team.settings.model_copy(update={"namespace": "try", "upstream": "test"}))
    with team.warehouse.open() as lake, branch.open() as other:
        began = desk.acknowledged
        update_documents(other, team.loaded)
        looked = desk.acknowledged
        desk.run(f"INSERT INTO {desk.name} VALUES (4, 'four', 'red')")
        by_key = update_documents(other, team.loaded)
        update_documents(lake, team.loaded)
        desk.run(f"INSERT INTO {desk.name} VALUES (5, 'five', 'red')")
        update_documents(lake, team.loaded)
        compared = update_documents(other, team.loaded)

        assert looked == began
        assert (by_key.full, by_key.change.inserted) == (False, 1)
        assert (compared.full, compared.change.inserted) == (True, 1)
        assert "acknowledged by somebody else" in compared.reason
        assert texts(other) == texts(lake)
        assert events(other, team) == []


def test_people_are_told_of_a_slot_that_is_gone_or_holds_back_too_much(team: Team, desk: Desk) -> None:
    """Also while no sensor and no run looks: then above all, since that is what fills the disk."""
    with team.warehouse.open() as lake:
        well = events(lake, team)
        looked = look_at_source(team.loaded.application, lake.sources)
        too_much = events(lake, team, most=-1)
        desk.run(f"SELECT pg_drop_replication_slot('{desk.slot}')")
        gone = events(lake, team)
        refused = look_at_source(team.loaded.application, lake.sources).refused
        unreachable = team.settings.model_copy(update={"warehouses": {"crm": "postgres:host=127.0.0.1 port=1"}})
    with WarehouseResource.of(unreachable).open() as lake:
        unknown = events(lake, team)

    assert well == [(False, f"Replication slot {desk.slot!r} holds back little again.")]
    assert looked.followed.startswith(f"its replication slot {desk.slot!r} (0 MB of WAL held back)")
    assert refused == [gone[0][1]]
    assert too_much[0][0]
    assert "MB of WAL" in too_much[0][1]
    assert gone[0][0]
    assert "there is none of this name" in gone[0][1]
    assert unknown == []
