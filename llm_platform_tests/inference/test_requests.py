"""What is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from openai._utils._json import openapi_dumps

from llm_platform.errors import EndpointUnavailable, RequestRejected, SpecificationError
from llm_platform.inference.requests import (
    RequestBuilder,
    check_first_tokens,
    probe_body,
    repair_request,
)
from llm_platform.nim.dialects import constraint
from llm_platform.nim.http import EndpointClient
from llm_platform.records import Release, Sampling
from llm_platform_tests.inference.cases import SCHEMA, Rendered, release
from llm_platform_tests.servers.scripted import MODEL, ScriptedServer

MESSAGES = [{"role": "system", "content": 'Say "x".'}, {"role": "user", "content": "Größe: 3 µm\n\t{{ a }} \u2028 😀"}]
TEXT = "Review: gut / böse\nSentiment:"
PLAIN: dict[str, Any] = {"model": MODEL, "seed": 0, "temperature": 0.0, "top_p": 1.0}


@pytest.mark.parametrize(
    ("asked", "call"),
    [
        pytest.param(release(), {**PLAIN, "messages": MESSAGES, "max_tokens": 16}, id="chat-free-text"),
        pytest.param(
            release(sampling=Sampling(max_tokens=3, temperature=0.7, top_p=0.5, seed=4, stop=("\n", "."))),
            {
                **PLAIN,
                "messages": MESSAGES,
                "max_tokens": 3,
                "temperature": 0.7,
                "top_p": 0.5,
                "seed": 4,
                "stop": ["\n", "."],
            },
            id="chat-sampling",
        ),
        pytest.param(
            release("classify", decision="logprobs"),
            {
                **PLAIN,
                "messages": MESSAGES,
                "max_tokens": 1,
                "logprobs": True,
                "top_logprobs": 20,
                "extra_body": {"structured_outputs": {"choice": [" positive", " negative"]}},
            },
            id="chat-label-logprobs",
        ),
        pytest.param(
            release("extract"),
            {
                **PLAIN,
                "messages": MESSAGES,
                "max_tokens": 16,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                },
            },
            id="chat-json-schema",
        ),
        pytest.param(
            release("extract", dialect="nim-1.x"),
            {**PLAIN, "messages": MESSAGES, "max_tokens": 16, "extra_body": {"nvext": {"guided_json": SCHEMA}}},
            id="chat-json-schema-1.x",
        ),
        pytest.param(
            release("classify", api="completion", decision="logprobs"),
            {
                **PLAIN,
                "prompt": TEXT,
                "max_tokens": 1,
                "logprobs": 20,
                "extra_body": {"structured_outputs": {"choice": [" positive", " negative"]}},
            },
            id="completion-label-logprobs",
        ),
        pytest.param(
            release("classify", api="completion", dialect="nim-1.x"),
            {
                **PLAIN,
                "prompt": TEXT,
                "max_tokens": 16,
                "extra_body": {"nvext": {"guided_choice": [" positive", " negative"]}},
            },
            id="completion-choice-1.x",
        ),
        pytest.param(
            release("generate", adapter="tuned"),
            {**PLAIN, "model": "test-tuned", "messages": MESSAGES, "max_tokens": 16},
            id="adapter",
        ),
    ],
)
def test_body_is_byte_for_byte_what_the_official_client_sends(asked: Release, call: dict[str, Any]) -> None:
    """People try a prompt in a notebook with `openai`; the bulk run must ask exactly the same."""
    rendered = Rendered(text=TEXT) if asked.prompt.api == "completion" else Rendered(messages=MESSAGES)

    with (
        ScriptedServer(keep_bodies=True) as server,
        OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client,
    ):
        create = client.completions.create if asked.prompt.api == "completion" else client.chat.completions.create
        create(**call)
        sent = server.bodies[-1]
    prepared = RequestBuilder(asked, constraint=constraint(asked)).prepare(
        document_id="d", fingerprint="f", rendered=rendered
    )

    assert prepared.body == sent


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_is_encoded_as_the_official_client_does(text: str) -> None:
    """The prompt is serialized by another library than the SDK's, for speed."""
    rendered = Rendered(messages=[{"role": "user", "content": text}])
    body = RequestBuilder(release(), constraint={}).prepare(document_id="d", fingerprint="f", rendered=rendered).body

    assert openapi_dumps(json.loads(body)) == body
    assert json.loads(body)["messages"][0]["content"] == text


