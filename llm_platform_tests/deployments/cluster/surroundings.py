# ruff: noqa: E501 - statements and manifests stand on one line
"""What is there before the chart: images, databases, a bucket, secrets, and the values of the team."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import helm_python
import psycopg2
import yaml

from llm_platform.settings.settings import CHECKOUT
from llm_platform_tests.deployments.chart.rendering import CHART
from llm_platform_tests.deployments.cluster.commands import CLUSTER, KEPT, NAMESPACE, NODE, apply, run
from llm_platform_tests.team import right_answer
from llm_platform_tests.tiny_model import ticket

REGISTRY = "127.0.0.1:5055"
ENDPOINT_PORT = 8123
DOCUMENTS = 60
BUCKETS = 8
SLOTS = 4
BUCKET = "lake"
PLATFORM, TRAINING, SCRIPTED_VLLM = "llm-platform-tickets", "llm-platform-finetuning", "scripted-vllm"
PASSWORDS = {"lake": "l4ke pass", "dagster": "d4gster:pass", "reader": "r3ader"}
KEYS_OF_THE_STORE = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret"}
LOCK = {
    "models": {
        "scripted": {
            "mode": "external",
            "dialect": "nim-2.x",
            "served_name": "scripted-model",
            "base_urls": [f"http://{NODE}:{ENDPOINT_PORT}"],
            "model": "test/model",
            "licence": "none",
            "context_length": 4096,
            "slots": SLOTS,
        }
    }
}
SPECIFICATION = {
    "name": "tickets",
    "title": "Mood of tickets",
    "task": "classify",
    "labels": ["HAPPY", "SAD"],
    "source": {"warehouse": "crm", "table": "tickets", "key": "ticket", "text": "body", "attributes": ["team"]},
    "documents": {"buckets": BUCKETS},
    "references": {
        "warehouse": "crm", "table": "known", "key": "ticket", "answer": "mood", "seed": 3, "train_share": 0.5,
    },
    "variants": {
        "clear": {"prompt": "clear", "model": "scripted", "sampling": {"max_tokens": 8}},
        "vague": {"prompt": "vague", "model": "scripted", "sampling": {"max_tokens": 8}},
    },
    "evaluation": {
        "gates": {"accuracy": {"minimum": 0.75, "reason": "half of the tickets are of each mood"}},
    },
    "finetuning": {
        "mood": {"prompt": "mood", "model": "scripted", "rank": 4, "epochs": 1, "batch_size": 8, "max_minutes": 5},
    },
}  # fmt: skip
PROMPTS = {
    name: f"---\napi: chat\nanswers: {{HAPPY: HAPPY, SAD: SAD}}\n---\n# user\n\n{text}\n"
    for name, text in {
        "clear": "Say clearly whether this is HAPPY or SAD: {{ text }}", "vague": "HAPPY or SAD? {{ text }}",
    }.items()
} | {"mood": "---\napi: completion\nanswers: {HAPPY: good, SAD: bad}\n---\n{{ text }} Mood :\n"}  # fmt: skip
VLLM = """#!/bin/sh
PYTHONPATH=/opt/tests exec python3 -m llm_platform_tests.deployments.cluster.endpoint 0.0.0.0 8000 /tmp/asked.json 0
"""
"""What `vllm serve` is in an image that is like vLLM's."""


def pushed(archive: Path, name: str, *steps: str) -> str:
    """Digest of an image in the registry of the cluster: that of an archive, with more on top.

    Args:
        archive: An OCI archive.
        name: Of the repository.
        steps: Of buildah, where `$c` is the container.
    """
    script = f"""
set -e
. {CLUSTER}/containers_env.sh
c=$(buildah from $POL oci-archive:{archive})
{chr(10).join(steps)}
buildah commit --quiet $POL $c localhost/{name}:1
buildah rm $c > /dev/null
buildah push $POL --tls-verify=false --digestfile {KEPT}/digest localhost/{name}:1 docker://{REGISTRY}/{name}:1
"""
    run("bash", "-c", script)
    return (KEPT / "digest").read_text().strip()


def platform_image(archive: Path) -> str:
    """Digest of the platform's image with the application in it."""
    folder = KEPT / "applications" / "tickets"
    (folder / "prompts").mkdir(parents=True)
    (folder / "application.yaml").write_text(yaml.safe_dump(SPECIFICATION, sort_keys=False))
    for name, text in PROMPTS.items():
        (folder / "prompts" / f"{name}.md").write_text(text)
    return pushed(archive, PLATFORM, f"buildah copy --chmod 755 $c {folder.parent} /applications")


def vllm_image(archive: Path) -> str:
    """Digest of an image whose `vllm serve` is the scripted model."""
    program = KEPT / "vllm"
    program.write_text(VLLM)
    return pushed(
        archive, SCRIPTED_VLLM, f"buildah copy $c {CHECKOUT}/llm_platform_tests /opt/tests/llm_platform_tests",
        f"buildah copy --chmod 755 $c {program} /usr/local/bin/vllm",
    )  # fmt: skip


