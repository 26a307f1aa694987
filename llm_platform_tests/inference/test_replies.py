"""Replies of all forms of the API, read for the record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_platform.inference.replies import joined, read_reply
from llm_platform.records import TokenUsage


def chunk(*, index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def stream(events: list[dict[str, Any]]) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


USAGE = {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


def test_a_streamed_chat_is_the_message_it_adds_up_to() -> None:
    """Who reads the table must not care how an answer came."""
    events = [
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(index=1, role="assistant", content="Hi"),
        chunk(content="lo"),
        chunk(finish="stop"),
        USAGE,
    ]

    reply = read_reply(stream(events), streamed=True)

    assert (reply.answer, reply.finish_reason) == ("Hello", "stop")
    assert reply.usage == TokenUsage(prompt_tokens=7, completion_tokens=3)
    body = json.loads(reply.response or "")
    assert [choice["message"]["content"] for choice in body["choices"]] == ["Hello", "Hi"]


def test_streamed_tool_calls_are_joined_by_their_index() -> None:
    """Arguments come in pieces, and several calls at once."""
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": '{"x"'}}
    second = {"index": 1, "id": "b", "type": "function", "function": {"name": "go", "arguments": "{}"}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}

    body = joined([chunk(role="assistant", content=None, tool_calls=[first]), chunk(tool_calls=[second, rest])])

    calls = body["choices"][0]["message"]["tool_calls"]
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in calls] == [
        ("look", '{"x": 1}'),
        ("go", "{}"),
    ]


RESPONSE = {
    "object": "response",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Yes."}]}],
    "usage": {"input_tokens": 4, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
}


@pytest.mark.parametrize(
    ("text", "streamed", "answer"),
    [
        pytest.param(json.dumps({"choices": [{"text": " a"}]}), False, " a", id="completion"),
        pytest.param(
            stream([{"choices": [{"index": 0, "text": " a"}]}, {"choices": [{"index": 0, "text": " b"}]}]),
            True,
            " a b",
            id="streamed-completion",
        ),
        pytest.param(json.dumps(RESPONSE), False, "Yes.", id="responses"),
        pytest.param(
            stream([{"type": "response.created"}, {"type": "response.completed", "response": RESPONSE}]),
            True,
            "Yes.",
            id="streamed-responses",
        ),
        pytest.param(json.dumps({"data": [{"embedding": [0.1]}]}), False, None, id="embedding"),
        pytest.param(json.dumps({"error": {"message": "no"}}), False, None, id="error"),
        pytest.param("<html>", False, None, id="a-proxys-page"),
        pytest.param("[1, 2]", False, None, id="no-object"),
        pytest.param('{"choices": [3]}', False, None, id="no-choice"),
        pytest.param('data: {"choices": [3]}\n\ndata: {"cut', True, None, id="junk-events"),
        pytest.param("", False, None, id="nothing"),
    ],
)
def test_every_form_is_read_and_none_is_refused(text: str, streamed: bool, answer: str | None) -> None:
    """The caller has the reply already: whatever it was, recording it must not fail."""
    reply = read_reply(text, streamed=streamed)

    assert reply.answer == answer
    assert (reply.response is None) == (text == "")
