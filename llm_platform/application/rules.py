"""Rules between the fields of `application.yaml`, and between the file and its folder.

They read the plain values rather than the model, so that they report their mistakes also when a field elsewhere has a
wrong type. Values of a wrong type are skipped here: the model reports them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

from llm_platform.application.evaluation import ADDED_GATES, PLAIN_SCORERS, scorer_parts
from llm_platform.application.long_document_rules import long_document_rules
from llm_platform.application.model import NAME_PATTERN, OWNER
from llm_platform.application.names import markdown_files
from llm_platform.application.output import FieldType
from llm_platform.application.publish_rules import OWN_FUNCTION, publish_rules
from llm_platform.application.rollout_rules import rollout_rules
from llm_platform.application.source_text import HOLE
from llm_platform.application.yaml.mistakes import Mistake, listed, nearest, wording
from llm_platform.application.yaml.read import LocatedYaml, Location
from llm_platform.records import Task
from llm_platform.redaction.kinds import INSTALL, KINDS, NEED_A_MODEL, PACKAGE, installed
from llm_platform.tables.forms import alike

PROMPTS_FOLDER = "prompts"
RESERVED_NAMES = frozenset(
    {"platform", "main", "temp", "system", "upstream", "information_schema", "pg_catalog", "models"}
)
"""Names of schemas and catalogs that an application's schema must not hide, and the group of the models' assets."""
PROMPT_WORDS = frozenset({"text", "examples", "labels", "loop"})
"""Names that templates already use for something else than an attribute."""

NAME = re.compile(NAME_PATTERN)
KIND = re.compile(r"[A-Z][A-Z0-9_]{1,47}")

Broken = Iterator[tuple[Location, str]]


def broken_rules(
    yaml: LocatedYaml, folder: Path, *, models: Collection[str] | None, unpriced: Collection[str] = ()
) -> Iterator[Mistake]:
    """Every rule between fields that an application file breaks."""
    data = yaml.data
    found = [
        *_name(data, folder),
        *_owners(data),
        *_labels(data),
        *_fields(data),
        *_source(data),
        *_redaction(data),
        *_references(data),
        *_slices(data),
        *_scorers(data),
        *_gates(data),
        *long_document_rules(data),
        *_budget(data, unpriced),
        *rollout_rules(data, unpriced),
        *publish_rules(data, folder),
        *_review(data),
    ]
    together = _mapping(data, "long_documents")
    found += _prompt_file(("long_documents",), together, folder) if "prompt" in together else ()
    found += _recordings(data, folder)
    for name, variant in _mapping(data, "variants").items():
        if isinstance(variant, dict) and "predictions" not in variant:
            found += _variant(data, name, variant)
            found += _prompt_file(("variants", name), variant, folder)
            found += _model(("variants", name), variant, models)
            found += _adapter(data, name, variant)
    found += _finetuning(data, folder, models)
    for location, text in found:
        yield yaml.mistake(location, text)


def _mapping(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _texts(data: dict[str, Any], key: str) -> list[str]:
    value = data.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _name(data: dict[str, Any], folder: Path) -> Broken:
    name = data.get("name")
    if not isinstance(name, str):
        return
    if name != folder.resolve().name:
        yield ("name",), wording(f"name {name!r}", f"the folder's name {folder.resolve().name!r}")
    if name in RESERVED_NAMES:
        yield ("name",), wording(f"name {name!r}, which the platform uses itself", "any other name")


def _owners(data: dict[str, Any]) -> Broken:
    for index, owner in enumerate(_texts(data, "owners")):
        if not OWNER.fullmatch(owner):
            text = wording(f"owner {owner!r}", "an address like 'jane@example.org', or 'team:' and the team's name")
            yield ("owners", index), text


def _labels(data: dict[str, Any]) -> Broken:
    labels = _texts(data, "labels")
    at: Location = ("labels",)
    if data.get("task") != "classify":
        if data.get("labels") and data.get("task") in ("extract", "generate"):
            yield at, wording(f"labels for task {data['task']!r}", "labels only for task 'classify'", "classify")
        return
    if not data.get("labels"):
        yield at, wording("no labels for task 'classify'", "a list of at least two")
    elif len(labels) == 1 == len(data["labels"]):
        yield at, wording(f"one label, {labels[0]!r}", "at least two")
    yield from _each_once(at, labels, "label")


def _fields(data: dict[str, Any]) -> Broken:
    fields = data.get("fields")
    if data.get("task") == "extract":
        if not fields:
            yield ("fields",), wording("no fields for task 'extract'", "a mapping of names, each to a 'type'")
    elif fields and data.get("task") in ("classify", "generate"):
        yield ("fields",), wording(f"fields for task {data['task']!r}", "fields only for task 'extract'", "extract")
    for name, field in _mapping(data, "fields").items():
        if isinstance(field, dict) and field.get("max_length") is not None and field.get("type") != "string":
            found = f"max_length for type {field.get('type')!r}"
            yield ("fields", name, "max_length"), wording(found, "max_length only for type 'string'")
        if isinstance(field, dict):
            yield from _values(name, field)


def _values(name: str, field: dict[str, Any]) -> Broken:
    at: Location = ("fields", name, "values")
    values, kind = _texts(field, "values"), field.get("type")
    if kind != "enum":
        if field.get("values") and kind in get_args(FieldType):
            yield at, wording(f"values for type {kind!r}", "values only for type 'enum'", "enum")
        return
    if not field.get("values"):
        yield ("fields", name), wording("type 'enum' without 'values'", "a list of the values it may have")
    yield from _each_once(at, values, "value")


def _each_once(at: Location, names: list[str], word: str) -> Broken:
    """Names that a model and a reference are held to: two that read alike would be one to one and two to the other."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*at, index), wording(f"{word} {name!r} a second time", f"each {word} once")
        elif (other := next((one for one in names[:index] if alike(one) == alike(name)), None)) is not None:
            found = f"{word} {name!r}, which differs from {other!r} in case or form only"
            yield (*at, index), wording(found, f"{word}s that are read apart")
        if not name.isprintable():
            yield (*at, index), wording(f"{word} {name!r}", "text without control characters")
        elif not name or name != name.strip():
            yield (*at, index), wording(f"{word} {name!r}", "text without spaces around it")


