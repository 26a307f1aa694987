# ruff: noqa: E501 - statements and manifests stand on one line
"""`make test-cluster`: the chart installed, a row followed to its readers, a pod lost, an upgrade under way."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
import duckdb
import psycopg2
import yaml

from llm_platform_tests.deployments.chart.rendering import CHART

CLUSTER = Path(os.environ.get("CLUSTER", ""))
ROOT = Path(os.environ.get("CLUSTER_ROOT", "/tmp/kubernetes"))
STATE = ROOT / "cluster"
NETWORK = "kubetest"
NODE = "10.99.0.1"
ENDPOINT_PORT = 8123
DOCUMENTS = 60
NAMESPACE = "llm-platform"
BUCKET = "lake"
PASSWORDS = {"lake": "l4ke pass", "dagster": "d4gster:pass", "reader": "r3ader"}
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
            "slots": 4,
        }
    }
}
SPECIFICATION = {
    "name": "tickets",
    "title": "Mood of tickets",
    "task": "classify",
    "labels": ["HAPPY", "SAD"],
    "source": {"warehouse": "crm", "table": "tickets", "key": "ticket", "text": "body", "attributes": ["team"]},
    "references": {
        "warehouse": "crm", "table": "known", "key": "ticket", "answer": "mood", "seed": 3, "train_share": 0.3,
    },
    "variants": {
        "clear": {"prompt": "clear", "model": "scripted", "sampling": {"max_tokens": 8}},
        "vague": {"prompt": "vague", "model": "scripted", "sampling": {"max_tokens": 8}},
    },
    "evaluation": {
        "gates": {"accuracy": {"minimum": 0.6, "reason": "half of the tickets are of each mood"}},
    },
}  # fmt: skip
PROMPT = "---\napi: chat\nanswers: {{HAPPY: HAPPY, SAD: SAD}}\n---\n# user\n\n{}\n"
KEPT = ROOT / "test-cluster"
"""What the steps hand to each other, and the logs of what fails."""

say = print
started = time.monotonic()


def step(text: str) -> None:
    say(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)


def run(*command: str | Path, **options: Any) -> str:
    """Output of a program; its errors on failure."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))[:300]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None) -> str:
    return run("kubectl", "--kubeconfig", STATE / "admin.kubeconfig", *arguments, input=given)


def apply(*objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))


def look() -> None:
    """What there is, said when a step has failed."""
    with suppress(SystemExit):
        say(kubectl("-n", NAMESPACE, "get", "pods,jobs", "-o", "wide"))
        say(kubectl("-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp")[-3000:])
        for pod in kubectl("-n", NAMESPACE, "get", "pods", "-o", "name").split():
            with suppress(SystemExit):
                say(f"== {pod}\n" + kubectl("-n", NAMESPACE, "logs", pod, "--tail=25"))


def wait(what: str, holds: Callable[[], Any], seconds: float, pause: float = 2.0) -> Any:
    """What `holds` returns once that is true."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if found := holds():
            step(f"{what}: after {time.monotonic() - begun:.0f} s")
            return found
        time.sleep(pause)
    look()
    raise SystemExit(f"{what}: not within {seconds:.0f} s")


# --- what is there before the chart -----------------------------------------------------------------------------------


def image(archive: Path) -> tuple[str, str]:
    """(repository, digest) of the platform's image with the application in it, in the registry of the cluster."""
    applications = KEPT / "applications"
    (applications / "tickets" / "prompts").mkdir(parents=True, exist_ok=True)
    (applications / "tickets" / "application.yaml").write_text(yaml.safe_dump(SPECIFICATION, sort_keys=False))
    for name, text in {
        "clear": "Say clearly whether this is HAPPY or SAD: {{ text }}",
        "vague": "HAPPY or SAD? {{ text }}",
    }.items():
        (applications / "tickets" / "prompts" / f"{name}.md").write_text(PROMPT.format("") + text + "\n")
    script = f"""
set -e
. {CLUSTER}/containers_env.sh
c=$(buildah from $POL oci-archive:{archive})
buildah copy --chmod 755 $c {applications} /applications
buildah commit --quiet $POL $c localhost/llm-platform-tickets:1
buildah rm $c > /dev/null
buildah push $POL --tls-verify=false --digestfile {KEPT}/digest localhost/llm-platform-tickets:1 docker://127.0.0.1:5055/llm-platform-tickets:1
"""
    run("bash", "-c", script)
    return "127.0.0.1:5055/llm-platform-tickets", (KEPT / "digest").read_text().strip()


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
        cursor.execute(
            "INSERT INTO tickets SELECT i::text, 'DOC#'||i||'# the printer is on fire', "
            "CASE WHEN i %% 2 = 0 THEN 'blue' ELSE 'red' END FROM generate_series(0, %s) i",
            [DOCUMENTS - 1],
        )
        cursor.execute(
            "INSERT INTO known SELECT ticket, CASE WHEN ticket::int % 2 = 0 THEN 'SAD' ELSE 'HAPPY' END FROM tickets"
        )
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    store().create_bucket(Bucket=BUCKET)


