"""The Parquet files of a lake in an object store, on a real S3 server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llm_platform.errors import PlatformError, StorageError
from llm_platform.warehouse.lake import LakeLocation, S3Access, Warehouse
from llm_platform.warehouse.object_store import with_keys
from llm_platform.warehouse.removal import remove_lake
from llm_platform_tests.servers.buckets import bucket_named, pod_identity
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, fill


@pytest.fixture
def bucket() -> Iterator[tuple[S3Access, object]]:
    """How to reach an empty bucket named `lake`, and a client for it."""
    with bucket_named("lake") as found:
        yield found


def test_a_lake_keeps_its_files_in_a_bucket(bucket: tuple[S3Access, object], tmp_path: Path) -> None:
    """The cluster's form: the same store, with files that no machine's disk holds."""
    access, client = bucket
    location = LakeLocation(f"sqlite:{tmp_path / 'lake.sqlite'}", "s3://lake/production/", s3=access)

    with Warehouse.attach(location) as lake:
        fill(lake, "abc")
        answer_all(lake)
    with Warehouse.attach(location, read_only=True) as lake:
        assert lake.application("reviews").completions.counts(RELEASE_ID) == {"valid": 3}

    keys = [item["Key"] for item in client.list_objects_v2(Bucket="lake")["Contents"]]  # type: ignore[attr-defined]
    assert all(key.startswith("production/reviews/") for key in keys)
    client.delete_object(Bucket="lake", Key=keys[0])  # type: ignore[attr-defined]
    with Warehouse.attach(location, read_only=True) as lake:
        files = next(lake.application("reviews").audit.findings())
    assert (files.broken, files.first) == (1, keys[0].rpartition("/")[2])
    assert "s3cret" not in repr(location)
    with (
        Warehouse.attach(replace(location, s3=replace(access, endpoint="127.0.0.1:1"))) as lake,
        pytest.raises(PlatformError) as caught,
    ):
        fill(lake, "d")
    assert "s3cret" not in str(caught.value)


def test_a_lake_that_is_taken_away_leaves_no_version_of_a_file(tmp_path: Path) -> None:
    """A bucket that keeps versions hides what is deleted in it, and shows it to whoever asks for it by its version."""
    with bucket_named("lake", versioned=True) as (access, client):
        here, beside = (
            LakeLocation(f"sqlite:{tmp_path / name}.sqlite", f"s3://lake/{name}/", s3=access) for name in ("a", "ab")
        )
        for location in (here, beside):
            with Warehouse.attach(location) as lake:
                fill(lake, "abc")

        remove_lake(here)

        left = client.list_object_versions(Bucket="lake")
        kept = [one["Key"] for one in left["Versions"]]
        assert [key for key in kept if not key.startswith("ab/")] == left.get("DeleteMarkers", []) == []
        assert kept


def test_without_a_key_a_lake_is_written_with_the_identity_of_the_pod(
    bucket: tuple[S3Access, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Static keys in a cluster are what leaks; a cloud gives each pod its own, for an hour."""
    access, client = bucket
    location = LakeLocation(
        f"sqlite:{tmp_path / 'lake.sqlite'}", "s3://lake/of_a_pod/", s3=replace(access, key_id="", secret="")
    )
    with pod_identity(monkeypatch, tmp_path) as asked, Warehouse.attach(location) as lake:
        fill(lake, "abc")
        answer_all(lake)

    keys = [item["Key"] for item in client.list_objects_v2(Bucket="lake")["Contents"]]  # type: ignore[attr-defined]
    assert any(key.startswith("of_a_pod/reviews/") for key in keys)
    assert asked() > 0


def test_requests_of_our_own_are_signed_with_the_identity_of_the_pod(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They were signed with no key at all: where pods have one of their cloud, nothing could be forgotten."""
    with pod_identity(monkeypatch, tmp_path):
        found = with_keys(S3Access(region="eu-central-1"))
        assert (found.key_id, found.secret, found.session_token) == ("pod", "s3cret", "t")
        assert with_keys(replace(found, key_id="own")).key_id == "own"

    with pytest.raises(StorageError, match="no keys for it, and no identity"):
        with_keys(S3Access())