def _source(data: dict[str, Any]) -> Broken:
    yield from _source_text(_mapping(data, "source").get("text"))
    attributes = _texts(_mapping(data, "source"), "attributes")
    for index, attribute in enumerate(attributes):
        at: Location = ("source", "attributes", index)
        if attribute in PROMPT_WORDS:
            yield at, wording(f"attribute {attribute!r}, which templates use for something else", "another column name")
        if attribute in attributes[:index]:
            yield at, wording(f"attribute {attribute!r} a second time", "each attribute once")


def _source_text(text: Any) -> Broken:
    at: Location = ("source", "text")
    if isinstance(text, list):
        if not text:
            yield at, wording("an empty list as source.text", "at least one column")
        for index, name in enumerate(text):
            if isinstance(name, str) and name in text[:index]:
                yield (*at, index), wording(f"column {name!r} a second time", "each column once")
            elif isinstance(name, str) and "{{" in name:
                yield (*at, index), wording(f"{name!r} in a list", "names of columns, or one text with {{ column }}")
    elif isinstance(text, str):
        names, rest = HOLE.findall(text), HOLE.sub("", text)
        if "" in names or (("{{" in rest or "}}" in rest) and (names or "{{" in rest)):
            yield at, wording(f"braces without a column in {text!r}", "{{ column }}, once for each column")


def _redaction(data: dict[str, Any]) -> Broken:
    if "redaction" not in data:
        return
    if installed() is None:
        found = f"'redaction', and {PACKAGE} is not installed"
        yield ("redaction",), wording(found, f"it where what finds them is there: {INSTALL}")
    redaction = _mapping(data, "redaction")
    for index, kind in enumerate(_texts(redaction, "kinds")):
        if kind in NEED_A_MODEL:
            allowed = "what patterns find; names and places need a model, which is not fetched"
            yield ("redaction", "kinds", index), wording(f"kind {kind!r}", allowed)
        elif kind not in KINDS:
            yield ("redaction", "kinds", index), wording(f"kind {kind!r}", listed(KINDS), nearest(kind, KINDS))
    for kind, pattern in _mapping(redaction, "patterns").items():
        at: Location = ("redaction", "patterns", kind)
        if not KIND.fullmatch(kind) or kind in KINDS:
            yield at, wording(f"kind {kind!r}", "a name of capital letters, digits and _ that Presidio does not have")
        if isinstance(pattern, str) and (broken := _pattern_mistake(pattern)) is not None:
            yield at, wording(f"pattern {pattern!r}, which ends in an error ({broken})", "a regular expression")


