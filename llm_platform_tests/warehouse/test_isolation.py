"""A branch sees production's answers and cannot touch them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from llm_platform.errors import StorageError
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.warehouse.builders import (
    RELEASE_ID,
    answer_all,
    completion,
    event,
    fill,
    release,
)
from llm_platform_tests.warehouse.conftest import postgres_location, sqlite_location


@pytest.fixture
def production(location: LakeLocation) -> LakeLocation:
    """A lake with two documents, answered, promoted and published."""
    with Warehouse.attach(location) as lake:
        store = lake.application("reviews")
        fill(lake, "ab")
        store.releases.put(release())
        answer_all(lake)
        store.rollout.append(event("in production"), expected_previous=None)
        store.published.publish(RELEASE_ID, 1)
    return location


@pytest.fixture
def branch(production: LakeLocation, tmp_path: Path) -> Iterator[Warehouse]:
    """An empty namespace of its own that has production attached."""
    own = sqlite_location(tmp_path, "branch")
    if production.kind == "postgres":
        own = LakeLocation(production.catalog, own.data_path, f"{production.schema}_branch")
    with Warehouse.attach(own, upstream=production) as lake:
        yield lake


def test_a_branch_pays_for_nothing_that_production_has(branch: Warehouse) -> None:
    """An unchanged application on a branch sends nothing; a new document, or another release, is asked for."""
    fill(branch, "abc")
    completions = branch.application("reviews").completions

    assert completions.missing(RELEASE_ID).column("document_id").to_pylist() == ["c"]
    assert completions.missing_count("release-2") == 3
    assert completions.of_release(RELEASE_ID).num_rows == 2
    assert completions.usage(RELEASE_ID).prompt_tokens == 20


def test_a_branch_stores_only_what_production_lacks(branch: Warehouse) -> None:
    """The commit looks upstream again: an answer is stored in one place."""
    fill(branch, "abc")
    completions = branch.application("reviews").completions

    with completions.lease(RELEASE_ID, holder="branch") as lease:
        stored = completions.append(lease, [completion("a"), completion("c")])

    assert stored == 1
    assert completions.of_release(RELEASE_ID).column("document_id").to_pylist() == ["a", "b", "c"]
    assert branch.frame("reviews", "completions").num_rows == 1


def test_a_branch_publishes_with_productions_answers_and_champion(branch: Warehouse) -> None:
    """The whole graph runs on a branch without a model."""
    fill(branch, "ab")
    store = branch.application("reviews")
    champion = store.rollout.champion()
    assert champion is not None

    store.published.publish(champion.release_id, 1)

    assert champion == event("in production")
    assert store.published.table(1).column("answer").to_pylist() == ["HAPPY", "HAPPY"]
    assert store.releases.get(release().release_id) == release()
    assert store.published.explain("a", 1)["completion"]["lake"] == "upstream"


def test_a_promotion_on_a_branch_replaces_productions_champion_there_only(
    branch: Warehouse, production: LakeLocation
) -> None:
    """Trying a promotion must not move production."""
    rollout = branch.application("reviews").rollout

    rollout.append(event("on the branch", release_id="release-2"), expected_previous="in production")

    assert rollout.champion() == event("on the branch", release_id="release-2")
    with Warehouse.attach(production, read_only=True) as lake:
        assert lake.application("reviews").rollout.champion() == event("in production")


def test_a_branch_with_an_upstream_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A mistyped production catalog must not silently mean paying for everything again."""
    with pytest.raises(StorageError, match="no lake at"):
        Warehouse.attach(sqlite_location(tmp_path, "branch"), upstream=sqlite_location(tmp_path, "production"))


def test_postgres_itself_refuses_a_branch_role_that_writes_to_production(postgres_dsn: str, tmp_path: Path) -> None:
    """Attaching read-only is our promise; that the role may only SELECT is the database's."""
    production = postgres_location(postgres_dsn, tmp_path)
    with Warehouse.attach(production) as lake:
        fill(lake, "ab")
        answer_all(lake)
    role, schema = f"{production.schema}_reader", production.schema
    administrator = psycopg2.connect(postgres_dsn)
    with administrator, administrator.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN")
        cursor.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
        cursor.execute(f"CREATE SCHEMA {schema}_branch AUTHORIZATION {role}")
        cursor.execute(f"CREATE SCHEMA {schema}_branch_leases AUTHORIZATION {role}")
    administrator.close()
    as_reader = LakeLocation(production.catalog.replace("user=postgres", f"user={role}"), production.data_path, schema)
    own = LakeLocation(as_reader.catalog, str(tmp_path / "branch_data"), f"{schema}_branch")

    with (
        pytest.raises(StorageError, match="permission denied") as caught,
        Warehouse.attach(as_reader) as lake,
    ):
        fill(lake, "abc")
    assert "text of" not in f"{caught.value} {caught.value.__cause__}"
    with Warehouse.attach(own, upstream=as_reader) as branch:
        fill(branch, "abc")
        assert answer_all(branch) == 1
    with Warehouse.attach(production, read_only=True) as lake:
        assert lake.application("reviews").documents.counts() == {"sendable": 2}
        assert lake.frame("reviews", "completions").num_rows == 2
