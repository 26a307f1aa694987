# ruff: noqa: E501 - statements and manifests stand on one line
"""The scenes, in the order in which they are played; each says what it has seen and ends the test where it is wrong."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import psycopg2.errors
import yaml

from llm_platform.nim.manifests.capacity import GpuPool, pool_objects
from llm_platform.settings.settings import CHECKOUT
from llm_platform_tests.deployments.chart.rendering import CHART, merged
from llm_platform_tests.deployments.cluster.commands import (
    CLUSTER,
    KEPT,
    NAMESPACE,
    NODE,
    ROOT,
    STATE,
    apply,
    helm,
    kubectl,
    run,
    step,
    wait,
)
from llm_platform_tests.deployments.cluster.observing import (
    answered,
    asked,
    ended,
    exact,
    in_flight,
    launch,
    pages,
    published,
    ready,
    runs,
)
from llm_platform_tests.deployments.cluster.surroundings import (
    BUCKET,
    BUCKETS,
    DOCUMENTS,
    KEYS_OF_THE_STORE,
    REGISTRY,
    SCRIPTED_VLLM,
    bucket,
    claim,
    insert,
    secrets,
    volume,
)

PODS = {"code-location", "webserver", "daemon"}
MODELS = "nim-production"
GPU = "nvidia.com/gpu"
PROGRAM = (sys.executable, "-c", "from llm_platform.cli.main import main; main()")


def first_run_loses_its_pod() -> dict[str, int]:
    """The pod of the sensor's first run is killed once a third is paid; the run is begun anew and all is published.

    Returns:
        Document → requests that were in flight then, which may have been asked again.
    """
    wait(
        "the sensor's run is a Job",
        lambda: "dagster-run-" in kubectl("-n", NAMESPACE, "get", "jobs", "-o", "name"),
        300,
    )
    wait("a third is answered", lambda: answered() > DOCUMENTS * 2 // 3, 300, pause=0.2)
    (pod, *_) = kubectl(
        "-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=run_worker", "-o", "name",
        "--field-selector=status.phase=Running",
    ).split()  # fmt: skip
    before = asked()["answered"]
    kubectl("-n", NAMESPACE, "delete", pod, "--force", "--grace-period=0")
    time.sleep(1)
    lost = in_flight(before)
    step(f"{pod} is killed, {answered()} of {DOCUMENTS * 2} answers paid")
    wait("Dagster has seen it", lambda: "FAILURE" in runs().values(), 180)
    wait("all pods are ready", lambda: ready(PODS), 420)
    wait(f"{DOCUMENTS} rows are published", lambda: len(published()) == DOCUMENTS, 420)
    exact(DOCUMENTS, lost)
    return lost


def a_row_is_followed() -> None:
    """From the table upstream to readers."""
    insert([1001])
    step("a row is inserted upstream")
    wait("the row is published", lambda: published().get("1001") == "HAPPY", 300)


def backfill_in_jobs() -> None:
    """Forty new documents in eight buckets are eight runs, each a Job; the everyday run then asks nothing."""
    with sensor_off("tickets_source_changed"):
        insert(range(3000, 3040))
        before = answered()
        said = kubectl(
            "-n",
            NAMESPACE,
            "exec",
            "deploy/llm-platform-daemon",
            "--",
            "llm-platform",
            "backfill",
            "tickets",
            "--no-follow",
        )
        step(said.strip().splitlines()[-1])
        wait(f"{BUCKETS} Jobs have ended well", lambda: succeeded_jobs("tickets_backfill") == BUCKETS, 600)
        paid = answered() - before
        run_id = launch("tickets")
        wait("the everyday run has ended", lambda: runs()[run_id] == "SUCCESS", 300)
    step(
        f"{BUCKETS} Jobs were answered {paid} times for 40 documents x 2 variants, the run afterwards {answered() - before - paid} times"
    )
    if (paid, answered() - before) != (80, 80):
        raise SystemExit("The backfill paid for something twice, or left something out.")


def succeeded_jobs(job: str) -> int:
    found = json.loads(kubectl("-n", NAMESPACE, "get", "jobs", "-l", f"dagster/job={job}", "-o", "json"))["items"]
    return sum(one["status"].get("succeeded", 0) for one in found)


@contextmanager
def sensor_off(name: str) -> Iterator[None]:
    """A sensor that does not look for the length of a `with` block."""
    selector = {"repositoryName": "__repository__", "repositoryLocationName": "llm_platform"}
    found = pages(
        "query($r: RepositorySelector!){ sensorsOrError(repositorySelector:$r){ ... on Sensors { results { name sensorState { id } } } } }",
        r=selector,
    )["sensorsOrError"]["results"]
    (state,) = (one["sensorState"]["id"] for one in found if one["name"] == name)
    pages("mutation($i: String!){ stopSensor(id:$i){ __typename } }", i=state)
    try:
        yield
    finally:
        pages(
            "mutation($s: SensorSelector!){ startSensor(sensorSelector:$s){ __typename } }",
            s={**selector, "sensorName": name},
        )


def catalog_lost_under_load(lost: dict[str, int]) -> None:
    """Postgres, which holds catalog and history, crashes and comes back while a run answers."""
    with_answers_under_way(range(4000, 4040))
    before = asked()["answered"]
    postgres = [
        "/usr/lib/postgresql/15/bin/pg_ctl",
        "-D",
        str(ROOT / "pg" / "data"),
        "-m",
        "immediate",
        "-w",
        "-l",
        str(ROOT / "pg" / "log"),
        "restart",
    ]
    run("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *postgres, cwd="/")
    step("the catalog's server was killed and is back")
    for key, count in in_flight(before).items():
        lost[key] = lost.get(key, 0) + count
    total = DOCUMENTS + 81
    wait(f"{total} rows are published", lambda: len(published()) == total, 420)
    exact(total, lost)


def with_answers_under_way(numbers: range) -> None:
    """New documents, and a run that has begun to answer them."""
    ended()
    insert(numbers)
    before = answered()
    wait("the next run answers", lambda: answered() > before + 5, 240, pause=0.2)


def upgrade_under_way(chart: str, given: dict[str, Any], lost: dict[str, int]) -> None:
    """An upgrade and a rollback while a run answers: the run ends well, and nothing is asked twice."""
    with_answers_under_way(range(2000, 2040))
    settings = {**given["settings"], "run_priority": "5"}
    helm(NAMESPACE).upgrade(chart, "llm-platform", {**given, "settings": settings}, timeout=420, plain_http=True)
    step("the chart is upgraded")
    helm(NAMESPACE).rollback("llm-platform", version=1, timeout=420)
    step("and rolled back")
    total = DOCUMENTS + 121
    wait(f"{total} rows are published", lambda: len(published()) == total, 300)
    exact(total, lost)
    wait("all pods are ready again", lambda: ready(PODS), 300)


def training_in_a_pod() -> None:
    """A LoRA adapter of a model of two layers, trained in a pod that a run starts and listens to through Pipes."""
    from llm_platform_tests.finetuning.tiny import tiny_base

    base = tiny_base(KEPT / "state" / "bases" / "scripted")
    for path in (base.parent, base, *base.iterdir()):
        os.chown(path, 10001, 10001)
    ended()
    run_id = launch("tickets_finetune")
    named = wait("the run has started a pod that trains", training_pods, 300)
    wait("the run has ended", lambda: runs()[run_id] in ("SUCCESS", "FAILURE"), 600)
    (manifest,) = (KEPT / "state").glob("**/adapters/*/manifest.json")
    found = json.loads(manifest.read_text())
    step(
        f"{named[0]} has trained adapter {manifest.parent.name}, {found['metrics']['steps']} steps; its run: {runs()[run_id]}"
    )
    if runs()[run_id] != "SUCCESS":
        raise SystemExit("The run that trained did not end well.")


def training_pods() -> list[str]:
    return kubectl("-n", NAMESPACE, "get", "pods", "-l", "llm-platform/adapter=mood", "-o", "name").split()


def production_takes_the_gpus_of_a_branch() -> None:
    """On nodes that exist in the API only: the shares that `nim pool` makes, kept by the real scheduler."""
    apply(*pool_objects(GpuPool(8, 5, development_namespaces=("nim-development",))))
    nodes = subprocess.Popen(
        [sys.executable, str(CLUSTER / "fake_nodes.py"), f"https://{NODE}:6443", str(STATE / "pki" / "ca.crt"), "token-admin", "gpu-a=4", "gpu-b=4"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait(
            "two nodes have 4 GPUs each",
            lambda: kubectl("get", "nodes", "-l", "fake=true", "-o", "name").count("\n") == 2,
            30,
        )
        apply(gpu_pods("branch", "nim-development", 4, "llm-platform-development"))
        wait("a branch has its 3 of 8 GPUs", lambda: running("nim-development") == 3, 60, pause=0.5)
        refused = kubectl(
            "-n",
            "nim-development",
            "get",
            "events",
            "--field-selector=reason=FailedCreate",
            "-o",
            "jsonpath={.items[*].message}",
        )
        apply(gpu_pods("production", MODELS, 8, "llm-platform-production"))
        wait("production has all 8", lambda: running(MODELS) == 8, 60, pause=0.5)
        apply(gpu_pods("cheat", "nim-development", 1, "llm-platform-production"))
        wait("a branch that calls itself production is refused", lambda: "exceeded quota: llm-platform-gpus-of-others" in kubectl(
            "-n", "nim-development", "get", "events", "--field-selector=reason=FailedCreate", "-o", "jsonpath={.items[*].message}"), 30)  # fmt: skip
        step(f"the branch has {running('nim-development')} left")
        if running("nim-development") or "exceeded quota: llm-platform-gpus" not in refused:
            raise SystemExit("The shares of the GPUs were not kept.")
        kubectl("-n", "nim-development", "delete", "deployments", "--all", "--wait=false")
        kubectl("-n", MODELS, "delete", "deployments", "--all", "--wait=false")
        wait("the GPUs are free again", lambda: not running(MODELS) + running("nim-development"), 60)
    finally:
        nodes.terminate()
        nodes.wait()
        kubectl("delete", "nodes", "-l", "fake=true")


def a_branch_stands_beside(chart: str, given: dict[str, Any]) -> None:
    """A branch made by what `branch up --cluster` writes: it reads production, can write nothing of it, and goes whole."""
    folder, place = KEPT / "branch", "llm-platform-branch-42"
    store = given["data"]
    settings = {
        "STATE": KEPT / "admin", "SAMPLES": "false", "CATALOG": given["catalog"]["address"], "DATA_ROOT": store["root"],
        "DAGSTER_STORAGE": given["dagsterStorage"]["address"], "S3_REGION": store["region"], "S3_ENDPOINT": store["endpoint"],
        "S3_URL_STYLE": store["urlStyle"], "S3_USE_SSL": "false",
    }  # fmt: skip
    own = os.environ | {f"LLM_PLATFORM_{name}": str(value) for name, value in settings.items()}
    run(*PROGRAM, "branch", "up", "branch_42", "--from", "production", "--days", "14", "--cluster", folder, env=own)
    administrator = os.environ | {
        "CATALOG": f"host={NODE} user=postgres password=secret dbname=lake", "KUBECONFIG": str(STATE / "admin.kubeconfig"),
        "AWS_ENDPOINT_URL": f"http://{store['endpoint']}", "AWS_DEFAULT_REGION": store["region"], **KEYS_OF_THE_STORE,
    }  # fmt: skip
    run(folder / "up.sh", env=administrator, cwd=CHECKOUT)
    apply(*shared_with_a_branch(place))
    values = yaml.safe_load((folder / "values.yaml").read_text())
    profile = yaml.safe_load((CHART / "profiles" / "branch.yaml").read_text())
    whole = merged(merged(merged(given, profile), values), {"training": {"enabled": False}})
    helm(place).install(chart, "branch-42", whole, timeout=420, plain_http=True)
    step("a branch is installed beside production; its migration has read production as its own role")
    password = base64.b64decode(
        kubectl("-n", place, "get", "secret", "catalog-password", "-o", "jsonpath={.data.password}")
    ).decode()
    with closing(psycopg2.connect(host=NODE, dbname="lake", user="branch_42", password=password)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM production.ducklake_snapshot")
        try:
            cursor.execute("DELETE FROM production.ducklake_snapshot")
        except psycopg2.errors.InsufficientPrivilege as refused:
            step(f"it may not write production: {str(refused).strip()}")
        else:
            raise SystemExit("The role of the branch can write production's catalog.")
    account = f"--as=system:serviceaccount:{place}:branch-42-launcher"
    for where, wanted in ((place, "yes"), (NAMESPACE, "no")):
        said = subprocess.run(
            ["kubectl", "--kubeconfig", STATE / "admin.kubeconfig", "-n", where, "auth", "can-i", "create", "jobs", account],
            capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip
        step(f"it may launch runs in {where}: {said}")
        if said != wanted:
            raise SystemExit("The branch's account has other rights than it should have.")
    branches = (*PROGRAM, "branch")
    listed = run(*branches, "list", "--cluster", folder, env=own).replace("│", " ").splitlines()
    (row,) = (line.split() for line in listed if "branch_42" in line)
    step(f"branch list: {' '.join(row)}")
    if row[:2] != ["branch_42", "production"] or row[-1] != place:
        raise SystemExit("The branch is not listed.")
    step(run(*branches, "down", "branch_42", "--yes", "--cluster", folder, env=own | administrator).strip())
    versions = bucket().list_object_versions(Bucket=BUCKET, Prefix="llm/branch_42/")
    with closing(psycopg2.connect(host=NODE, user="postgres", password="secret", dbname="lake")) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'branch_42%' UNION ALL SELECT datname FROM pg_database "
            "WHERE datname LIKE '%branch_42' UNION ALL SELECT rolname FROM pg_roles WHERE rolname = 'branch_42'"
        )
        left = [
            *cursor.fetchall(),
            *kubectl("get", "namespace", place, "--ignore-not-found", "-o", "name").split(),
            *([folder] if folder.exists() else []),
            *(one for kind in ("Versions", "DeleteMarkers") for one in versions.get(kind, [])),
        ]
    step(f"the branch is down; left of it: {left}")
    if left:
        raise SystemExit("Something of the branch is left.")


def shared_with_a_branch(place: str) -> list[dict[str, Any]]:
    """What the team puts into the namespace of a branch itself: Secrets of sources and of the store, and a volume."""
    return [volume("branch-state"), claim("branch-state", place), *secrets(place)]


def gpu_pods(name: str, namespace: str, replicas: int, priority_class: str) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "c", "image": "x/y@sha256:" + "0" * 64, "resources": {"limits": {GPU: "1"}}}
    spec = {
        "priorityClassName": priority_class, "terminationGracePeriodSeconds": 1, "nodeSelector": {"fake": "true"},
        "tolerations": [{"key": GPU, "operator": "Exists"}], "containers": [container],
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }  # fmt: skip


def running(namespace: str) -> int:
    return kubectl("-n", namespace, "get", "pods", "--field-selector=status.phase=Running", "-o", "name").count("\n")


def gpus_of_the_node(count: int) -> None:
    """GPUs that the node says it has, so that pods which ask for some are placed on it."""
    for field in ("capacity", "allocatable"):
        patch = json.dumps([{"op": "add", "path": f"/status/{field}/nvidia.com~1gpu", "value": str(count)}])
        kubectl("patch", "node", "node1", "--subresource=status", "--type=json", f"--patch={patch}")


def a_model_is_brought_up(digest: str) -> None:
    """`nim up` of a lock entry of vLLM's dialect, from an image whose `vllm serve` is the scripted model."""
    entry = {
        "mode": "kubernetes", "dialect": "vllm", "service": "served", "served_name": "scripted-model", "model": "test/model",
        "licence": "none", "context_length": 4096, "slots": 4,
        "image": {"repository": f"{REGISTRY}/{SCRIPTED_VLLM}", "tag": "1", "digest": digest},
    }  # fmt: skip
    (KEPT / "served.lock.yaml").write_text(yaml.safe_dump({"models": {"served": entry}}))
    apply(volume("models"))
    given = {
        "STATE": KEPT / "nim", "SAMPLES": "false", "MODELS_LOCK": KEPT / "served.lock.yaml",
        "NIM_KUBECONFIG": STATE / "admin.kubeconfig", "NIM_CLUSTER_NAMESPACE": MODELS, "NIM_STORAGE_CLASS": "manual",
        "NIM_CLAIM_SIZE": "1Gi", "NIM_PULL_SECRET": "", "NIM_NGC_SECRET": "", "NIM_CPU": "100m", "NIM_MEMORY": "200Mi",
        "NIM_SHARED_MEMORY": "64Mi", "NIM_PRIORITY_CLASS": "llm-platform-production", "NIM_DEADLINE_MINUTES": "5",
    }  # fmt: skip
    environment = (
        os.environ | {"COLUMNS": "250"} | {f"LLM_PLATFORM_{name}": str(value) for name, value in given.items()}
    )
    for command in ("up", "down"):
        said = run(*PROGRAM, "nim", command, "served", env=environment)
        step(f"nim {command}: {said.strip().splitlines()[-1].strip()}")
    left = kubectl("-n", MODELS, "get", "deployments,services", "-o", "name")
    if left.strip():
        raise SystemExit(f"nim down has left {left}")
