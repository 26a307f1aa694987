"""What makes and ends a branch in a cluster, as it is written for an administrator."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from llm_platform.cli.main import app
from llm_platform.errors import SpecificationError
from llm_platform.operations.release.cluster_branches import Production, cluster_branches, write_cluster_branch
from llm_platform.warehouse.object_store import S3Access
from llm_platform_tests.deployments.chart.rendering import named, render
from llm_platform_tests.servers.buckets import bucket_named

ENDS = datetime(2027, 1, 1, tzinfo=UTC)
PRODUCTION = Production(
    "production",
    "postgres:host=db.example.org dbname=lake user=lake password='s3cret word'",
    "postgresql://dagster:s3cret@db.example.org:5432/dagster",
    "s3://company-lake/llm",
    S3Access(region="eu-central-1"),
    models="nim-production",
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    assert write_cluster_branch(tmp_path / "b", "branch_42", PRODUCTION, expires_at=ENDS) == "llm-platform-branch-42"
    return tmp_path / "b"


def of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def test_the_chart_takes_the_values_of_a_branch_over_those_of_production(written: Path) -> None:
    """What a person types for each branch is typed wrongly once, and then a branch writes production."""
    objects = render("branch", of(written / "values.yaml"))

    data = named(objects, "ConfigMap", "llm-platform-environment")["data"]
    assert data["LLM_PLATFORM_NAMESPACE"] == "branch_42"
    assert data["LLM_PLATFORM_UPSTREAM"] == "production"
    assert "user=branch_42" in data["LLM_PLATFORM_CATALOG"]
    assert data["LLM_PLATFORM_UPSTREAM_CATALOG"] == data["LLM_PLATFORM_CATALOG"]
    assert data["LLM_PLATFORM_DAGSTER_STORAGE"] == "postgresql://branch_42@db.example.org:5432/dagster_branch_42"
    assert data["LLM_PLATFORM_SENSORS"] == "false"


def test_no_file_of_a_branch_holds_a_password(written: Path) -> None:
    """They are kept in a repository or with a job's artifacts."""
    assert {path.name for path in written.iterdir()} == {"namespace.yaml", "values.yaml", "up.sh", "down.sh"}
    for path in written.iterdir():
        assert "s3cret" not in path.read_text(encoding="utf-8"), path


def test_its_namespace_is_restricted_and_says_when_it_ends(written: Path) -> None:
    """Without a date nobody dares to take a branch down."""
    namespace = of(written / "namespace.yaml")

    kubernetes_validate.validate(namespace, "1.34", strict=True)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["metadata"]["annotations"]["llm-platform/expires-at"] == ENDS.isoformat()


@pytest.mark.parametrize("script", ["up.sh", "down.sh"])
def test_its_scripts_are_programs_that_name_the_branch_alone(written: Path, script: str) -> None:
    """What is dropped is the branch's, never production's."""
    path = written / script

    checked = subprocess.run(["bash", "-n", path], capture_output=True, text=True, timeout=10, check=False)
    assert checked.returncode == 0, checked.stderr
    assert path.stat().st_mode & 0o111
    marks = ("DROP", " rm ", "list-object-versions")
    dropped = [line for line in path.read_text(encoding="utf-8").splitlines() if any(mark in line for mark in marks)]
    assert all("branch_42" in line for line in dropped)
    assert bool(dropped) is (script == "down.sh")


@pytest.mark.slow
def test_its_end_leaves_no_version_of_a_file(written: Path, tmp_path: Path) -> None:
    """Where a bucket keeps versions, whoever may list them read the documents of a branch for ever."""
    if shutil.which("aws") is None:
        pytest.skip("aws is not on the path: pip install awscli, in an environment of its own")
    for name in ("kubectl", "psql"):
        (tmp_path / name).write_text("#!/bin/sh\ncat > /dev/null\n")
        (tmp_path / name).chmod(0o755)
    with bucket_named("company-lake", versioned=True) as (access, client):
        for key in ("llm/branch_42/one", "llm/branch_42/two", "llm/branch_42/one", "llm/branch_421/one"):
            client.put_object(Bucket="company-lake", Key=key, Body=b"a document")
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "CATALOG": "dbname=lake", "AWS_DEFAULT_REGION": access.region,
            "AWS_ENDPOINT_URL": f"http://{access.endpoint}", "AWS_ACCESS_KEY_ID": access.key_id,
            "AWS_SECRET_ACCESS_KEY": access.secret,
        }  # fmt: skip

        done = subprocess.run(
            [written / "down.sh"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

        assert done.returncode == 0, done.stderr
        left = client.list_object_versions(Bucket="company-lake")
        assert [one["Key"] for one in left["Versions"]] == ["llm/branch_421/one"]
        assert "DeleteMarkers" not in left


def test_branches_are_listed_by_their_files_and_ended_by_their_script(written: Path) -> None:
    """Who made a branch has left; what lists and ends those of one machine has to know these, too."""
    write_cluster_branch(written.parent / "other", "branch_43", PRODUCTION, expires_at=None)

    found = cluster_branches(written.parent)
    listed = CliRunner().invoke(app, ["branch", "list", "--cluster", str(written)])

    assert [(one.name, one.upstream, one.place) for one in found] == [
        ("branch_42", "production", "llm-platform-branch-42"),
        ("branch_43", "production", "llm-platform-branch-43"),
    ]
    assert [one.expires_at for one in found] == [ENDS, None]
    assert [one.is_expired(ENDS) for one in found] == [True, False]
    assert "llm-platform-branch-42" in listed.output
    assert "2027-01-01" in listed.output
    assert "branch-43" not in listed.output


def test_a_branch_whose_end_was_cut_off_can_be_ended_again(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that go first leave a role and a database that nothing names any more."""
    monkeypatch.delenv("CATALOG", raising=False)
    down = ["branch", "down", "--yes", "--cluster", str(written.parent)]

    failed = CliRunner().invoke(app, [*down, "branch_42"])

    assert "'branch_42' is not ended" in str(failed.exception)
    assert "CATALOG: the database of the catalog" in str(failed.exception)
    assert [one.name for one in cluster_branches(written)] == ["branch_42"]
    (written / "down.sh").write_text("#!/bin/sh\n")
    assert CliRunner().invoke(app, [*down, "branch_42"]).output == "Namespace branch_42 is gone.\n"
    assert not written.exists()
    refused = CliRunner().invoke(app, [*down, "branch_42"])
    assert "There are: none." in str(refused.exception)


def test_a_folder_that_no_branch_was_written_to_is_told(tmp_path: Path) -> None:
    """Any other manifest of a namespace is somebody's own."""
    (tmp_path / "namespace.yaml").write_text("kind: Namespace\nmetadata: {name: theirs}\n", encoding="utf-8")

    with pytest.raises(SpecificationError, match="cannot be read as what 'branch up --cluster' writes"):
        cluster_branches(tmp_path)


def test_a_deployment_of_one_machine_is_told_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite in a folder cannot be read by a pod."""
    monkeypatch.setenv("LLM_PLATFORM_STATE", str(tmp_path))
    monkeypatch.setenv("LLM_PLATFORM_DATA_ROOT", "s3://company-lake/llm")

    done = CliRunner().invoke(
        app, ["branch", "up", "branch_42", "--from", "production", "--cluster", str(tmp_path / "b")]
    )

    said = str(done.exception)
    assert "LLM_PLATFORM_CATALOG (postgres:…), LLM_PLATFORM_DAGSTER_STORAGE" in said
    assert "LLM_PLATFORM_DATA_ROOT" not in said