def _references(data: dict[str, Any]) -> Broken:
    references = data.get("references")
    if isinstance(references, dict):
        if data.get("task") == "classify" and references.get("answer") is None:
            yield ("references",), wording("no 'answer' in references", "the column that holds the label")
        yield from _renamed_labels(data, references, at=("references", "labels"))
        yield from _renamed_fields(data, references, at=("references", "fields"))
        if references.get("splits") and references.get("split") is None:
            found = "splits without 'split'"
            yield ("references", "splits"), wording(found, "'split', the column that holds what they rename")
        return
    gates = _mapping(_mapping(data, "evaluation"), "gates")
    if references is None and gates.get("accuracy") is not None:
        at = ("evaluation", "gates", "accuracy")
        yield at, wording("a gate on accuracy without references", "'references', a table of known answers")


def _renamed_labels(data: dict[str, Any], references: dict[str, Any], *, at: Location) -> Broken:
    named, labels = _mapping(references, "labels"), _texts(data, "labels")
    if named and data.get("task") in ("extract", "generate"):
        yield at, wording(f"labels for task {data['task']!r}", "labels only for task 'classify'", "classify")
        return
    for given, label in named.items():
        if isinstance(label, str) and labels and label not in labels:
            yield (*at, given), wording(f"label {label!r}", listed(labels), nearest(label, labels))


def _renamed_fields(data: dict[str, Any], references: dict[str, Any], *, at: Location) -> Broken:
    named, fields = _mapping(references, "fields"), list(_mapping(data, "fields"))
    if named and data.get("task") in ("classify", "generate"):
        yield at, wording(f"fields for task {data['task']!r}", "fields only for task 'extract'", "extract")
        return
    taken: dict[str, str] = {}
    for column, field in named.items():
        if not isinstance(field, str):
            continue
        if fields and field not in fields:
            turned = f" (it is written column: field; {column!r} is a field)" if column in fields else ""
            yield (*at, column), wording(f"field {field!r}{turned}", listed(fields), nearest(field, fields))
        elif field in taken:
            found = f"field {field!r} for column {column!r} and for {taken[field]!r}"
            yield (*at, column), wording(found, "each field from one column")
        taken.setdefault(field, column)


def _slices(data: dict[str, Any]) -> Broken:
    attributes = _texts(_mapping(data, "source"), "attributes")
    for index, name in enumerate(_texts(_mapping(data, "evaluation"), "slices")):
        if name not in attributes:
            text = wording(
                f"slice {name!r}", f"an attribute of the source ({listed(attributes)})", nearest(name, attributes)
            )
            yield ("evaluation", "slices", index), text


def _scorers(data: dict[str, Any]) -> Broken:
    evaluation = _mapping(data, "evaluation")
    listed_scorers = _texts(evaluation, "scorers")
    for index, text in enumerate(listed_scorers):
        at: Location = ("evaluation", "scorers", index)
        if text in listed_scorers[:index]:
            yield at, wording(f"scorer {text!r} a second time", "each scorer once")
        try:
            kind, argument = scorer_parts(text)
        except ValueError as error:
            yield at, wording(f"scorer {text!r}", str(error), nearest(text, PLAIN_SCORERS))
            continue
        if kind == "fields" and data.get("task") in ("classify", "generate"):
            yield at, wording(f"scorer 'fields' for task {data['task']!r}", "'fields' only for task 'extract'")
        if kind == "regex" and argument is not None and (broken := _pattern_mistake(argument)) is not None:
            yield at, wording(f"pattern {argument!r}, which ends in an error ({broken})", "a regular expression")
    cluster, attributes = evaluation.get("cluster"), _texts(_mapping(data, "source"), "attributes")
    if isinstance(cluster, str) and cluster not in attributes:
        allowed = f"an attribute of the source ({listed(attributes)})"
        yield ("evaluation", "cluster"), wording(f"cluster {cluster!r}", allowed, nearest(cluster, attributes))
    for key in ("metrics", "panels"):
        for index, text in enumerate(_texts(evaluation, key)):
            if not OWN_FUNCTION.fullmatch(text):
                yield ("evaluation", key, index), wording(f"{text!r}", "module:function, such as grading:strict")