def chart() -> str:
    """Reference of the chart in the registry of the cluster."""
    archive = helm_python.package(str(CHART), destination=str(KEPT))
    helm_python.push(archive, f"oci://{REGISTRY}/charts", plain_http=True)
    return f"oci://{REGISTRY}/charts/llm-platform"


def databases() -> None:
    with closing(psycopg2.connect(host=NODE, user="postgres", password="secret", dbname="postgres")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        for role, password in PASSWORDS.items():
            cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", [password])
        for database, owner in {"lake": "lake", "dagster": "dagster", "crm": "postgres"}.items():
            cursor.execute(f"CREATE DATABASE {database} OWNER {owner}")
    with crm() as cursor:
        cursor.execute("CREATE TABLE tickets (ticket text primary key, body text, team text)")
        cursor.execute("CREATE TABLE known (ticket text primary key, mood text)")
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    insert(range(DOCUMENTS))
    with crm() as cursor:
        cursor.executemany("INSERT INTO known VALUES (%s, %s)", [(str(i), right_answer(i)) for i in range(DOCUMENTS)])
    bucket().create_bucket(Bucket=BUCKET)
    bucket().put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})


def insert(numbers: Iterable[int]) -> None:
    """New rows upstream."""
    rows = [(str(number), ticket(number), ("blue", "red")[number % 2]) for number in numbers]
    with crm() as cursor:
        cursor.executemany("INSERT INTO tickets VALUES (%s, %s, %s)", rows)


class crm:  # noqa: N801 - reads like the function that it is
    """A cursor of the upstream database, committed at the end."""

    def __enter__(self) -> Any:
        self._connection = psycopg2.connect(host=NODE, user="postgres", password="secret", dbname="crm")
        return self._connection.cursor()

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()


def bucket() -> Any:
    return boto3.client(
        "s3", endpoint_url=f"http://{NODE}:5000", region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="s3cret",
    )  # fmt: skip


def volume(name: str) -> dict[str, Any]:
    """A volume in a folder of the node, which our pods own."""
    folder = KEPT / name
    folder.mkdir(exist_ok=True)
    os.chown(folder, 10001, 10001)
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "manual",
            "hostPath": {"path": str(folder)},
        },
    }  # fmt: skip


def claim(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "state", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "manual", "volumeName": name,
            "resources": {"requests": {"storage": "5Gi"}},
        },
    }  # fmt: skip


def secrets(namespace: str) -> list[dict[str, Any]]:
    """Passwords of the databases, and the key of the bucket."""
    texts = {f"{name}-password": {"password": password + "\n"} for name, password in PASSWORDS.items()}
    texts["store"] = {"key-id": "key", "secret": "s3cret"}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}
        for name, data in texts.items()
    ]


def before_the_chart() -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apply(namespace, volume("state"), claim("state", NAMESPACE), *secrets(NAMESPACE))


def values(digest: str, training: str | None) -> dict[str, Any]:
    """What the team says.

    Args:
        digest: Of the platform's image.
        training: Of the image that trains; None where nothing is trained.
    """
    base = yaml.safe_load((CHART / "profiles" / "single-node.yaml").read_text(encoding="utf-8"))
    small = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"memory": "3Gi"}}
    return {
        **base,
        "namespace": "production",
        "image": {"repository": f"{REGISTRY}/{PLATFORM}", "digest": digest},
        "catalog": {
            "address": f"postgres:host={NODE} dbname=lake user=lake", "passwordSecret": {"name": "lake-password"},
        },
        "dagsterStorage": {
            "address": f"postgresql://dagster@{NODE}:5432/dagster", "passwordSecret": {"name": "dagster-password"},
        },
        "data": {
            "root": f"s3://{BUCKET}/llm", "region": "us-east-1", "endpoint": f"{NODE}:5000", "urlStyle": "path",
            "useSsl": False, "keySecret": {"name": "store"},
        },
        "warehouses": {
            "crm": {
                "address": f"postgres:host={NODE} dbname=crm user=reader", "passwordSecret": {"name": "reader-password"},
            }
        },
        "models": {"lock": yaml.safe_dump(LOCK)},
        "state": {"claim": "state", "accessMode": "ReadWriteMany"},
        "settings": {"sensor_seconds": "5", "outage_seconds": "20", "base_models": "/state/bases"},
        "training": {"enabled": training is not None, "image": f"{REGISTRY}/{TRAINING}@{training}" if training else ""},
        "runs": {
            "maxConcurrent": 4, "retries": 3, "pollSeconds": 5, "startSeconds": 300, "resources": small,
            "poolLimits": {"scripted": 4},
        },
        "webserver": {"resources": small}, "daemon": {"resources": small}, "codeLocation": {"resources": small},
        "network": {
            "kubernetesApi": {"cidrs": [f"{NODE}/32", "10.96.0.1/32"], "port": 6443},
            "egress": {
                "postgres": {"to": [{"ipBlock": {"cidr": f"{NODE}/32"}}], "port": 5432},
                "objectStore": {"to": [{"ipBlock": {"cidr": f"{NODE}/32"}}], "port": 5000},
                "models": {"to": [{"ipBlock": {"cidr": f"{NODE}/32"}}], "port": ENDPOINT_PORT},
            },
        },
    }  # fmt: skip
