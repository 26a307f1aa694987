"""The Parquet files of a lake in an object store, on a real S3 server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llm_platform.errors import PlatformError
from llm_platform.warehouse.lake import LakeLocation, S3Access, Warehouse
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
