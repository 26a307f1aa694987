# ruff: noqa: E501 - statements and manifests stand on one line
"""What is asked of the platform from outside, and what has to be true of it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import duckdb

from llm_platform_tests.deployments.cluster.commands import KEPT, NAMESPACE, NODE, kubectl, step, wait
from llm_platform_tests.deployments.cluster.surroundings import BUCKET, PASSWORDS
from llm_platform_tests.team import right_answer


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


def launch(job: str) -> str:
    """A run of a job, as somebody at the page asks for it."""
    place = {"repositoryName": "__repository__", "repositoryLocationName": "llm_platform", "jobName": job}
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


def answered() -> int:
    """Answers that the endpoint has given to documents."""
    return sum(asked()["answered"].values())


def in_flight(before: dict[str, int]) -> dict[str, int]:
    """Document → requests that the endpoint has got and had not answered before."""
    return {key: count - before.get(key, 0) for key, count in asked()["asked"].items() if count > before.get(key, 0)}


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
        f"{sum(allowed.values())} in flight when a pod or the catalog was killed; wrong: {wrong}"
    )
    rows = published()
    if wrong or len(found) != documents or any(rows[key] != right_answer(int(key)) for key in rows):
        raise SystemExit("Counts or rows are not what they have to be.")


def ended() -> None:
    """Wait until nothing runs."""
    wait(
        "nothing runs",
        lambda: not [one for one in runs().values() if one in ("STARTED", "STARTING", "QUEUED", "NOT_STARTED")],
        240,
    )
