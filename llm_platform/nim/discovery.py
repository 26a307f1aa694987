"""Whether an endpoint is alive, and which dialect it speaks; the lock file names it, here it is verified.

Readiness may stay green while the engine behind it is dead, so alive means: ready, and one token generated just now.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Protocol
from urllib.parse import urlsplit

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.nim.dialects import METRICS_PATHS, form
from llm_platform.nim.metrics import read_metrics
from llm_platform.records import Dialect, Record
from llm_platform.settings.connection import endpoint_root


class Client(Protocol):
    """The two requests that discovery needs; `llm_platform.nim.http.EndpointClient` is one."""

    def get(self, url: str) -> tuple[int, bytes]:
        """Status and body."""

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body."""


class Probe(Record):
    """What one probe found.

    Attributes:
        ready: HTTP status of `/v1/health/ready`; 404 where there is no such path (a bare vLLM).
        latency_seconds: Time to one generated token, queueing included.
        metrics_path: Path of the Prometheus text, or None where there is none.
    """

    base_url: str
    dialect: Dialect
    ready: int
    latency_seconds: float
    metrics_path: str | None


def probe(base_url: str, served_name: str, client: Client) -> Probe:
    """Ask for one token.

    Raises:
        EndpointUnavailable: nothing answers, it is not ready, or it generates nothing.
        EndpointMismatch: it does not know the model.
    """
    root = endpoint_root(base_url)
    ready, body = client.get(f"{root}/v1/health/ready")
    if ready not in (200, 404):
        raise EndpointUnavailable(
            f"{root} is not ready: /v1/health/ready answered HTTP {ready}. Wait until it has loaded its model."
        )
    started = time.monotonic()
    _one_token(root, served_name, client)
    return Probe(
        base_url=root,
        dialect=detect_dialect(root, client, ready_body=body if ready == 200 else None),
        ready=ready,
        latency_seconds=time.monotonic() - started,
        metrics_path=find_metrics(root, client),
    )


def detect_dialect(base_url: str, client: Client, *, ready_body: bytes | None = None) -> Dialect:
    """The dialect an endpoint speaks: the line by its health body, the engine by its metric names.

    One that has neither is taken for hosted: it says nothing about itself.
    """
    root = endpoint_root(base_url)
    body = ready_body if ready_body is not None else client.get(f"{root}/v1/health/ready")[1]
    health = _json(body)
    if health.get("message") == "Service is ready.":
        return "nim-1.x"
    engine = _engine(root, client)
    if "status" in health:
        return engine if engine == "nim-2.x-sglang" else "nim-2.x"
    return engine


def verify_dialect(base_url: str, declared: Dialect, client: Client) -> Dialect:
    """The dialect that was found, when requests in the declared one are understood.

    A bare vLLM is as good as a NIM 2.x here: requests and metrics are the same. An endpoint that says nothing about
    itself cannot contradict.

    Raises:
        EndpointMismatch: structured output or metrics are another dialect's; answers would come unconstrained.
        EndpointUnavailable: nothing answers.
    """
    found = detect_dialect(base_url, client)
    said, heard = form(declared), form(found)
    if found != "hosted" and (said.structure, said.metrics) != (heard.structure, heard.metrics):
        raise EndpointMismatch(
            f"{base_url} speaks {found!r}, and the lock file says {declared!r}. Correct 'dialect' in the lock file: "
            "constraints in another dialect are ignored, and the text comes free."
        )
    return found


def _engine(root: str, client: Client) -> Dialect:
    for path in METRICS_PATHS:
        status, text = client.get(f"{root}{path}")
        if status != 200:
            continue
        if b"\nvllm:" in text:
            return "vllm"
        if b"\nsglang:" in text:
            return "nim-2.x-sglang"
        if b"\nnum_requests_running" in text:
            return "nim-1.x"
    return "hosted"


def find_metrics(base_url: str, client: Client) -> str | None:
    """The path on which an endpoint publishes metrics that we can read, or None."""
    root = endpoint_root(base_url)
    for path in METRICS_PATHS:
        status, text = client.get(f"{root}{path}")
        if status == 200 and read_metrics(text):
            return path
    return None


def replicas(base_url: str) -> tuple[str, ...]:
    """One address for each address record of the host name, for a service that balances nothing itself.

    A headless service in a cluster lists its pods so. With https the name is needed for the certificate, so it stays.

    Raises:
        EndpointUnavailable: the name has no address now.
    """
    parts = urlsplit(endpoint_root(base_url))
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme == "https":
        return (parts.geturl(),)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EndpointUnavailable(
            f"{host!r} has no address ({error.strerror}). Is the service there? That of a cluster has one inside it "
            "alone: from outside, kubectl port-forward, and the address 127.0.0.1."
        ) from error
    addresses = sorted({str(address[4][0]) for address in found})
    return tuple(f"http://{f'[{one}]' if ':' in one else one}:{port}" for one in addresses)


def _one_token(root: str, served_name: str, client: Client) -> None:
    # A text completion needs no chat template, so it works on base models too.
    payload = {"model": served_name, "prompt": "1", "max_tokens": 1, "temperature": 0}
    status, body = client.post(f"{root}/v1/completions", payload)
    if status == 404:
        raise EndpointMismatch(
            f"{root} does not serve {served_name!r} (HTTP 404). Compare 'served_name' in the lock file with /v1/models."
        )
    usage = _json(body).get("usage")
    if status != 200 or not isinstance(usage, dict) or not usage.get("completion_tokens"):
        raise EndpointUnavailable(
            f"{root} was asked for one token of {served_name!r} and generated none (HTTP {status}). "
            "The engine behind it may be dead while its health check is green: look at its log, restart it."
        )


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
