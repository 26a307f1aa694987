"""What a reply to a single request says, whichever form of the OpenAI API it was: read only to be recorded.

A stream is put together into the body that the same request would have had without streaming.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llm_platform.inference.usage import read_usage
from llm_platform.records import Record, TokenUsage, canonical_json

# Values of a delta that name something; all other text is a piece of a longer one.
_NAMES = frozenset({"role", "id", "type", "index", "object"})


class ReadReply(Record):
    """The parts of a reply that have columns of their own."""

    response: str | None
    answer: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage = TokenUsage()


def read_reply(text: str, *, streamed: bool) -> ReadReply:
    """What a reply says; a body that is no JSON is kept as it is."""
    try:
        body = joined(events_of(text)) if streamed else json.loads(text)
        return _read(body)
    except (ValueError, TypeError, AttributeError, RecursionError):
        # Not a body of this API, e.g. a proxy's page: the caller gets it as it is, and so does the record.
        return ReadReply(response=storable(text) or None)


def storable(text: str) -> str:
    """A text without what no table takes: halves of surrogate pairs, and the character 0."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    # A pair of escapes is one character; half of one is none.
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read(body: dict[str, Any]) -> ReadReply:
    choice = _first(body.get("choices"))
    message = choice.get("message")
    answer = _content(message) if isinstance(message, dict) else choice.get("text", _output_text(body))
    return ReadReply(
        response=storable(canonical_json(body)),
        answer=None if answer is None else storable(str(answer)),
        finish_reason=choice.get("finish_reason") or body.get("status"),
        usage=TokenUsage(**read_usage(body.get("usage"))._asdict()),
    )


def joined(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that the events of a stream amount to."""
    body: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        if isinstance(event.get("response"), dict):  # the Responses API repeats the whole in its last event
            body = dict(event["response"])
            continue
        for delta in event.get("choices") or []:
            _join(choices.setdefault(int(delta.get("index", 0)), {}), delta)
        body |= {key: value for key, value in event.items() if key != "choices" and value is not None}
    for choice in choices.values():
        if "delta" in choice:
            choice["message"] = choice.pop("delta")
    return {**body, "choices": [choices[index] for index in sorted(choices)]} if choices else body


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream; what is no JSON object is left out."""
    lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    events: list[dict[str, Any]] = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the closing `[DONE]`, or an event that was cut off
        if isinstance(event, dict):
            events.append(event)
    return events


def _join(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add one delta: texts grow, lists with an index are joined item by item, everything else is replaced."""
    for key, value in part.items():
        known = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif isinstance(value, str) and isinstance(known, str) and key not in _NAMES:
            whole[key] = known + value
        elif isinstance(value, dict):
            whole[key] = known if isinstance(known, dict) else {}
            _join(whole[key], value)
        elif isinstance(value, list):
            whole[key] = _join_lists(known if isinstance(known, list) else [], value)
        else:
            whole[key] = value


def _join_lists(known: list[Any], new: list[Any]) -> list[Any]:
    for item in new:
        index = item.get("index") if isinstance(item, dict) else None
        same = next((one for one in known if isinstance(one, dict) and one.get("index") == index), None)
        if index is None or same is None:
            known = [*known, dict(item) if isinstance(item, dict) else item]
        else:
            _join(same, item)
    return known


def _content(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    if not content and message.get("tool_calls"):
        return canonical_json(message["tool_calls"])
    return content if isinstance(content, str) else None


def _output_text(body: Mapping[str, Any]) -> str | None:
    """The text of the Responses API."""
    parts = [
        str(part["text"])
        for item in _list(body.get("output"))
        for part in _list(item.get("content") if isinstance(item, dict) else None)
        if isinstance(part, dict) and part.get("type") == "output_text" and "text" in part
    ]
    return "".join(parts) if parts else None


def _first(value: Any) -> dict[str, Any]:
    first = value[0] if isinstance(value, list) and value else {}
    return first if isinstance(first, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
