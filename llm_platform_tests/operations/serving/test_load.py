"""Measuring an endpoint with synthetic documents."""

from __future__ import annotations

import pytest

from llm_platform.errors import EndpointMismatch, EndpointUnavailable, SpecificationError
from llm_platform.operations.serving.load import Asked, Load, found, measure_load
from llm_platform.settings.connection import Connection
from llm_platform_tests.servers.faults import Status
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer

QUICK = Load(requests=300, words=40, shared_words=10, answer_tokens=5)


def test_rate_of_an_endpoint_is_found() -> None:
    """16 slots of 20 ms give 800 requests a second, no more, and the engine has to find out that there are 16."""
    with ScriptedServer(slots=16, latency_seconds=0.02) as server:
        figures = measure_load(found(server.url, None, Connection()), QUICK)

    assert figures.answered == server.counts.requests == 300
    assert server.counts.peak_in_flight >= 16
    assert 0 < figures.requests_per_second <= 900
    assert figures.words == 300 * 40
    assert figures.failed == {}
    assert figures.per_gpu_hour(figures.answered, 4) == pytest.approx(900 * figures.requests_per_second)


def test_documents_begin_alike_and_differ() -> None:
    """The shared part is what a prefix cache may save; equal documents would measure nothing else."""
    with ScriptedServer(keep_bodies=True) as server:
        measure_load(Asked((server.url,), MODEL, "vllm"), Load(requests=20, words=30, shared_words=20))
        bodies = server.bodies

    contents = {body.split(b'"content":"')[1] for body in bodies if b'"content":"' in body}
    assert len(contents) == 20
    assert len({content.split(b"\\n")[0] for content in contents}) == 1
    assert all(b'"ignore_eos":true' in body for body in bodies if b'"content":"' in body)


@pytest.mark.parametrize(
    "given",
    [{"requests": 0}, {"words": 10, "shared_words": 11}, {"answer_tokens": 0}],
    ids=lambda given: next(iter(given)),
)
def test_impossible_load_is_refused(given: dict[str, int]) -> None:
    """Before a request is sent, with the numbers in the message."""
    with pytest.raises(SpecificationError, match="cannot be sent"):
        Load(**given)


def test_endpoint_that_is_not_there_is_named() -> None:
    """The address is the first thing to look at."""
    with pytest.raises(EndpointUnavailable, match=r"127\.0\.0\.1:1/"):
        found("http://127.0.0.1:1", None, Connection())


def test_unknown_model_ends_the_measurement() -> None:
    """A 404 for every request is no figure of zero."""
    with (
        ScriptedServer(script=lambda _: Status(404, "The model does not exist.")) as server,
        pytest.raises(EndpointMismatch, match="model name"),
    ):
        measure_load(Asked((server.url,), "nobody", "vllm"), QUICK)
