"""Bodies of replies: the choice that holds the answer, also where an endpoint packs it as nobody asked for."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from llm_platform.errors import EndpointUnavailable
from llm_platform.inference.reasons import NotACompletion
from llm_platform.inference.replies import events_of, joined, storable
from llm_platform.inference.thoughts import joined as with_thought

MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a body of another shape raises."""

_LONGEST_UNPACKED = 64 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
_ZLIB_OR_GZIP = 47


class NoCompletion(EndpointUnavailable):
    """A body that says nothing about the document, in our words.

    Attributes:
        kind: What it is instead.
        status: Of an error object, the status that it amounts to, where it has one.
        body: The error object, or the answer that was broken off; of another kind nothing.
    """

    def __init__(self, kind: NotACompletion, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(f"HTTP 200 with a body that is not a completion: {kind}")
        self.kind, self.status, self.body = kind, status, body


class Said(NamedTuple):
    """What a message says beside plain text.

    Attributes:
        text: Its text, None where it has none.
        thought: What it thought before, in a place of its own.
        refusal: What it says instead of an answer.
    """

    text: str | None
    thought: str
    refusal: str
    calls_a_tool: bool


def unpacked(body: bytes) -> dict[str, Any]:
    """The reply in a body that is not plain JSON with a choice: compressed, a stream, with halves of characters.

    Raises:
        NoCompletion: it is none of these.
    """
    plain = _inflated(body)
    start = plain[:200].lstrip().lower()
    if start.startswith((b"data:", b"event:", b"id:", b":", b"retry:")):
        try:
            reply: Any = joined(events_of(plain.decode("utf-8", "replace")))
        except MALFORMED:
            raise NoCompletion(NotACompletion.STREAM) from None
        kind = NotACompletion.STREAM
    elif start.startswith(b"<"):
        raise NoCompletion(NotACompletion.PAGE)
    elif not start:
        raise NoCompletion(NotACompletion.EMPTY)
    else:
        reply, kind = _parsed(plain), NotACompletion.OTHER
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if isinstance(reply, dict) and isinstance(choices, list) and choices and isinstance(choices[0], dict):
        if kind is NotACompletion.STREAM and not choices[0].get("finish_reason"):
            raise NoCompletion(kind)
        return reply
    if isinstance(reply, dict) and reply.get("error"):
        raise NoCompletion(NotACompletion.ERROR, status=_status(reply["error"]), body=plain)
    raise NoCompletion(kind)


def said(message: Mapping[str, Any], text: Any) -> Said:
    """A message in its parts, whatever form each of them has."""
    texts, thoughts, refusals = [], [], []
    for part in text if isinstance(text, list) else [text]:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "output_text"):
            texts.append(_text(part.get("text")))
        elif kind in ("thinking", "reasoning"):
            thoughts.append(_text(part.get("thinking") or part.get("text")))
        elif kind == "refusal":
            refusals.append(_text(part.get("refusal")))
    thoughts.append(_text(message.get("reasoning_content")) or _text(message.get("reasoning")))
    refusals.append(_text(message.get("refusal")))
    return Said(
        text="".join(texts) if texts else None,
        thought="".join(thoughts),
        refusal="".join(refusals),
        calls_a_tool=bool(message.get("tool_calls") or message.get("function_call")),
    )


def whole_text(found: Said) -> str:
    """Everything that was said, as one text."""
    return with_thought(found.thought, found.text or "")


def _text(value: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text") if isinstance(part, dict) else part) for part in value)
    return value if isinstance(value, str) else ""


def _parsed(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        pass
    try:
        # Python's own parser takes halves of surrogate pairs; they have no form that could be stored.
        return json.loads(body.decode("utf-8", "replace"), object_hook=_mended)
    except MALFORMED:
        raise NoCompletion(NotACompletion.OTHER) from None


def _mended(item: dict[str, Any]) -> dict[str, Any]:
    return {storable(key): _whole(value) for key, value in item.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    return [_whole(one) for one in value] if isinstance(value, list) else value


def _inflated(body: bytes) -> bytes:
    if not body.startswith(_GZIP):
        return body.removeprefix(_MARK)
    try:
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, _LONGEST_UNPACKED)
    except zlib.error:
        raise NoCompletion(NotACompletion.COMPRESSED) from None


def _status(error: Any) -> int | None:
    """The HTTP status that an error in a body with status 200 amounts to."""
    for name in ("code", "status", "http_code", "status_code") if isinstance(error, dict) else ():
        value = error.get(name)
        number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) == 3 else value
        if type(number) is int and 400 <= number <= 599:
            return number
    return None