class crm:  # noqa: N801 - reads like the function that it is
    """A cursor of the upstream database, committed at the end."""

    def __enter__(self) -> Any:
        self._connection = psycopg2.connect(host=NODE, user="postgres", password="secret", dbname="crm")
        return self._connection.cursor()

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._connection.commit()
        self._connection.close()


def store() -> Any:
    return boto3.client(
        "s3", endpoint_url=f"http://{NODE}:5000", region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="s3cret",
    )  # fmt: skip


def before_the_chart() -> None:
    folder = KEPT / "state"
    folder.mkdir(exist_ok=True)
    os.chown(folder, 10001, 10001)
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "state"},
            "spec": {
                "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "manual",
                "hostPath": {"path": str(folder)},
            },
        },
        {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "state", "namespace": NAMESPACE},
            "spec": {
                "accessModes": ["ReadWriteMany"], "storageClassName": "manual", "resources": {"requests": {"storage": "5Gi"}},
            },
        },
        *(
            {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-password", "namespace": NAMESPACE},
                "stringData": {"password": password + "\n"},
            }
            for name, password in PASSWORDS.items()
        ),
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store", "namespace": NAMESPACE},
            "stringData": {"key-id": "key", "secret": "s3cret"},
        },
    )  # fmt: skip


def values(repository: str, digest: str) -> dict[str, Any]:
    base = yaml.safe_load((CHART / "profiles" / "single-node.yaml").read_text(encoding="utf-8"))
    small = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"memory": "3Gi"}}
    return {
        **base,
        "namespace": "production",
        "image": {"repository": repository, "digest": digest},
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
        "settings": {"sensor_seconds": "5", "outage_seconds": "20"},
        "runs": {"maxConcurrent": 8, "retries": 3, "pollSeconds": 5, "startSeconds": 300, "resources": small},
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


# --- what is asked of it from outside ---------------------------------------------------------------------------------


def pages(query: str, **variables: Any) -> dict[str, Any]:
    address = kubectl("-n", NAMESPACE, "get", "service", "llm-platform-webserver", "-o", "jsonpath={.spec.clusterIP}")
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://{address}:3000/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)["data"]
        return found


def runs() -> dict[str, str]:
    """Run → its status, newest first."""
    found = pages("{ runsOrError { ... on Runs { results { runId status } } } }")["runsOrError"]["results"]
    return {one["runId"]: one["status"] for one in found}


def launch() -> str:
    place = {"repositoryName": "__repository__", "repositoryLocationName": "llm_platform", "jobName": "tickets"}
    mutation = (
        "mutation($p: ExecutionParams!){ launchRun(executionParams:$p){ __typename "
        "... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
    )
    answer = pages(mutation, p={"selector": place, "runConfigData": {}})["launchRun"]
    if "run" not in answer:
        raise SystemExit(f"Cannot launch: {answer}")
    return str(answer["run"]["runId"])


def published() -> dict[str, str]:
    """Key → answer of the published table, by a DuckDB that knows nothing of the platform."""
    lake = duckdb.connect()
    for name in ("ducklake", "postgres_scanner", "httpfs"):
        folder = Path(__import__(f"duckdb_extension_{name}").__path__[0])
        lake.execute(f"LOAD '{next(folder.rglob(f'{name}.duckdb_extension'))}'")
    lake.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID 'key', SECRET 's3cret', REGION 'us-east-1', ENDPOINT '{NODE}:5000', "
        "URL_STYLE 'path', USE_SSL false)"
    )
    address = f"ducklake:postgres:host={NODE} dbname=lake user=lake password=''{PASSWORDS['lake']}''"
    try:
        lake.execute(
            f"ATTACH '{address}' AS lake (DATA_PATH 's3://{BUCKET}/llm/production', METADATA_SCHEMA 'production', READ_ONLY)"
        )
        return dict(lake.execute("SELECT document_id, answer FROM lake.tickets.published_v1").fetchall())
    except duckdb.Error as error:
        if "does not exist" in str(error) or "DuckLake" in str(error):
            return {}
        raise
    finally:
        lake.close()