def _pattern_mistake(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None


def _gates(data: dict[str, Any]) -> Broken:
    evaluation = _mapping(data, "evaluation")
    gates, first = _mapping(evaluation, "gates"), next(iter(_texts(evaluation, "scorers")), "")
    at: Location = ("evaluation", "gates")
    if gates.get("slices") is not None and not evaluation.get("slices"):
        yield (*at, "slices"), wording("a gate on slices without slices", "'evaluation.slices', a list of attributes")
    yield from _added_gates(data, evaluation, gates)
    if data.get("references") is None:
        for name in (
            *ADDED_GATES,
            "slices",
            "regression",
            "cost_usd_per_correct_answer",
            "latency_seconds_per_correct_answer",
        ):
            if gates.get(name):
                found = f"a gate on {name} without references"
                yield (*at, name), wording(found, "'references', a table of known answers")
    if first.startswith("judge:") and gates.get("accuracy") is not None and gates.get("judge_agreement") is None:
        found = f"a gate on the verdicts of {first!r} without one on its agreement with people"
        yield (*at, "accuracy"), wording(found, "'judge_agreement', with a minimum and its reason")


def _added_gates(data: dict[str, Any], evaluation: dict[str, Any], gates: dict[str, Any]) -> Broken:
    """Gates on labels, fields and metrics name some that there are."""
    at: Location = ("evaluation", "gates")
    task = data.get("task")
    for name, wanted in (
        ("macro_f1", "classify"),
        ("kappa", "classify"),
        ("labels", "classify"),
        ("fields", "extract"),
    ):
        if gates.get(name) and task in get_args(Task) and task != wanted:
            yield (*at, name), wording(f"a gate on {name} for task {task!r}", f"it only for task {wanted!r}")
    own = [text.partition(":")[2] for text in _texts(evaluation, "metrics")]
    known = {
        "labels": _texts(data, "labels"),
        "fields": list(_mapping(data, "fields")),
        "metrics": [*_texts(evaluation, "scorers")[1:], *own],
    }
    for key, names in known.items():
        for name in _mapping(gates, key):
            if name not in names and (names or key == "metrics"):
                allowed = listed(names) if names else "a scorer after the first, or a function of 'evaluation.metrics'"
                yield (*at, key, name), wording(f"a gate on {name!r}", allowed, nearest(name, names))


def _review(data: dict[str, Any]) -> Broken:
    labels = _texts(data, "labels")
    for label in _mapping(_mapping(data, "review"), "labels"):
        if label not in labels:
            text = wording(f"label {label!r}", listed(labels), nearest(str(label), labels))
            yield ("review", "labels", label), text


def _budget(data: dict[str, Any], unpriced: Collection[str]) -> Broken:
    budget = _mapping(data, "budget")
    tokens = budget.get("tokens")
    for name, variant in _mapping(data, "variants").items():
        if not isinstance(variant, dict):
            continue
        most = _mapping(variant, "sampling").get("max_tokens")
        if isinstance(tokens, int) and isinstance(most, int) and tokens <= most:
            allowed = f"more than {most}, which one answer of {name!r} may take"
            yield ("budget", "tokens"), wording(f"a budget of {tokens} tokens", allowed)
        of_month = _mapping(budget, "month").get("cost_usd")
        if (budget.get("cost_usd") or of_month) is not None and variant.get("model") in unpriced:
            found = f"a budget in money, and model {variant['model']!r} of {name!r} has no price"
            allowed = "its price_per_gpu_hour_usd or price_per_million_input_tokens_usd in models.lock.yaml"
            yield (
                ("budget", "cost_usd") if of_month is None else ("budget", "month", "cost_usd"),
                wording(found, allowed),
            )


def _variant(data: dict[str, Any], name: str, variant: dict[str, Any]) -> Broken:
    at: Location = ("variants", name)
    task = data.get("task")
    logprobs = variant.get("decision") == "logprobs"
    if not NAME.fullmatch(name):
        yield at, wording(f"variant name {name!r}", f"text that matches {NAME_PATTERN}")
    if logprobs and task in ("extract", "generate"):
        text = wording(
            f"decision 'logprobs' for task {task!r}", "'text' (log-probabilities choose among labels)", "text"
        )
        yield (*at, "decision"), text
    if variant.get("calibrate") is True and not logprobs:
        yield (*at, "calibrate"), wording("calibrate with decision 'text'", "calibrate only with decision: logprobs")
    if variant.get("calibrate") is True and data.get("references") is None:
        yield (*at, "calibrate"), wording("calibrate without references", "'references', a table of known answers")


def _recordings(data: dict[str, Any], folder: Path) -> Broken:
    """Variants that were recorded: their file is there, and what is renamed is something of ours."""
    variants = _mapping(data, "variants")
    recorded = {name: one for name, one in variants.items() if isinstance(one, dict) and "predictions" in one}
    if recorded and len(recorded) == len(variants):
        found = "only recorded predictions as variants"
        yield (
            ("variants",),
            wording(found, "at least one with a prompt and a model, since a recording answers nothing new"),
        )
    for name, variant in recorded.items():
        at: Location = ("variants", name)
        given = variant["predictions"]
        predictions = {"url": given} if isinstance(given, str) else given
        if not NAME.fullmatch(name):
            yield at, wording(f"variant name {name!r}", f"text that matches {NAME_PATTERN}")
        if not isinstance(predictions, dict):
            continue
        yield from _renamed_labels(data, predictions, at=(*at, "predictions", "labels"))
        yield from _renamed_fields(data, predictions, at=(*at, "predictions", "fields"))
        url = predictions.get("url")
        if isinstance(url, str) and not (folder / url).is_file():
            allowed = f"a file in {folder}, or a path from there; tables of a warehouse are exported first"
            yield (*at, "predictions"), wording(f"predictions {url!r}", allowed)


def _adapter(data: dict[str, Any], name: str, variant: dict[str, Any]) -> Broken:
    """An adapter is trained for one prompt on one model; under another it says nothing anybody measured."""
    adapter, known = variant.get("adapter"), _mapping(data, "finetuning")
    at: Location = ("variants", name)
    if not isinstance(adapter, str):
        return
    if adapter not in known:
        allowed = (
            f"a name under 'finetuning' ({listed(sorted(known))})" if known else "'finetuning', which names adapters"
        )
        yield (*at, "adapter"), wording(f"adapter {adapter!r}", allowed, nearest(adapter, sorted(known)))
        return
    for key in ("prompt", "model") if isinstance(known[adapter], dict) else ():
        trained, used = known[adapter].get(key), variant.get(key)
        if isinstance(trained, str) and isinstance(used, str) and trained != used:
            found = f"{key} {used!r} with adapter {adapter!r}"
            yield (*at, key), wording(found, f"the {key} that it is trained for, {trained!r}", trained)


def _finetuning(data: dict[str, Any], folder: Path, models: Collection[str] | None) -> Broken:
    for name, adapter in _mapping(data, "finetuning").items():
        at: Location = ("finetuning", name)
        if not NAME.fullmatch(name):
            yield at, wording(f"adapter name {name!r}", f"text that matches {NAME_PATTERN}")
        if data.get("references") is None:
            yield at, wording("fine-tuning without references", "'references', a table of known answers")
        if isinstance(adapter, dict):
            yield from _prompt_file(at, adapter, folder)
            yield from _model(at, adapter, models)


def _prompt_file(at: Location, variant: dict[str, Any], folder: Path) -> Broken:
    prompt = variant.get("prompt")
    known = prompt_names(folder)
    if isinstance(prompt, str) and prompt not in known:
        stem = prompt.removeprefix(f"{PROMPTS_FOLDER}/").removesuffix(".md")
        suggestion = stem if stem in known else nearest(stem, known)
        allowed = f"the name of a file in {folder / PROMPTS_FOLDER} without '.md' ({listed(known)})"
        yield (*at, "prompt"), wording(f"prompt {prompt!r}", allowed, suggestion)


def _model(at: Location, variant: dict[str, Any], models: Collection[str] | None) -> Broken:
    model = variant.get("model")
    if models is not None and isinstance(model, str) and model not in models:
        text = wording(
            f"model {model!r}", f"an entry of the lock file ({listed(sorted(models))})", nearest(model, models)
        )
        yield (*at, "model"), text


def prompt_names(folder: Path) -> list[str]:
    """Names of the prompt files of an application's folder, sorted."""
    return [path.stem for path in markdown_files(folder / PROMPTS_FOLDER)]
