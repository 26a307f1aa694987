"""Rules about `publish` in `application.yaml`; as in `rules`, they read the plain values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from llm_platform.application.model import OWNER
from llm_platform.application.yaml.mistakes import listed, nearest, wording
from llm_platform.application.yaml.read import Location
from llm_platform.records.contracts import ANSWER, CURRENCY, KEY, STANDARD_COLUMNS, ColumnType

AT: Location = ("publish",)
STANDARD = {one.name: one.type for one in STANDARD_COLUMNS}
OWN_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
PASSWORD = re.compile(r"password\s*=|://[^/?#\s]*:[^/?#\s]*@", re.IGNORECASE)
POSTGRES = "postgres:"
Broken = Iterator[tuple[Location, str]]


def column_names(kinds: Mapping[str, str], renamed: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    """Column → (field that fills it, part of it).

    A field has a column of its own name, unless `publish.columns` gives it another one. What every row has already, or
    another field has in another case, gets `answer_` in front; an amount of money has a second column for its currency.

    Args:
        kinds: Field → type.
        renamed: Field → column.
    """
    taken = {ANSWER, *(name.lower() for name in STANDARD), *(name.lower() for name in renamed.values())}
    found: dict[str, tuple[str, str | None]] = {}

    def free(wanted: str) -> str:
        name, number = wanted, 1
        while not name or name.lower() in taken:
            name = f"{ANSWER}_{wanted}" if number == 1 else f"{ANSWER}_{wanted}_{number}"
            number += 1
        taken.add(name.lower())
        return name

    names = {field: renamed[field] if field in renamed else free(field) for field in kinds}
    for field, kind in kinds.items():
        found[names[field]] = (field, None)
        if kind == "money":
            found[free(f"{names[field]}_{CURRENCY}")] = (field, CURRENCY)
    return found


def publish_rules(data: dict[str, Any], folder: Path) -> Broken:
    """What of `publish` does not fit the task, its fields and labels, or the folder."""
    publish = data.get("publish")
    if not isinstance(publish, dict):
        return
    yield from _version(publish)
    owner = publish.get("owner")
    if isinstance(owner, str) and not OWNER.fullmatch(owner):
        yield (*AT, "owner"), wording(f"owner {owner!r}", "an address like 'jane@example.org', or 'team:' and its name")
    yield from _columns(data, publish)
    yield from _beside(data, publish)
    yield from _copies(publish)
    yield from _consumers(publish, folder)
    for index, text in enumerate(_texts(publish, "assets")):
        if not OWN_FUNCTION.fullmatch(text):
            yield (*AT, "assets", index), wording(f"{text!r}", "module:function, such as summaries:assets")


def _version(publish: dict[str, Any]) -> Broken:
    version, contract = publish.get("version"), publish.get("contract", 1)
    if not isinstance(version, str) or not isinstance(contract, int):
        return
    major = version.partition(".")[0]
    if major.isdigit() and int(major) != contract:
        allowed = f"a version that begins with {contract}, or 'contract: {major}', which makes a table beside that one"
        yield (*AT, "version"), wording(f"version {version!r} of contract {contract}", allowed)


def _fields(data: dict[str, Any]) -> dict[str, str] | None:
    """Field → type, of an extraction; None for other tasks, and where that cannot be told."""
    fields = data.get("fields")
    if data.get("task") != "extract" or not isinstance(fields, dict):
        return None
    return {name: str(one.get("type")) for name, one in fields.items() if isinstance(one, dict)}


def _columns(data: dict[str, Any], publish: dict[str, Any]) -> Broken:
    named = publish.get("columns", {})
    if not isinstance(named, dict) or data.get("task") not in ("classify", "extract", "generate"):
        return
    fields = _fields(data)
    if fields is None and data.get("task") == "extract":
        return
    known = fields or {}
    renamed: dict[str, str] = {}
    for name, column in named.items():
        field = column.get("field") if isinstance(column, dict) else None
        at: Location = (*AT, "columns", name)
        if isinstance(field, str) and fields is None:
            yield (
                (*at, "field"),
                wording(f"field for task {data['task']!r}", "field only for task 'extract'", "extract"),
            )
        elif isinstance(field, str):
            yield from _filled(at, name, field, known, renamed)
    kinds = {**STANDARD, **({ANSWER: "string"} if fields is None else {})}
    for name, (field, part) in column_names(known, renamed).items():
        kinds[name] = "string" if part or known[field] == "enum" else known[field]
    filled = {name for name, one in named.items() if isinstance(one, dict) and one.get("field") is not None}
    yield from _masks(publish, kinds, filled)
    for name, column in named.items():
        if not isinstance(column, dict):
            continue
        if name not in kinds and column.get("field") is None:
            allowed = listed(kinds) + ("" if fields is None else ", or 'field' with the field that fills it")
            yield (*AT, "columns", name), wording(f"column {name!r}", allowed, nearest(name, kinds))
        stated, kind = column.get("type"), kinds.get(name)
        if isinstance(stated, str) and kind is not None and stated != kind and stated in get_args(ColumnType):
            found = f"type {stated!r} of column {name!r}"
            yield (*AT, "columns", name, "type"), wording(found, f"{kind!r}, which it has", kind)


def _masks(publish: dict[str, Any], kinds: Mapping[str, str], filled: Collection[str]) -> Broken:
    masks = publish.get("masks")
    for name, mask in masks.items() if isinstance(masks, dict) else ():
        at: Location = (*AT, "masks", name)
        if name not in kinds and name not in filled:
            yield at, wording(f"column {name!r}", listed(kinds), nearest(name, kinds))
        elif name == "status":
            yield at, wording("a mask of 'status'", "it for readers, who see by it which rows have an answer")
        elif name == KEY and mask in ("redact", "drop"):
            yield at, wording(f"{mask!r} of {KEY!r}", "'hash', since every row has a key of its own", "hash")


def _filled(at: Location, name: str, field: str, known: Mapping[str, str], renamed: dict[str, str]) -> Broken:
    """Add to `renamed` that a field fills a column, unless it cannot."""
    taken = {ANSWER, *STANDARD, *(one.lower() for one in renamed.values()), *(one.lower() for one in known)} - {
        field.lower()
    }
    if field not in known:
        yield (*at, "field"), wording(f"field {field!r}", listed(known), nearest(field, known))
    elif field in renamed:
        found = f"field {field!r} in columns {renamed[field]!r} and {name!r}"
        yield at, wording(found, "each field in one column")
    elif not name or name.lower() in taken:
        yield at, wording(f"field {field!r} in column {name!r}, which another value has", "a name of its own")
    else:
        renamed[field] = name


def _beside(data: dict[str, Any], publish: dict[str, Any]) -> Broken:
    contract, beside = publish.get("contract", 1), publish.get("beside")
    fields, labels = _fields(data), _texts(data, "labels")
    for number, one in beside.items() if isinstance(beside, dict) and isinstance(contract, int) else ():
        at: Location = (*AT, "beside", number)
        if not re.fullmatch(r"[1-9]\d{0,8}", number) or int(number) == contract:
            yield at, wording(f"{number!r} as a contract beside {contract}", "the number of another one")
        if not isinstance(one, dict):
            continue
        for column, field in one["fields"].items() if isinstance(one.get("fields"), dict) else ():
            if fields is None and data.get("task") in ("classify", "generate"):
                found = f"fields for task {data['task']!r}"
                yield (*at, "fields"), wording(found, "fields only for task 'extract'", "extract")
                break
            if fields is not None and isinstance(field, str) and field not in fields:
                yield (*at, "fields", column), wording(f"field {field!r}", listed(fields), nearest(field, fields))
        for label in one["labels"] if isinstance(one.get("labels"), dict) else ():
            if data.get("task") in ("extract", "generate"):
                found = f"labels for task {data['task']!r}"
                yield (*at, "labels"), wording(found, "labels only for task 'classify'", "classify")
                break
            if labels and label not in labels:
                yield (*at, "labels", label), wording(f"label {label!r}", listed(labels), nearest(label, labels))


def _copies(publish: dict[str, Any]) -> Broken:
    copies, full = _texts(publish, "copies"), _texts(publish, "full_copies")
    for index, address in enumerate(full):
        beside = [one for one in copies if not one.startswith(POSTGRES) and _overlap(one, address)]
        if beside:
            allowed = "a place of its own, so that who may read the one may not read the other"
            yield (*AT, "full_copies", index), wording("tables without masks where the masked ones are", allowed)
    for key, index, address in [
        *(("copies", index, one) for index, one in enumerate(copies)),
        *(("full_copies", index, one) for index, one in enumerate(full)),
    ]:
        at: Location = (*AT, key, index)
        if address in _texts(publish, key)[:index]:
            yield at, wording("a copy a second time", "each place once")
        foreign = "://" in address and not address.startswith(("s3://", POSTGRES))
        if PASSWORD.search(address):
            yield at, wording("a password in an address", "it in PGPASSWORD, or in the file that PGPASSFILE names")
        elif foreign or not address.removeprefix(POSTGRES).strip():
            yield at, wording(f"{address!r}", "a folder, s3://bucket/prefix, or postgres: and a connection string")


def _overlap(one: str, other: str) -> bool:
    first, second = (f"{place.rstrip('/')}/" for place in (one, other))
    return first.startswith(second) or second.startswith(first)


def _consumers(publish: dict[str, Any], folder: Path) -> Broken:
    consumers = publish.get("consumers")
    for name, consumer in consumers.items() if isinstance(consumers, dict) else ():
        if not isinstance(consumer, dict):
            continue
        for index, query in enumerate(_texts(consumer, "queries")):
            if not (folder / query).is_file():
                allowed = f"a file of SQL in {folder}, or a path from there"
                yield (*AT, "consumers", name, "queries", index), wording(f"query {query!r}", allowed)


def _texts(data: dict[str, Any], key: str) -> list[str]:
    value = data.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
