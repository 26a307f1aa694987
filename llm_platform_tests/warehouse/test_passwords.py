"""Passwords come from files, as Secrets are mounted, and get no further than to libpq."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from llm_platform.application.source import TableRef
from llm_platform.errors import StorageError
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform.warehouse.passwords import resolved, with_password_file, without_password_file
from llm_platform.warehouse.reading import reading_statements
from llm_platform.workbench.instance import dagster_home
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, fill

LAKE_PASSWORD = "l4ke:\\ 'pass"
CRM_PASSWORD = "crm-pass"


@dataclass(frozen=True)
class Guarded:
    """A database whose roles have to give a password."""

    lake: str
    crm: str
    folder: Path

    def secret(self, name: str, password: str) -> Path:
        """A file as a Secret volume has it for a user that is not root: readable for its group, ended by a new line."""
        path = self.folder / name
        path.write_text(f"{password}\n", encoding="utf-8")
        path.chmod(0o640)
        return path


@pytest.fixture(scope="module")
def guarded(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    suffix = uuid.uuid4().hex[:8]
    database, lake, crm = f"guarded_{suffix}", f"lake_{suffix}", f"crm_{suffix}"
    with closing(psycopg2.connect(postgres_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {lake} LOGIN PASSWORD %s", [LAKE_PASSWORD])
            cursor.execute(f"CREATE ROLE {crm} LOGIN PASSWORD %s", [CRM_PASSWORD])
            cursor.execute(f"CREATE DATABASE {database} OWNER {lake}")
            cursor.execute("SHOW hba_file")
            rules = Path(cursor.fetchall()[0][0])
            before = rules.read_text(encoding="utf-8")
            rules.write_text(f"local {database} {lake},{crm} scram-sha-256\n{before}", encoding="utf-8")
            cursor.execute("SELECT pg_reload_conf()")
    base = postgres_dsn.replace("dbname=postgres", f"dbname={database}")
    with closing(psycopg2.connect(base)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.tickets (id text primary key, body text)")
        cursor.execute("INSERT INTO public.tickets VALUES ('1', 'the printer is on fire')")
        cursor.execute(f"GRANT SELECT ON public.tickets TO {crm}")
    as_role = base.replace("user=postgres", "user={}")
    yield Guarded(as_role.format(lake), as_role.format(crm), tmp_path_factory.mktemp("secrets"))
    rules.write_text(before, encoding="utf-8")


def test_two_roles_take_their_passwords_from_files_that_a_group_may_read(guarded: Guarded, tmp_path: Path) -> None:
    """libpq passes over such files in silence, and one PGPASSWORD cannot serve two roles."""
    mine = with_password_file(guarded.lake, guarded.secret("lake", LAKE_PASSWORD))
    theirs = with_password_file(guarded.crm, guarded.secret("crm", CRM_PASSWORD))
    location = LakeLocation(f"postgres:{mine}", str(tmp_path / "data"), "production")

    with Warehouse.attach(location, sources={"crm": f"postgres:{theirs}"}) as lake:
        fill(lake, "ab")
        answer_all(lake)
        assert lake.application("reviews").completions.counts(RELEASE_ID) == {"valid": 2}
        assert lake.sources.count(TableRef(warehouse="crm", table="tickets")) == 1

    assert LAKE_PASSWORD not in repr(location)
    assert "password_file" not in reading_statements(location)


def test_a_wrong_password_is_refused_without_being_said(guarded: Guarded, tmp_path: Path) -> None:
    """Errors are shown in Dagster's pages."""
    catalog = f"postgres:{with_password_file(guarded.lake, guarded.secret('wrong', 'not-the-password'))}"

    with pytest.raises(StorageError, match="does not accept this user or its password") as caught:
        Warehouse.attach(LakeLocation(catalog, str(tmp_path / "data"), "p")).close()

    assert "not-the-password" not in str(caught.value)


def test_a_password_in_the_environment_is_not_taken_for_that_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has just made a backup with `pg_dump` has one, and libpq takes it first: the lake was said to be down."""
    (tmp_path / "password").write_text(LAKE_PASSWORD)
    dsn = with_password_file("host=db", tmp_path / "password")

    monkeypatch.setenv("PGPASSWORD", "that-of-pg-dump")
    with pytest.raises(StorageError, match="Unset it") as caught:
        resolved(dsn)
    assert "that-of-pg-dump" not in str(caught.value)

    monkeypatch.setenv("PGPASSWORD", LAKE_PASSWORD)
    assert "passfile=" in resolved(dsn)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param("\n", "holds no password", id="empty"),
        pytest.param("one\ntwo\n", "several lines", id="two-lines"),
    ],
)
def test_a_password_file_that_holds_none_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    """A Secret with another key, or none, is the commonest mistake of a first deployment."""
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)

    with pytest.raises(StorageError, match=said) as caught:
        resolved(with_password_file("dbname=lake", path))

    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dsn", ["dbname=lake host=db", "postgresql://lake@db:5432/lake", "postgresql://db/lake?a=b"])
def test_a_connection_string_names_its_file_and_libpq_gets_a_private_one(dsn: str, tmp_path: Path) -> None:
    """Words and addresses are both in use, and paths have spaces and quotes in them."""
    path = tmp_path / "it's a path"
    path.write_text("secret")
    path.chmod(0o644)

    named = with_password_file(dsn, path)
    private = Path(resolved(named).partition("passfile=")[2].strip("'"))

    assert without_password_file(named) == (dsn, path)
    assert without_password_file(dsn) == (dsn, None)
    assert "secret" not in resolved(named)
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert private.read_text() == "*:*:*:*:secret\n"


def test_dagsters_history_is_kept_with_a_password_that_changes_while_it_runs(guarded: Guarded, tmp_path: Path) -> None:
    """A password is exchanged every month; a daemon that read it once fails a month later, at night."""
    words = dict(word.split("=", 1) for word in guarded.lake.split())
    address = f"postgresql://{words['user']}@localhost:5432/{words['dbname']}?host={words['host']}"
    file = guarded.secret("dagster", LAKE_PASSWORD)
    settings = Settings(state=tmp_path, namespace="test", dagster_storage=address, dagster_storage_password_file=file)

    home = dagster_home(settings)
    assert LAKE_PASSWORD not in (home / "dagster.yaml").read_text()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0
        assert instance.run_monitoring_settings["enabled"]
        with closing(psycopg2.connect(guarded.lake, password=LAKE_PASSWORD)) as connection, connection:
            connection.cursor().execute(f"ALTER ROLE {words['user']} PASSWORD 'another'")
        file.write_text("another")
        try:
            with dg.DagsterInstance.from_ref(instance.get_ref()) as again:
                assert again.get_runs_count() == 0
            assert instance.get_runs_count() == 0
        finally:
            with closing(psycopg2.connect(guarded.lake, password="another")) as connection, connection:
                connection.cursor().execute(f"ALTER ROLE {words['user']} PASSWORD %s", [LAKE_PASSWORD])