def test_half_a_surrogate_pair_is_refused_before_it_is_sent() -> None:
    """One broken text must become one refused row, not a failed run."""
    asked = release()
    builder = RequestBuilder(asked, constraint={})

    with pytest.raises(RequestRejected, match="surrogate"):
        builder.prepare(
            document_id="d", fingerprint="f", rendered=Rendered(messages=[{"role": "user", "content": "\ud83d"}])
        )


def test_prompt_rendered_for_the_other_api_is_an_error() -> None:
    """A chat prompt sent as text would be answered, and wrongly."""
    with pytest.raises(SpecificationError, match="messages"):
        RequestBuilder(release(), constraint={}).prepare(document_id="d", fingerprint="f", rendered=Rendered(text="x"))


def test_label_logprobs_need_a_classification_with_labels() -> None:
    """The endpoint lists 20 tokens at most: more labels cannot be told apart by one token."""
    many = {f"label{number}": f"{number}" for number in range(21)}

    with pytest.raises(SpecificationError, match="2 to 20 labels"):
        RequestBuilder(release("classify", decision="logprobs", answers=many), constraint={})


def test_repair_in_chat_shows_the_answer_and_the_reason() -> None:
    """A model can only correct what it is told about."""
    asked = release("extract")
    builder = RequestBuilder(asked, constraint=constraint(asked))
    first = builder.prepare(
        document_id="d", fingerprint="f", rendered=Rendered(messages=[{"role": "user", "content": "q"}])
    )

    second = json.loads(repair_request(first, answer="{}", reason="the answer lacks 'name'").body)

    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert "lacks 'name'" in second["messages"][-1]["content"]
    assert second["response_format"] == json.loads(first.body)["response_format"]


def test_repair_of_a_text_completion_samples_again() -> None:
    """The same prompt at temperature 0 would give the same invalid answer."""
    asked = release("classify", api="completion")
    first = RequestBuilder(asked, constraint={}).prepare(document_id="d", fingerprint="f", rendered=Rendered(text="q"))

    second = json.loads(repair_request(first, answer="x", reason="r").body)

    assert (second["seed"], second["temperature"], second["prompt"]) == (1, 0.7, "q")


def test_labels_that_start_with_the_same_token_are_reported() -> None:
    """One token cannot tell them apart, and the run would quietly prefer one of them."""
    with ScriptedServer() as server, EndpointClient() as client:
        check_first_tokens({"HAPPY": "very good", "SAD": "bad"}, base_url=server.url, model=MODEL, post=client.post)

        with pytest.raises(SpecificationError, match="'HAPPY' and 'SAD' cannot be told apart"):
            check_first_tokens(
                {"HAPPY": "very good", "SAD": "very bad"}, base_url=server.url, model=MODEL, post=client.post
            )


def test_endpoint_without_a_tokenizer_is_unavailable_for_label_scores() -> None:
    """Without `/tokenize` nobody knows whether labels collide, so nothing may be sent."""
    with pytest.raises(EndpointUnavailable, match="HTTP 404"):
        check_first_tokens({"A": "x"}, base_url="http://e", model="m", post=lambda url, payload: (404, b"{}"))


def test_probe_asks_for_one_token() -> None:
    """A probe must cost next to nothing, and still prove that the engine generates."""
    assert json.loads(probe_body("m"))["max_tokens"] == 1
