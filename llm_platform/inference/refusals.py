"""The endpoint's message about a request it refused, without what the request said.

vLLM echoes the whole input into validation messages; messages are stored and logged, documents must not be.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAXIMUM_CHARACTERS = 300

# From here on, vLLM's validation messages repeat the input.
_ECHO = re.compile(r"['\"]input['\"]\s*:")
_QUOTE = re.compile(r"(['\"`])([^'\"`]+)\1")
_LONG_QUOTE = 40
_WORDS_IN_A_ROW = 3


def refusal(status: int, body: bytes, *, request_body: bytes) -> str:
    """`HTTP status: message`, with everything removed that the request's prompt says, and cut at 300 characters."""
    message = _message(body)
    echo = _ECHO.search(message)
    if echo is not None:
        message = message[: echo.start()] + "[…]"
    prompt = _prompt_texts(request_body)

    def unquoted(match: re.Match[str]) -> str:
        return "[…]" if len(match[2]) >= _LONG_QUOTE or match[2] in prompt else match[0]

    message = " ".join(_without(_QUOTE.sub(unquoted, message), prompt).split())
    return f"HTTP {status}: {message[:MAXIMUM_CHARACTERS]}" if message else f"HTTP {status}"


def _message(body: bytes) -> str:
    try:
        value: Any = json.loads(body)
    except ValueError:
        return ""
    error = value.get("error") or value.get("detail") or value.get("message") if isinstance(value, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else ""


def _prompt_texts(request_body: bytes) -> str:
    request = json.loads(request_body)
    texts = [request["prompt"]] if "prompt" in request else [message["content"] for message in request["messages"]]
    return " ".join(" ".join(texts).split())


def _without(message: str, prompt: str) -> str:
    """The message without any three words in a row that the prompt has, too."""
    words = message.split()
    hidden = [False] * len(words)
    for start in range(len(words) - _WORDS_IN_A_ROW + 1):
        if " ".join(words[start : start + _WORDS_IN_A_ROW]).strip("'\"`.,:;") in prompt:
            hidden[start : start + _WORDS_IN_A_ROW] = [True] * _WORDS_IN_A_ROW
    return " ".join("[…]" if hide else word for word, hide in zip(words, hidden, strict=True))
