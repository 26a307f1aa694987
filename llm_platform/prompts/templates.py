"""The templates of prompt files: sandboxed Jinja, cut down to what a prompt needs.

A template prints columns, examples and labels through a few filters, with `if` and with `for` over the examples or
labels. There are no calls, assignments or arithmetic (`template_rules`), so it ends and its size is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_platform.errors import ContractBroken

MAX_RENDERED_CHARACTERS = 4_000_000
CONSTANTS = frozenset({"examples", "labels"})
"""Variables that are part of the prompt, not of a document."""


def _bounded(size: int) -> None:
    if size > MAX_RENDERED_CHARACTERS:
        raise ContractBroken(
            f"a filter of the template makes {size} characters, more than {MAX_RENDERED_CHARACTERS}. "
            "Use fewer repetitions."
        )


def _replace(text: Any, old: str, new: str) -> str:
    whole = str(text)
    _bounded(len(whole) + whole.count(old) * (len(new) - len(old)))
    return whole.replace(old, new)


def _join(items: Any, separator: str = "") -> str:
    parts = [str(item) for item in items]
    _bounded(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


def _tojson(value: Any) -> str:
    # Jinja's own escapes <, > and & for HTML; a prompt wants the plain text.
    return json.dumps(value, ensure_ascii=False)


_KEPT_FILTERS = (
    *("capitalize", "lower", "title", "upper", "trim", "truncate", "striptags"),
    *("count", "default", "first", "last", "length", "wordcount"),
)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        optimized=False,  # folding constants would run a template while it is compiled
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kept: dict[str, Callable[..., Any]] = {name: environment.filters[name] for name in _KEPT_FILTERS}
    environment.filters = {**kept, "replace": _replace, "join": _join, "tojson": _tojson}
    environment.globals.clear()
    return environment


ENVIRONMENT = _environment()


@lru_cache(maxsize=1024)
def compiled(source: str) -> Template:
    """The template, compiled once a process."""
    return ENVIRONMENT.from_string(source)


def document_variables(source: str) -> set[str]:
    """Names of the document columns that a template reads."""
    return meta.find_undeclared_variables(ENVIRONMENT.parse(source)) - CONSTANTS


def variables_in_order(sources: Iterable[str], names: Collection[str]) -> tuple[str, ...]:
    """Those of `names` that the templates read, in the order in which a prompt says them first."""
    found = (node.name for source in sources for node in ENVIRONMENT.parse(source).find_all(nodes.Name))
    return tuple(dict.fromkeys(name for name in found if name in names))


def reads_examples(source: str) -> bool:
    """Whether a template reads the few-shot examples."""
    return "examples" in meta.find_undeclared_variables(ENVIRONMENT.parse(source))
