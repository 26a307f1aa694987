"""Whether an endpoint is alive, and how it speaks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable
from llm_platform.nim.discovery import detect_dialect, find_metrics, probe, replicas, verify_dialect
from llm_platform.nim.http import EndpointClient
from llm_platform.records import Dialect
from llm_platform_tests.servers.faults import Status
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer

READY_1 = {"object": "health.response", "message": "Service is ready."}
READY_2 = {"object": "health.response", "message": "ready", "status": "ready"}
TOKEN = {"choices": [{"text": "1"}], "usage": {"completion_tokens": 1}}


@dataclass
class Canned:
    """An endpoint that has these documents: path → (status, body)."""

    documents: Mapping[str, tuple[int, Any]]
    posted: list[dict[str, Any]] = field(default_factory=list)

    def get(self, url: str) -> tuple[int, bytes]:
        return self._reply(url)

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        self.posted.append(payload)
        return self._reply(url)

    def _reply(self, url: str) -> tuple[int, bytes]:
        status, body = self.documents.get("/" + url.split("/", 3)[3], (404, {"detail": "Not Found"}))
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


def test_real_endpoint_is_probed_with_one_token() -> None:
    """A green health check proves nothing about the engine behind it."""
    with ScriptedServer() as server, EndpointClient() as client:
        found = probe(f"{server.url}/v1", MODEL, client)
        probes = server.counts.probes

    assert probes == 1
    assert (found.base_url, found.dialect, found.metrics_path) == (server.url, "vllm", "/metrics")


def test_dead_engine_behind_a_green_health_check_is_found() -> None:
    """NIM 1.12 kept answering 'ready' while every request failed with 500."""
    dead = Canned({"/v1/health/ready": (200, READY_2), "/v1/completions": (500, {"error": {}})})

    with pytest.raises(EndpointUnavailable, match="generated none"):
        probe("http://e", "m", dead)


@pytest.mark.parametrize(
    ("documents", "error", "said"),
    [
        pytest.param({"/v1/health/ready": (503, {})}, EndpointUnavailable, "not ready", id="loading"),
        pytest.param({"/v1/completions": (404, {})}, EndpointMismatch, "does not serve 'm'", id="other-model"),
        pytest.param({"/v1/completions": (200, b"<html>")}, EndpointUnavailable, "generated none", id="something-else"),
        pytest.param(
            {"/v1/completions": (200, {"usage": {"completion_tokens": 0}})}, EndpointUnavailable, "none", id="no-token"
        ),
    ],
)
def test_endpoint_that_cannot_answer_says_why(
    documents: Mapping[str, tuple[int, Any]], error: type[Exception], said: str
) -> None:
    """'Connection problem' sends people to the wrong place."""
    with pytest.raises(error, match=said):
        probe("http://e", "m", Canned(documents))


@pytest.mark.parametrize(
    ("documents", "dialect"),
    [
        pytest.param({"/v1/health/ready": (200, READY_1)}, "nim-1.x", id="health-1.x"),
        pytest.param({"/v1/health/ready": (200, READY_2)}, "nim-2.x", id="health-2.x"),
        pytest.param({"/v1/metrics": (200, b"# x\nnum_requests_running 0\n")}, "nim-1.x", id="metrics-1.x"),
        pytest.param(
            {"/v1/health/ready": (200, READY_2), "/v1/metrics": (200, b"# x\nsglang:num_queue_reqs 0\n")},
            "nim-2.x-sglang",
            id="sglang-image",
        ),
        pytest.param({"/metrics": (200, b"# x\nvllm:num_requests_running 0\n")}, "vllm", id="bare-vllm"),
        pytest.param({}, "hosted", id="nothing-known"),
    ],
)
def test_dialect_is_told_by_what_the_endpoint_says(documents: Mapping[str, tuple[int, Any]], dialect: str) -> None:
    """The lock file names the dialect; discovery verifies it."""
    assert detect_dialect("http://e", Canned(documents)) == dialect


@pytest.mark.parametrize(
    ("declared", "documents", "contradicted"),
    [
        pytest.param("nim-2.x", {"/v1/health/ready": (200, READY_1)}, True, id="older-line-than-declared"),
        pytest.param("nim-1.x", {"/v1/health/ready": (200, READY_2)}, True, id="newer-line-than-declared"),
        pytest.param("nim-2.x", {"/v1/metrics": (200, b"# x\nsglang:token_usage 0\n")}, True, id="other-engine"),
        pytest.param("nim-2.x", {"/metrics": (200, b"# x\nvllm:num_requests_running 0\n")}, False, id="bare-vllm"),
        pytest.param("nim-1.x", {}, False, id="says-nothing"),
    ],
)
def test_declared_dialect_is_held_against_the_endpoint(
    declared: Dialect, documents: Mapping[str, tuple[int, Any]], contradicted: bool
) -> None:
    """An upgrade of the image would otherwise turn constrained answers into free text, with HTTP 200."""
    if contradicted:
        with pytest.raises(EndpointMismatch, match=f"the lock file says {declared!r}"):
            verify_dialect("http://e", declared, Canned(documents))
    else:
        verify_dialect("http://e", declared, Canned(documents))


def test_metrics_that_cannot_be_read_are_no_metrics() -> None:
    """Following numbers that are not there would leave the limit where it started."""
    assert find_metrics("http://e", Canned({"/v1/metrics": (200, b"unknown_engine_requests 1\n")})) is None


def test_nobody_listening_is_unavailable() -> None:
    """The message must name the address, since that is what is wrong most of the time."""
    with (
        EndpointClient(timeout_seconds=2) as client,
        pytest.raises(EndpointUnavailable, match=r"http://127\.0\.0\.1:1/"),
    ):
        client.get("http://127.0.0.1:1/v1/models")


def test_redirects_are_not_followed() -> None:
    """A login page answers 200 after a redirect."""
    with (
        ScriptedServer(script=lambda seen: Status(302, headers={"Location": "http://login/"})) as server,
        EndpointClient() as client,
    ):
        status, _ = client.post(f"{server.url}/v1/completions", {"prompt": "1"})

    assert status == 302


@pytest.mark.parametrize(
    ("url", "found"),
    [
        pytest.param("http://127.0.0.1:8000/v1", ("http://127.0.0.1:8000",), id="address"),
        pytest.param("http://[::1]:8000", ("http://[::1]:8000",), id="ipv6"),
        pytest.param("http://127.0.0.1", ("http://127.0.0.1:80",), id="default-port"),
        pytest.param("https://nim.example/v1/", ("https://nim.example",), id="https-keeps-its-name"),
    ],
)
def test_replicas_are_the_addresses_of_a_name(url: str, found: tuple[str, ...]) -> None:
    """A headless service lists its pods as address records; each is an endpoint with a limit of its own."""
    assert replicas(url) == found


def test_name_without_an_address_is_unavailable() -> None:
    """While a deployment starts, its service has no pods yet."""
    with pytest.raises(EndpointUnavailable, match=r"'nobody\.invalid' has no address"):
        replicas("http://nobody.invalid:8000")
