"""Structured output: a request's wish as a grammar for llama.cpp, or as a closed list of answers.

JSON and regular expressions go to llguidance, which llama.cpp was built with. It has one trap: a grammar that it cannot
compile is dropped, and the text comes free. So every grammar is tried once on a single token that no grammar allows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema

from llm_platform.errors import RequestRejected
from llm_platform.nim_local.engine import Chunk, Engine

_LLGUIDANCE = "%llguidance {}\n"
# Without this a small model may write white space until its tokens are used up.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_CERTAIN = 10_000.0


@dataclass(frozen=True)
class OneOf:
    """The answer is one of these."""

    options: tuple[bytes, ...]


@dataclass(frozen=True)
class Grammar:
    """The answer is a sentence of this grammar, in llama.cpp's form."""

    text: str


Constraint = OneOf | Grammar | None


def json_constraint(schema: dict[str, Any] | str) -> Grammar:
    """JSON that satisfies a schema, given as an object or as JSON text.

    Raises:
        RequestRejected: it is no JSON schema.
    """
    return _json_grammar(schema if isinstance(schema, str) else json.dumps(schema))


@lru_cache(maxsize=256)
def _json_grammar(schema: str) -> Grammar:
    try:
        parsed = json.loads(schema)
        jsonschema.Draft202012Validator.check_schema(parsed)
    except (ValueError, RecursionError, jsonschema.SchemaError) as error:
        reason = error.message if isinstance(error, jsonschema.SchemaError) else str(error)
        raise RequestRejected(f"Grammar error: {reason}") from error
    if isinstance(parsed, dict):
        parsed = {**parsed, "x-guidance": _COMPACT}
    return Grammar(f"{_LLGUIDANCE}start: %json {json.dumps(parsed)}\n")


def regex_constraint(pattern: str) -> Grammar:
    """Text that matches a regular expression as a whole."""
    inner = pattern.removeprefix("^").removesuffix("$") if not pattern.endswith(r"\$") else pattern.removeprefix("^")
    written = _escape_slashes(inner).replace("\n", r"\n").replace("\r", r"\r")
    return Grammar(f"{_LLGUIDANCE}start: /{written}/\n")


def _escape_slashes(pattern: str) -> str:
    """The pattern with every slash escaped that is not yet."""
    pieces = []
    escaped = False
    for character in pattern:
        pieces.append("\\/" if character == "/" and not escaped else character)
        escaped = character == "\\" and not escaped
    return "".join(pieces)


def choice_constraint(options: list[str]) -> OneOf:
    """One of the options, word for word."""
    return OneOf(tuple(dict.fromkeys(option.encode() for option in options)))


class GrammarGuard:
    """Refuses grammars that the engine would silently ignore."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._works = lru_cache(maxsize=256)(self._try)

    def check(self, grammar: Grammar, adapter: str | None = None) -> None:
        """Return when the engine enforces the grammar.

        The adapter changes nothing about it, but the trial must not wait for slots that compute with another one.

        Raises:
            RequestRejected: it does not, because it cannot compile it.
        """
        if not self._works(grammar, adapter):
            raise RequestRejected("Grammar error: the engine cannot compile this schema, pattern or grammar")

    def _try(self, grammar: Grammar, adapter: str | None) -> bool:
        """Whether the grammar keeps out a control token that is otherwise certain."""
        control = self._engine.vocabulary.first_control_token_id
        chosen: list[int] = []

        def receive(chunk: Chunk) -> bool:
            content = (chunk["choices"][0].get("logprobs") or {}).get("content") or []
            chosen.extend(int(token["id"]) for token in content)
            return False

        request = {
            "prompt": [self._engine.vocabulary.end_token_id],
            "max_tokens": 1,
            "temperature": 0,
            "n_probs": 1,
            "grammar": grammar.text,
            "logit_bias": [[control, _CERTAIN]],
            "cache_prompt": False,
        }
        try:
            self._engine.generate(request, receive, adapter=adapter)
        except RequestRejected:
            return False
        return bool(chosen) and chosen[0] != control
