"""Which texts a release has answered, for whoever answers one by one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, completion

NAME = "reviews"
Open = Callable[[], "contextmanager[Warehouse]"]


@pytest.fixture(params=["sqlite", "postgres"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Warehouse]]:
    """Attaches one lake again and again, as processes do."""
    if request.param == "sqlite":
        location = LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))
    else:
        dsn = request.getfixturevalue("postgres_dsn")
        schema = f"answered_{uuid.uuid4().hex[:8]}"
        location = LakeLocation(f"postgres:{dsn}", str(tmp_path / "data"), schema)
    opened: list[Warehouse] = []

    def attach() -> Warehouse:
        opened.append(Warehouse.attach(location, threads=1))
        return opened[-1]

    yield attach
    for lake in opened:
        lake.close()


def key(number: int) -> str:
    return f"{number:032x}"


def answers(*numbers: int, release_id: str = RELEASE_ID) -> list[object]:
    rows = [completion(f"d{number}", release_id=release_id) for number in numbers]
    return [row.model_copy(update={"fingerprint": key(number)}) for row, number in zip(rows, numbers, strict=True)]


def test_what_anybody_has_stored_is_seen_at_the_next_look(opening: Callable[[], Warehouse]) -> None:
    """A text that is not in it is sent and paid for."""
    ours, others = opening().application(NAME), opening().application(NAME)
    others.completions.restore(answers(1, 2))  # type: ignore[arg-type]
    with ours.completions.online_lease(RELEASE_ID, holder="service") as lease:
        begun = [key(number) in lease.answered for number in (1, 2, 3)]
        others.completions.restore(answers(3))  # type: ignore[arg-type]
        others.completions.restore(answers(4, release_id="another"))  # type: ignore[arg-type]
        stale = lease.answered.is_current
        lease.answered.look()

        assert begun == [True, True, False]
        assert not stale
        assert [key(number) in lease.answered for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_a_commit_of_its_owner_makes_no_look_necessary_and_stores_nothing_twice(
    opening: Callable[[], Warehouse],
) -> None:
    """Commits come every few seconds; a look after each would keep callers waiting."""
    ours, others = opening().application(NAME), opening().application(NAME)
    ours.completions.restore(answers(0))  # type: ignore[arg-type]
    with ours.completions.online_lease(RELEASE_ID, holder="service") as lease:
        before = lease.answered.is_current
        lease.answered.add([key(1)])
        ours.completions.append(lease, answers(1))  # type: ignore[arg-type]
        after = lease.answered.is_current
        # A run has answered meanwhile what the service was asked, too.
        others.completions.restore(answers(2))  # type: ignore[arg-type]
        stored = ours.completions.append(lease, answers(2, 3))  # type: ignore[arg-type]

        assert (before, after) in ((True, True), (False, False))  # on Postgres only the server can tell
        assert stored == 1
        assert not lease.answered.is_current
    assert ours.completions.of_release(RELEASE_ID).num_rows == 4


def test_what_the_process_itself_commits_makes_no_look_necessary_unless_it_is_an_answer(tmp_path: Path) -> None:
    """Beside answers, a service stores who has got them, and what it has paid; and so do its other applications."""
    location = LakeLocation(f"sqlite:{tmp_path / 'catalog.sqlite'}", str(tmp_path / "data"))
    with Warehouse.attach(location, threads=1) as lake, Warehouse.attach(location, threads=1) as another:
        store, at = lake.application(NAME), datetime(2026, 11, 30, tzinfo=UTC)
        with store.completions.online_lease(RELEASE_ID, holder="service") as lease:
            during: list[bool] = []

            @contextmanager
            def committing() -> Iterator[None]:
                yield
                during.append(lease.answered.is_current)

            store.completions.restore(answers(1, release_id="another"))  # type: ignore[arg-type]
            store.notices.append("webhook", by="caller", at=at)
            store._session.write("others", lambda to: to.target("notices"), guard=committing)
            own = lease.answered.is_current
            store.completions.restore(answers(2))  # type: ignore[arg-type]
            own_answer = lease.answered.is_current
            lease.answered.look()
            another.application(NAME).notices.append("webhook", by="caller", at=at)
            others = lease.answered.is_current

        assert during == [True]
        assert (own, own_answer, others) == (True, False, False)


def test_whoever_only_reads_makes_no_look_necessary(tmp_path: Path) -> None:
    """SQLite makes an empty log beside the catalog for every reader; a look for each would keep callers waiting."""
    catalog = tmp_path / "catalog.sqlite"
    location = LakeLocation(f"sqlite:{catalog}", str(tmp_path / "data"))
    with Warehouse.attach(location, threads=1) as lake:
        store = lake.application(NAME)
        store.completions.restore(answers(1))  # type: ignore[arg-type]
        with store.completions.online_lease(RELEASE_ID, holder="service") as lease:
            log = catalog.with_name("catalog.sqlite-wal")
            log.touch()
            assert lease.answered.is_current
            log.unlink()
            assert lease.answered.is_current
