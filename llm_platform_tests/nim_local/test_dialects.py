"""The embedded NIM speaks two dialects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from llm_platform.errors import EndpointMismatch
from llm_platform.nim.adapters import publish, served_adapters
from llm_platform.nim.dialects import form
from llm_platform.nim.discovery import probe, verify_dialect
from llm_platform.nim.http import EndpointClient
from llm_platform.nim.metrics import parse
from llm_platform.nim_local.config import EmbeddedConfig
from llm_platform.nim_local.dialects import FirstDialect
from llm_platform.nim_local.process import connect, stop
from llm_platform.nim_local.registration import server_folder
from llm_platform.records import Dialect

from .adapters import random_adapter
from .test_loading import ask, loading


@pytest.mark.parametrize("dialect", ["nim-1.x", pytest.param("nim-2.x", marks=pytest.mark.slow)])
def test_the_embedded_nim_is_understood_in_both_dialects(
    dialect: Literal["nim-1.x", "nim-2.x"], config: EmbeddedConfig, tmp_path: Path
) -> None:
    """One real endpoint, asked by the client's own forms: what is constrained, listed and counted is what was asked."""
    source = tmp_path / "peft"
    publish(random_adapter(tmp_path / "a", 1, layers=1), source, "a")
    served = EmbeddedConfig(**{**config.model_dump(), "dialect": dialect, "peft_source": source})
    other: Dialect = "nim-2.x" if dialect == "nim-1.x" else "nim-1.x"
    url = connect(served, state=tmp_path).base_url
    try:
        with EndpointClient() as client:
            found = probe(url, "a", client)
            assert (found.dialect, found.metrics_path) == (dialect, "/v1/metrics")
            with pytest.raises(EndpointMismatch):
                verify_dialect(url, other, client)
            assert served_adapters(url, client) == {"a": config.model_id}
            question = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
            texts = {}
            for asked in (dialect, other):
                _, body = client.post(f"{url}/v1/completions", {**question, **form(asked).choice([" Rome"])})
                texts[asked] = json.loads(body)["choices"][0]["text"]
            _, schema = client.post(
                f"{url}/v1/completions", {**question, **form(dialect).json_schema({"type": "null"})}
            )
            status, unknown = client.post(f"{url}/v1/completions", {"model": "x", "prompt": "1"})
            said = parse(client.get(f"{url}/v1/metrics")[1], dialect)
            release = json.loads(client.get(f"{url}/v1/version")[1])["release"]
    finally:
        stop(served, state=tmp_path)

    assert texts[dialect] == " Rome"
    assert texts[other].startswith(" Paris")
    assert json.loads(schema)["choices"][0]["text"] == "null"
    error = json.loads(unknown)
    assert (status, error if dialect == "nim-1.x" else error["error"]) == (
        404,
        {
            **({"object": "error"} if dialect == "nim-1.x" else {}),
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": "model",
            "code": 404,
        },
    )
    # The probe's token, two choices, one schema.
    assert (said.requests, said.failed in (None, 0.0)) == (4, True)
    assert said.time_to_first_token is not None
    assert said.inter_token is not None
    assert said.end_to_end is not None
    assert said.end_to_end.count == 4
    assert release.startswith(dialect[4])


def test_each_dialect_has_a_server_of_its_own(config: EmbeddedConfig, tmp_path: Path) -> None:
    """Two lock entries with one model, one of each dialect, must not replace each other's server at every use."""
    first = server_folder(tmp_path, config.model_id, "nim-1.x")

    assert first != server_folder(tmp_path, config.model_id)
    assert first.parent == server_folder(tmp_path, config.model_id).parent


def test_the_first_dialect_ignores_the_second_ones_fields_and_reads_its_own() -> None:
    """`nvext` first, since 1.14 also at the top level; 2.x's field is unknown to it."""
    fields = FirstDialect().fields

    assert fields({"nvext": {"guided_regex": "a+"}})["structured_outputs"] == {"regex": "a+"}
    assert fields({"guided_json": {"type": "null"}})["structured_outputs"] == {"json": {"type": "null"}}
    assert fields({"structured_outputs": {"regex": "a+"}})["structured_outputs"] is None
    assert fields({"nvext": "nonsense"})["structured_outputs"] is None
    assert fields([]) == []


def test_the_first_dialect_cannot_load_adapters_through_the_api(config: EmbeddedConfig) -> None:
    """A client that tries must get what a NIM 1.x answers: no such path."""
    older = EmbeddedConfig(**{**config.model_dump(), "dialect": "nim-1.x"})

    assert ask(loading(older), "POST", "/v1/load_lora_adapter", {}).json() == {"detail": "Not Found"}
    assert ask(loading(older), "GET", "/v1/health/live").json() == {
        "object": "health.response",
        "message": "Service is live.",
    }
    refused = ask(loading(older), "GET", "/v1/health/ready")
    assert (refused.status_code, refused.json()["object"]) == (503, "error")
