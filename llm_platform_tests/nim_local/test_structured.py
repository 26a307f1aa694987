"""Structure is enforced in the forms of NIM 2.x, and only in those."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest

from llm_platform.application.output import OutputField, output_schema
from llm_platform.nim_local.process import RunningNim

from .http_calls import call, post

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["label", "score"],
    "additionalProperties": False,
}
ASK = {"messages": [{"role": "user", "content": "Describe a cat."}], "max_tokens": 60, "temperature": 0}


def content(nim: RunningNim, **more: Any) -> str:
    """The text that answers a chat."""
    answer = post(nim.base_url, "/v1/chat/completions", {**ASK, **more})
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param(
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": SCHEMA, "strict": True},
                }
            },
            id="response-format",
        ),
        pytest.param({"structured_outputs": {"json": SCHEMA}}, id="structured-outputs"),
        pytest.param({"structured_outputs": {"json": json.dumps(SCHEMA)}}, id="schema-as-text"),
    ],
)
def test_json_satisfies_its_schema(wish: dict[str, Any], nim: RunningNim) -> None:
    """A model this small never writes the object by itself."""
    jsonschema.validate(json.loads(content(nim, **wish)), SCHEMA)


def test_a_field_with_a_closed_set_of_values_gets_one_of_them(nim: RunningNim) -> None:
    """The set is what an application states; an engine that drops a grammar it cannot compile answers in prose."""
    fields = {
        "kind": OutputField(type="enum", values=("RECEIPT", "INVOICE")),
        "paid": OutputField(type="enum", values=("CASH", "CARD"), required=False),
    }
    schema = output_schema(fields)

    answer = json.loads(content(nim, structured_outputs={"json": schema}))

    jsonschema.validate(answer, schema)
    assert answer["kind"] in ("RECEIPT", "INVOICE")
    assert answer["paid"] in ("CASH", "CARD", None)


def test_a_regular_expression_is_matched_as_a_whole(nim: RunningNim) -> None:
    """Slashes and anchors included: both mean something in the engine's own notation."""
    assert re.fullmatch(
        r"(19|20)[0-9]{2}/[01][0-9]", content(nim, structured_outputs={"regex": "^(19|20)[0-9]{2}/[01][0-9]$"})
    )


def test_a_grammar_is_followed(nim: RunningNim) -> None:
    """GBNF, as in vLLM."""
    grammar = 'root ::= "cat: " ("black" | "white")'

    assert content(nim, structured_outputs={"grammar": grammar}) in ("cat: black", "cat: white")


def test_a_json_object_starts_as_one(nim: RunningNim) -> None:
    """The form without a schema promises an object and nothing about its fields."""
    assert content(nim, response_format={"type": "json_object"}).startswith("{")


def test_text_is_free(nim: RunningNim) -> None:
    """`{"type": "text"}` is what some clients always send."""
    assert content(nim, max_tokens=10, response_format={"type": "text"}) == content(nim, max_tokens=10)


@pytest.mark.parametrize(
    "ignored",
    [
        pytest.param({"nvext": {"guided_choice": ["yes", "no"]}}, id="nvext"),
        pytest.param({"guided_choice": ["yes", "no"]}, id="guided-choice"),
        pytest.param({"guided_json": SCHEMA}, id="guided-json"),
        pytest.param({"no_such_field": 1}, id="unknown"),
    ],
)
def test_the_forms_of_1x_do_nothing(ignored: dict[str, Any], nim: RunningNim) -> None:
    """2.x answers an old client with 200 and free text; our own clients must notice."""
    assert content(nim, max_tokens=10, **ignored) == content(nim, max_tokens=10)


def test_an_answer_that_is_cut_is_still_200(nim: RunningNim) -> None:
    """Invalid JSON with reason "length": the client must look at the reason."""
    answer = post(
        nim.base_url, "/v1/chat/completions", {**ASK, "max_tokens": 4, "structured_outputs": {"json": SCHEMA}}
    )

    assert answer["choices"][0]["finish_reason"] == "length"
    with pytest.raises(ValueError, match=r".+"):
        json.loads(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"structured_outputs": {"regex": "(unclosed"}}, id="regex"),
        pytest.param({"structured_outputs": {"regex": "a(?=b)"}}, id="look-ahead"),
        pytest.param({"structured_outputs": {"grammar": "root ::= ("}}, id="grammar"),
        pytest.param({"structured_outputs": {"json": {"type": "nonsense"}}}, id="schema"),
        pytest.param({"structured_outputs": {"json": {"type": "string", "pattern": "(unclosed"}}}, id="inner-pattern"),
        pytest.param({"structured_outputs": {"json": {"$ref": "#/$defs/none"}}}, id="dangling-reference"),
        pytest.param({"structured_outputs": {"json": "{"}}, id="schema-text"),
    ],
)
def test_what_cannot_be_enforced_is_refused(wish: dict[str, Any], nim: RunningNim) -> None:
    """The engine would drop such a grammar and answer with free text and 200."""
    status, _, body = call(nim.base_url, "POST", "/v1/chat/completions", {**ASK, **wish})

    assert status == 400
    assert json.loads(body)["error"]["message"].startswith("Grammar error: ")


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, id="two-kinds"),
        pytest.param({"structured_outputs": {"choice": []}}, id="no-options"),
        pytest.param({"structured_outputs": {"choice": ["a", ""]}}, id="empty-option"),
        pytest.param({"response_format": {"type": "yaml"}}, id="unknown-format"),
        pytest.param({"response_format": {"type": "json_schema"}}, id="no-schema"),
    ],
)
def test_a_wish_without_sense_is_a_400(wish: dict[str, Any], nim: RunningNim) -> None:
    """Never a 422, never free text."""
    assert call(nim.base_url, "POST", "/v1/chat/completions", {**ASK, **wish})[0] == 400
