"""Rules about `long_documents` in `application.yaml`; as in `rules`, they read the plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_platform.application.yaml.mistakes import listed, nearest, wording
from llm_platform.application.yaml.read import Location

PARTS = "parts"
AT: Location = ("long_documents",)
Broken = Iterator[tuple[Location, str]]


def long_document_rules(data: dict[str, Any]) -> Broken:
    """What of `long_documents` does not fit the task, or the policy."""
    given = data.get("long_documents")
    rules = {"policy": given} if isinstance(given, str) else given
    if not isinstance(rules, dict):
        return
    policy = rules.get("policy", "reject")
    if policy != "split":
        for key in ("overlap_tokens", "priority", "fields", "prompt"):
            if key in rules and policy in ("reject", "truncate"):
                yield (*AT, key), wording(f"{key} with policy {policy!r}", f"{key} only with policy 'split'", "split")
        return
    if data.get("task") == "generate" and not rules.get("prompt"):
        found = "policy 'split' for task 'generate' without a prompt"
        yield AT, wording(found, "'prompt', a prompt file that makes one answer from {{ parts }}")
    if rules.get("prompt") and (rules.get("priority") or rules.get("fields")):
        yield (*AT, "prompt"), wording("prompt beside priority or fields", "one way to put answers together")
    if rules.get("prompt") and PARTS in _list(data.get("source"), "attributes"):
        found = f"attribute {PARTS!r}, which the prompt of long_documents uses for the answers to the parts"
        yield ("source", "attributes"), wording(found, "another column name")
    yield from _priority(data, rules)
    yield from _fields(data, rules)


def _priority(data: dict[str, Any], rules: dict[str, Any]) -> Broken:
    if not rules.get("priority"):
        return
    at: Location = (*AT, "priority")
    if data.get("task") in ("extract", "generate"):
        yield at, wording(f"priority for task {data['task']!r}", "priority only for task 'classify'", "classify")
        return
    labels, named = _list(data, "labels"), _list(rules, "priority")
    for index, label in enumerate(named):
        if label not in labels:
            yield (*at, index), wording(f"label {label!r}", listed(labels), nearest(label, labels))
    left_out = [label for label in labels if label not in named]
    if left_out:
        yield at, wording(f"a priority without {listed(left_out)}", "every label, the most important first")
    for name, variant in (data.get("variants") or {}).items() if isinstance(data.get("variants"), dict) else ():
        if isinstance(variant, dict) and variant.get("decision") == "logprobs":
            found = f"priority while variant {name!r} decides by 'logprobs'"
            yield at, wording(found, "no priority (probabilities are averaged), or decision 'text'")


def _fields(data: dict[str, Any], rules: dict[str, Any]) -> Broken:
    named = rules.get("fields")
    if not isinstance(named, dict) or not named:
        return
    at: Location = (*AT, "fields")
    if data.get("task") in ("classify", "generate"):
        yield at, wording(f"fields for task {data['task']!r}", "fields only for task 'extract'", "extract")
        return
    fields = data.get("fields")
    known = fields if isinstance(fields, dict) else {}
    for name, choice in named.items():
        if name not in known:
            yield (*at, name), wording(f"field {name!r}", listed(known), nearest(name, list(known)))
        elif choice == "all" and isinstance(known[name], dict) and known[name].get("type") != "list":
            found = f"'all' for type {known[name].get('type')!r}"
            yield (*at, name), wording(found, "'all' only for type 'list'")


def _list(data: Any, key: str) -> list[str]:
    value = data.get(key) if isinstance(data, dict) else None
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
