"""Where the two lines differ on the wire."""

from __future__ import annotations

import pytest

from llm_platform.nim.dialects import adapter_base, constraint
from llm_platform_tests.inference.cases import SCHEMA, release

CHOICES = [" positive", " negative"]


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
