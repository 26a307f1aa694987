"""The bucket keeps the promise of a branch, too: its identity reads production's files and cannot write them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from llm_platform.errors import PlatformError
from llm_platform.nim.engine_process import free_port
from llm_platform.settings.settings import CHECKOUT
from llm_platform.warehouse.lake import LakeLocation, S3Access, Warehouse
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, fill

POLICY = (CHECKOUT / "deploy" / "branch" / "policy.json").read_text(encoding="utf-8")
NAMES = {"BUCKET": "lake", "PREFIX": "llm", "UPSTREAM": "production", "BRANCH": "branch_42"}
SETTING_UP = 7
"""Calls before moto asks who is who: to make the bucket, the two identities, their rights and their keys."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[S3Access, S3Access]]:
    """How production and a branch reach one bucket, each with an identity of its own."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(SETTING_UP)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        where = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
        root = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
        boto3.client("s3", **where, **root).create_bucket(Bucket="lake")
        iam = boto3.client("iam", **where, **root)
        text = POLICY
        for name, value in NAMES.items():
            text = text.replace(name, value)
        whole = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        keys = []
        for user, policy in (("production", whole), ("branch", text)):
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="lake", PolicyDocument=policy)
            keys.append(iam.create_access_key(UserName=user)["AccessKey"])
        base = S3Access(region="us-east-1", endpoint=f"127.0.0.1:{port}", url_style="path", use_ssl=False)
        accesses = [replace(base, key_id=one["AccessKeyId"], secret=one["SecretAccessKey"]) for one in keys]
        yield accesses[0], accesses[1]
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_the_identity_of_a_branch_reads_productions_files_and_cannot_write_them(
    store: tuple[S3Access, S3Access], tmp_path: Path
) -> None:
    """The database guards the catalog; whoever has it and the bucket's keys could still exchange a file."""
    of_production, of_branch = store
    production = LakeLocation(f"sqlite:{tmp_path / 'p' / 'c.sqlite'}", "s3://lake/llm/production/", s3=of_production)
    branch = LakeLocation(f"sqlite:{tmp_path / 'b' / 'c.sqlite'}", "s3://lake/llm/branch_42/", s3=of_branch)
    with Warehouse.attach(production) as lake:
        fill(lake, "ab")
        answer_all(lake)

    with Warehouse.attach(branch, upstream=replace(production, s3=of_branch)) as lake:
        fill(lake, "abc")
        assert lake.application("reviews").completions.counts(RELEASE_ID) == {"valid": 2}
        answer_all(lake)
        assert lake.application("reviews").completions.counts(RELEASE_ID) == {"valid": 3}

    with Warehouse.attach(replace(production, s3=of_branch)) as lake, pytest.raises(PlatformError):
        fill(lake, "abcd")
    with Warehouse.attach(production, read_only=True) as lake:
        assert lake.application("reviews").completions.counts(RELEASE_ID) == {"valid": 2}