def asked() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((KEPT / "asked.json").read_text())
    return found


def right(number: int) -> str:
    return "HAPPY" if number % 2 else "SAD"


def ready(names: set[str]) -> bool:
    found = json.loads(kubectl("-n", NAMESPACE, "get", "deployments", "-o", "json"))["items"]
    up = {
        one["metadata"]["name"].removeprefix("llm-platform-")
        for one in found
        if one["status"].get("readyReplicas", 0) >= one["spec"]["replicas"]
        and one["status"].get("observedGeneration") == one["metadata"]["generation"]
        and one["status"].get("updatedReplicas") == one["spec"]["replicas"]
        and not one["status"].get("unavailableReplicas")
    }
    return names <= up


# --- the steps --------------------------------------------------------------------------------------------------------


def steps(archive: Path) -> None:
    import helm_python

    helm_python.disable_logging()
    repository, digest = image(archive)
    step(f"image {repository}@{digest} is in the registry")
    databases()
    before_the_chart()
    log = (KEPT / "endpoint.log").open("w")
    endpoint = subprocess.Popen(
        [sys.executable, "-m", "llm_platform_tests.deployments.cluster.endpoint", NODE, str(ENDPOINT_PORT),
         str(KEPT / "asked.json"), "1.5"],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        given = values(repository, digest)
        helm = helm_python.Config(kubeconfig_path=str(STATE / "admin.kubeconfig"), namespace=NAMESPACE)
        try:
            helm.install(str(CHART), "llm-platform", given, timeout=420)
        except helm_python.HelmError:
            look()
            raise
        step("the chart is installed; its migration has ended")
        wait(
            "the sensor's run is a Job",
            lambda: "dagster-run-" in kubectl("-n", NAMESPACE, "get", "jobs", "-o", "name"),
            300,
        )
        lost = kill_the_pod_of_a_run()
        wait("all pods are ready", lambda: ready({"code-location", "webserver", "daemon"}), 420)
        wait(f"{DOCUMENTS} rows are published", lambda: len(published()) == DOCUMENTS, 420)
        exact(DOCUMENTS, lost)

        with crm() as cursor:
            cursor.execute("INSERT INTO tickets VALUES ('1001', 'DOC#1001# the toner is empty', 'red')")
        step("a row is inserted upstream")
        wait("the row is published", lambda: published().get("1001") == right(1001), 300)
        exact(DOCUMENTS + 1, lost)

        idle()
        upgrade_under_way(helm, given, lost)
        step("done")
    finally:
        endpoint.terminate()
        endpoint.wait()


def exact(documents: int, lost: dict[str, int] | None = None) -> None:
    """Each document was answered once for each variant, but for what was in flight when a pod was killed.

    Args:
        documents: How many there are.
        lost: Document → requests that were in flight then; these may have been asked again.
    """
    found, allowed = asked()["answered"], lost or {}
    wrong = {key: count for key, count in found.items() if not 2 <= count <= 2 + allowed.get(key, 0)}
    step(
        f"the endpoint has answered {sum(found.values())} times for {documents} documents x 2 variants, "
        f"{sum(allowed.values())} in flight when the pod was killed; wrong: {wrong}"
    )
    rows = published()
    if wrong or len(found) != documents or any(rows[key] != right(int(key)) for key in rows):
        raise SystemExit("Counts or rows are not what they have to be.")


def idle() -> None:
    wait(
        "nothing runs",
        lambda: not [one for one in runs().values() if one in ("STARTED", "STARTING", "QUEUED", "NOT_STARTED")],
        240,
    )


def kill_the_pod_of_a_run() -> dict[str, int]:
    """The pod of the first run, killed once a third of its answers have been paid; returns what was in flight."""
    wait("a third is answered", lambda: sum(asked()["answered"].values()) > DOCUMENTS * 2 // 3, 300, pause=0.2)
    (pod, *_) = kubectl(
        "-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=run_worker", "-o", "name",
        "--field-selector=status.phase=Running",
    ).split()  # fmt: skip
    before = asked()["answered"]
    kubectl("-n", NAMESPACE, "delete", pod, "--force", "--grace-period=0")
    time.sleep(1)
    after = asked()["asked"]
    lost = {key: count - before.get(key, 0) for key, count in after.items() if count > before.get(key, 0)}
    step(f"{pod} is killed, {sum(asked()['answered'].values())} of {DOCUMENTS * 2} answers paid")
    wait("Dagster has seen it", lambda: "FAILURE" in runs().values(), 180)
    return lost


def upgrade_under_way(helm: Any, given: dict[str, Any], lost: dict[str, int]) -> None:
    """An upgrade and a rollback while a run answers: the run ends well, and nothing is asked twice."""
    with crm() as cursor:
        cursor.execute(
            "INSERT INTO tickets SELECT i::text, 'DOC#'||i||'# a new one', 'red' FROM generate_series(2000, 2039) i"
        )
    before = sum(asked()["answered"].values())
    wait("the next run answers", lambda: sum(asked()["answered"].values()) > before + 5, 240, pause=0.2)
    settings = {**given["settings"], "run_priority": "5"}
    helm.upgrade(str(CHART), "llm-platform", {**given, "settings": settings}, timeout=420)
    step("the chart is upgraded")
    helm.rollback("llm-platform", version=1, timeout=420)
    step("and rolled back")
    wait("101 rows are published", lambda: len(published()) == DOCUMENTS + 41, 300)
    exact(DOCUMENTS + 41, lost)
    wait("all pods are ready again", lambda: ready({"code-location", "webserver", "daemon"}), 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help="Already in the cluster's network.")
    parser.add_argument("--keep", action="store_true", help="Leave it up, to look at.")
    given = parser.parse_args()
    archive = Path(os.environ.get("ARCHIVE", ROOT / "platform.tar"))
    if not (CLUSTER / "cluster.py").is_file() or not archive.is_file():
        raise SystemExit(
            "skipped: no cluster to test on. Name the folder with cluster.py in CLUSTER, and the archive of the image in "
            f"ARCHIVE (make image ARCHIVE=…); found CLUSTER={str(CLUSTER)!r}, ARCHIVE={str(archive)!r}."
        )
    if given.inside:
        steps(archive)
        return
    # Nothing of an earlier try: objects, databases, journals.
    for folder in (STATE / "etcd", ROOT / "pg", KEPT):
        shutil.rmtree(folder, ignore_errors=True)
    KEPT.mkdir(parents=True)
    environment = {
        **os.environ, "ROOT12": os.environ.get("ROOT12", str(ROOT / "debs")), "BIN": os.environ.get("BIN", str(ROOT / "bin")),
        "STATE": str(STATE), "ROOT": str(ROOT), "TOOLS": os.environ.get("TOOLS", str(Path(sys.executable).parent)),
        "NS": NETWORK,
    }  # fmt: skip
    try:
        say(run(sys.executable, CLUSTER / "cluster.py", "up", env=environment))
        subprocess.run(["bash", str(CLUSTER / "services.sh"), "up"], env=environment, check=True, timeout=120)
        wait("the store answers", lambda: subprocess.run(
            ["nsenter", f"--net=/var/run/netns/{NETWORK}", "curl", "-s", "-m", "3", f"http://{NODE}:5000/"],
            capture_output=True, check=False).returncode == 0, 60)  # fmt: skip
        inside = ["nsenter", f"--net=/var/run/netns/{NETWORK}", sys.executable, "-m", __package__, "--inside"]
        raise SystemExit(subprocess.run(inside, env=environment, timeout=1500, check=False).returncode)
    finally:
        if not given.keep:
            subprocess.run(["bash", str(CLUSTER / "services.sh"), "down"], env=environment, check=False, timeout=120)
            say(run(sys.executable, CLUSTER / "cluster.py", "down", env=environment))


if __name__ == "__main__":
    with suppress(urllib.error.URLError):
        main()
