"""Where the dialects differ on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from llm_platform.errors import EndpointMismatch
from llm_platform.nim.dialects import adapter_base, constraint, form
from llm_platform.nim.discovery import verify_dialect
from llm_platform.nim.metrics import parse
from llm_platform.records import Dialect
from llm_platform_tests.inference.cases import SCHEMA, release

from .shapes import SHAPES, Shape

CHOICES = [" positive", " negative"]


@dataclass
class Recorded:
    """An endpoint that has these documents: path → (status, body)."""

    documents: Mapping[str, tuple[int, Any]]

    def get(self, url: str) -> tuple[int, bytes]:
        status, body = self.documents.get("/" + url.split("/", 3)[3], (404, {"detail": "Not Found"}))
        return status, body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        raise AssertionError(f"{url} was posted to")


@pytest.mark.parametrize(
    ("task", "dialect", "fields"),
    [
        pytest.param("classify", "nim-2.x", {"structured_outputs": {"choice": CHOICES}}, id="choice-2.x"),
        pytest.param("classify", "nim-1.x", {"nvext": {"guided_choice": CHOICES}}, id="choice-1.x"),
        pytest.param("extract", "nim-1.x", {"nvext": {"guided_json": SCHEMA}}, id="json-1.x"),
        pytest.param(
            "extract",
            "nim-2.x",
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                }
            },
            id="json-2.x",
        ),
        pytest.param("classify", "nim-2.x-sglang", {"regex": "( positive| negative)"}, id="choice-sglang"),
        pytest.param("classify", "vllm", {"structured_outputs": {"choice": CHOICES}}, id="choice-vllm"),
        pytest.param("classify", "hosted", {}, id="hosted-knows-no-choice"),
        pytest.param("generate", "nim-2.x", {}, id="free-text"),
    ],
)
def test_constraint_is_asked_for_in_the_form_of_the_dialect(task: str, dialect: str, fields: dict[str, object]) -> None:
    """The other form is ignored with HTTP 200, and the answer is free text."""
    assert constraint(release(task, dialect=dialect)) == fields  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "base"),
    [
        pytest.param({"id": "a", "root": "/loras/a", "parent": "base"}, "base", id="2.x-adapter"),
        pytest.param({"id": "base", "root": "/models/base", "parent": None}, None, id="2.x-base"),
        pytest.param({"id": "a", "root": "base", "parent": None}, "base", id="1.x-adapter"),
        pytest.param({"id": "base", "root": "base", "parent": None}, None, id="1.x-base"),
    ],
)
def test_adapter_names_its_base(card: dict[str, str | None], base: str | None) -> None:
    """Promoting an adapter against another base would change every answer."""
    assert adapter_base(card, ["base", "a"]) == base


@pytest.mark.parametrize("shape", [pytest.param(shape, id=shape.dialect) for shape in SHAPES])
def test_an_endpoint_is_understood_in_its_dialect(shape: Shape) -> None:
    """Detection, adapters, constraint and metrics of one endpoint belong together: half a dialect is a wrong one."""
    endpoint = Recorded(shape.documents)
    cards = shape.documents["/v1/models"][1]
    text = next((body for path, (_, body) in shape.documents.items() if path.endswith("metrics")), "")

    assert verify_dialect("http://e", shape.dialect, endpoint) == shape.dialect
    assert form(shape.dialect).choice(["a.b", "c"]) == shape.choice
    assert adapter_base(next(card for card in cards if card["id"] == "a"), ["m", "a"]) == shape.base
    said = parse(text, shape.dialect)
    assert said == parse(text)
    if shape.dialect == "hosted":
        assert said.is_empty
        return
    assert (said.running, said.waiting, said.kv_cache_usage) == (3, 2, 0.25)
    assert (said.prompt_tokens, said.generation_tokens, said.requests) == (1_500_000, 7_000, 100)
    assert said.time_to_first_token is not None
    assert (said.time_to_first_token.count, said.time_to_first_token.mean) == (100, 0.2)
    assert said.time_to_first_token.quantile(0.75) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("asked", "others"), [(one.dialect, other) for one in SHAPES for other in SHAPES if one.choice != other.choice]
)
def test_another_dialect_is_found_out_before_a_document_is_sent(asked: Dialect, others: Shape) -> None:
    """Its constraint would be ignored with HTTP 200; only an endpoint that says nothing cannot be found out."""
    endpoint = Recorded(others.documents)
    if others.dialect == "hosted":
        assert verify_dialect("http://e", asked, endpoint) == "hosted"
    else:
        with pytest.raises(EndpointMismatch, match=f"speaks {others.dialect!r}"):
            verify_dialect("http://e", asked, endpoint)
