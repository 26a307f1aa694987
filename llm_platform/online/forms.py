"""Questions and answers on the wire: our own form, and OpenAI's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from llm_platform.online.desk import AnswerDesk, OnlineAnswer, Question, Turned
from llm_platform.records import CompletionStatus

LONGEST_DEADLINE_SECONDS = 600.0
_OURS = ("document_id", "text", "columns", "attributes", "deadline_seconds")
_CHANGE_THE_REPLY = ("tools", "functions", "tool_choice", "function_call", "logprobs", "audio", "modalities")
"""Fields of a chat request that ask for a reply of another form than the application's."""


def parsed(body: bytes) -> dict[str, Any]:
    """The object of a request.

    Raises:
        Turned: it is none.
    """
    try:
        found = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise _wrong("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise _wrong("The body is JSON and no object.")
    return found


def question_of(body: Mapping[str, Any], desk: AnswerDesk, *, deadline_seconds: float) -> Question:
    """A question in our own form.

    Raises:
        Turned: it is none; says what is wrong.
    """
    if unknown := [name for name in body if name not in _OURS]:
        raise _wrong(f"Found {len(unknown)} unknown fields; there are: {', '.join(_OURS)}.")
    values = {**_object(body, "attributes"), **_object(body, "columns")}
    if (text := body.get("text")) is not None:
        column = desk.text_column
        if column is None:
            raise _wrong(f"The text of a document is made of several columns here: send 'columns' ({_named(desk)}).")
        if not isinstance(text, str):
            raise _wrong("'text' is not a text.")
        if column in values:
            raise _wrong(f"'text' is the column {column!r} here, which is given, too: send one of them.")
        values[column] = text
    return Question(
        document_id=_document_id(body.get("document_id")),
        values=_of_the_source(values, desk),
        deadline_seconds=_deadline(body.get("deadline_seconds"), deadline_seconds),
    )


def chat_question_of(body: Mapping[str, Any], desk: AnswerDesk, *, deadline_seconds: float) -> Question:
    """A question in OpenAI's form: one message of the user is the document.

    Its key may stand in `metadata.document_id`, attributes beside it. What would change how the model answers is the
    release's, so `temperature`, `max_tokens` and the like are taken and mean nothing.

    Raises:
        Turned: it is none, or asks for a reply that an application does not give.
    """
    asked = [name for name in _CHANGE_THE_REPLY if body.get(name) not in (None, False, [], {}, "none", "auto")]
    if body.get("n", 1) not in (None, 1):
        asked.append("n")
    if asked:
        raise _wrong(f"An application gives one answer of its own form, and takes no {', '.join(asked)}.")
    text = _only_message(body.get("messages"))
    metadata = {**_object(body, "metadata")}
    document_id = _document_id(metadata.pop("document_id", None))
    column = desk.text_column
    if column is None:
        values = {
            **{name: value for name, value in metadata.items() if name in desk.columns},
            **_columns_in(text, desk),
        }
    else:
        values = {**{name: value for name, value in metadata.items() if name in desk.columns}, column: text}
    return Question(document_id=document_id, values=_of_the_source(values, desk), deadline_seconds=deadline_seconds)


def answer_body(answered: OnlineAnswer, desk: AnswerDesk, *, application: str) -> bytes:
    """An answer in our own form."""
    row = answered.completion
    answer: Any = row.answer
    if answer is not None and desk.task == "extract":
        answer = json.loads(answer)
    return to_json(
        {
            "application": application,
            "document_id": answered.document_id,
            "status": row.status.value,
            "answer": answer,
            "confidence": row.confidence,
            "reason": row.reason,
            "variant": answered.variant,
            "release": answered.release_id,
            "answered_at": row.created_at,
            "was_stored": answered.was_stored,
        }
    )


def chat_body(answered: OnlineAnswer, *, application: str) -> dict[str, Any]:
    """An answer in OpenAI's form.

    Raises:
        Turned: there is no valid answer, for which that form has no place.
    """
    row = answered.completion
    if row.status is not CompletionStatus.VALID or row.answer is None:
        raise Turned(
            422, "no_valid_answer", f"The model gave no valid answer ({row.status.value}): {row.reason or 'no reason'}."
        )
    usage = {"prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens}
    return {
        "id": f"chatcmpl-{answered.release_id}-{row.fingerprint}",
        "object": "chat.completion",
        "created": int(row.created_at.timestamp()),
        "model": application,
        "system_fingerprint": answered.release_id,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": row.answer, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        # Of an answer that was there before, what it had cost then.
        "usage": {**usage, "total_tokens": row.prompt_tokens + row.completion_tokens},
    }


def as_events(body: Mapping[str, Any]) -> bytes:
    """A chat reply as a stream: an answer is valid as a whole or not at all, so it comes in one piece."""
    choice = body["choices"][0]
    shared = {name: body[name] for name in ("id", "created", "model", "system_fingerprint")}
    delta = {"role": "assistant", "content": choice["message"]["content"]}
    chunks: Sequence[Mapping[str, Any]] = (
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None},
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"},
    )
    events = [{**shared, "object": "chat.completion.chunk", "choices": [chunk]} for chunk in chunks]
    return b"".join(b"data: " + to_json(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def error_body(turned: Turned) -> bytes:
    """Why there is no answer, in the form that OpenAI's clients read."""
    return to_json({"error": {"message": turned.message, "type": turned.kind, "param": None, "code": turned.kind}})


def _only_message(messages: Any) -> str:
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        count = len(messages) if isinstance(messages, list) else 0
        raise _wrong(
            f"Found {count} messages, expected one of the user: the document. What the model is told about it is the "
            "application's prompt."
        )
    if messages[0].get("role") != "user":
        raise _wrong("The one message is not the user's. Send the document as it.")
    content = messages[0].get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        whole = len(texts) == len(content) and all(isinstance(text, str) for text in texts)
        content = "".join(map(str, texts)) if whole else None
    if not isinstance(content, str):
        raise _wrong("The message holds something else than text.")
    return content


def _columns_in(text: str, desk: AnswerDesk) -> dict[str, Any]:
    try:
        found = from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _wrong(f"A document has several columns here: send a JSON object as the message ({_named(desk)}).")
    return found


def _of_the_source(values: Mapping[str, Any], desk: AnswerDesk) -> dict[str, Any]:
    columns = desk.columns
    if unknown := sum(name not in columns for name in values):
        raise _wrong(f"Found {unknown} columns that documents do not have; they have: {_named(desk)}.")
    return dict(values)


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(f"{name!r} is not an object.")
    return found


def _document_id(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _wrong("'document_id' is not a text.")


def _deadline(value: Any, most: float) -> float:
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_DEADLINE_SECONDS:
        raise _wrong(f"'deadline_seconds' is no number above 0 and up to {LONGEST_DEADLINE_SECONDS:g}.")
    return min(float(value), LONGEST_DEADLINE_SECONDS)


def _named(desk: AnswerDesk) -> str:
    return ", ".join(desk.columns)


def _wrong(message: str) -> Turned:
    return Turned(400, "invalid_request", message)
