"""A catalog that is gone, or does not answer, is never taken for a lake that nobody has made yet."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from llm_platform.errors import LeaseHeld, StorageError, TransientError
from llm_platform.warehouse.coordination_postgres import PostgresCoordinator
from llm_platform.warehouse.engine import POSTGRES_DEADLINES, with_deadline
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, completion, fill
from llm_platform_tests.warehouse.conftest import LOCAL_STORE, sqlite_location

OF_A_FILE = pytest.mark.skipif(
    LOCAL_STORE != "sqlite", reason="leases are in Postgres, which keeps its own tables whole"
)


def remove_catalog(location: LakeLocation) -> None:
    if location.kind == "sqlite":
        for file in Path(location.target).parent.glob("lake.sqlite*"):
            file.unlink()
        return
    with closing(psycopg2.connect(location.target)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f'DROP SCHEMA "{location.schema}" CASCADE')


def remove_data(location: LakeLocation) -> None:
    if location.s3 is None:
        shutil.rmtree(location.data_path)
        return
    location.s3.file_system().delete_dir(location.data_path.removeprefix("s3://"))


def test_data_without_a_catalog_is_an_error_with_the_ways_back(location: LakeLocation) -> None:
    """Begun anew, everything would be paid for again and a first champion promoted, without a word."""
    with Warehouse.attach(location, threads=2) as lake:
        fill(lake, "ab")
    remove_catalog(location)

    with pytest.raises(StorageError, match=r"no catalog, but something is left of it: .*Parquet files(.|\n)*a backup"):
        Warehouse.attach(location, threads=2)

    remove_data(location)
    with Warehouse.attach(location, threads=2) as lake:
        assert lake.snapshot() >= 0


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("journal/tickets/0123/1.journal", "journals of answers"),
        ("reports/tickets/card.html", "report cards"),
        ("reports/tickets/published_v1.parquet", "published tables"),
        ("lake_data/tickets/documents/1.parquet", "Parquet files"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("instead", ["nothing", "an empty file", "another database"])
def test_whatever_is_left_of_a_lake_says_that_it_was_there(
    tmp_path: Path, left: str, said: str, read_only: bool, instead: str
) -> None:
    """Data may be in an object store that somebody else empties; a file or a database without a lake is no catalog."""
    location = sqlite_location(tmp_path)
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).write_bytes(b"x")
    if instead == "an empty file":
        Path(location.target).touch()
    elif instead == "another database":
        with closing(sqlite3.connect(location.target)) as connection, connection:
            connection.execute("CREATE TABLE notes (note TEXT)")

    with pytest.raises(StorageError, match=said):
        Warehouse.attach(location, threads=1, read_only=read_only)


@OF_A_FILE
def test_a_damaged_file_of_leases_is_named_with_the_way_out(local_lake: Warehouse, tmp_path: Path) -> None:
    """It stopped every run, and the advice was to look for permissions and free space."""
    lease = local_lake.application("reviews").completions.lease(RELEASE_ID, holder="ours")
    (tmp_path / "leases.sqlite").write_bytes(b"garbage" * 999)

    with pytest.raises(StorageError, match=r"leases\.sqlite.+damaged.+delete it"):
        lease.acquire()

    (tmp_path / "leases.sqlite").unlink()
    lease.acquire()


@OF_A_FILE
def test_a_lease_does_not_outlive_the_table_of_leases(local_lake: Warehouse, tmp_path: Path) -> None:
    """A new table counts its tokens from one again: the next holder's must not be taken for ours."""
    completions = local_lake.application("reviews").completions
    fill(local_lake, "ab")
    ours = completions.lease(RELEASE_ID, holder="ours")
    ours.acquire()
    (tmp_path / "leases.sqlite").unlink()
    with Warehouse.attach(sqlite_location(tmp_path), threads=1) as other:
        theirs = other.application("reviews").completions.lease(RELEASE_ID, holder="theirs")
        theirs.acquire()

        assert theirs.token == ours.token
        with pytest.raises(LeaseHeld, match="'theirs'"):
            completions.append(ours, [completion("a")])
        assert other.application("reviews").completions.append(theirs, [completion("a")]) == 1


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Port of something that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        taken: list[socket.socket] = []
        ended = threading.Event()
        listening.settimeout(0.1)

        def take() -> None:
            while not ended.is_set():
                try:
                    taken.append(listening.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            ended.set()
            thread.join()
            for connection in taken:
                connection.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_catalog_that_stays_silent_has_a_deadline(
    tmp_path: Path, silent_server: int, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    """A firewall that swallows answers, a stopped server: the run would wait for ever, and say nothing."""
    monkeypatch.setitem(POSTGRES_DEADLINES, "connect_timeout", 2)
    dsn = f"host=127.0.0.1 port={silent_server} dbname=lake user=somebody"
    location = LakeLocation(f"postgres:{dsn}", str(tmp_path / "data"), "production")

    with pytest.raises(TransientError, match="does not answer"):
        Warehouse.attach(location, threads=1, read_only=read_only)


@pytest.mark.parametrize("dsn", ["{dsn}", "postgresql:///postgres?user=postgres&host={folder}"])
def test_a_connection_gives_up_on_a_machine_that_is_gone(postgres_dsn: str, dsn: str) -> None:
    """The kernel waits two hours for one that was unplugged; what a team states itself stays."""
    folder = postgres_dsn.rpartition("host=")[2]
    address = with_deadline(dsn.format(dsn=f"{postgres_dsn} keepalives_idle=7", folder=folder))

    with closing(psycopg2.connect(address)) as connection:
        used = connection.get_dsn_parameters()

    stated = {name: str(value) for name, value in POSTGRES_DEADLINES.items() if name != "keepalives_idle"}
    assert {name: used[name] for name in stated} == stated
    assert used["keepalives_idle"] == ("7" if "keepalives_idle=7" in address else "20")


def test_a_server_that_was_restarted_is_connected_to_again(postgres_dsn: str) -> None:
    """A run of hours would otherwise end at the first lease after a restart of a second."""
    coordinator = PostgresCoordinator(f"{postgres_dsn} application_name=restarted", "restarted")

    def restart(server: PostgresCoordinator) -> None:
        with server.transaction("restart") as statements:
            statements.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'restarted'"
            )

    def cut_off(server: PostgresCoordinator) -> None:
        with coordinator.transaction("one") as statements:
            restart(server)
            statements.run("SELECT 1")

    with closing(coordinator), closing(PostgresCoordinator(postgres_dsn, "server")) as server:
        assert coordinator.now() > 0
        restart(server)

        assert coordinator.now() > 0
        with pytest.raises(TransientError, match="does not answer"):
            cut_off(server)
