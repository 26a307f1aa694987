"""Which columns of a file are the key, the text and the known answers of its documents."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from llm_platform.application.source_text import is_template, text_columns
from llm_platform.errors import PlatformError, SpecificationError
from llm_platform.records import Task
from llm_platform.tables.folders import TableFiles, table_files
from llm_platform.tables.forms import LONGEST_KEY, impossible, one_form, storable, text_of
from llm_platform.tables.places import look_into

MAX_ROWS = 200_000
"""Rows that are looked at; a longer file is judged by its beginning."""
MAX_LABELS = 200
MAX_SLICES = 20
MAX_ENUM = 12
OFTEN = 5
"""Times that a value of a field must occur on average before its values are taken for a closed set."""
LONG_TEXT = 20
"""Mean characters from which a column without a telling name may be the text."""

KEY_NAMES = ("id", "key", "document_id", "uuid", "guid")
TEXT_NAMES = (
    *("text", "body", "content", "narrative", "review", "message", "comment", "description"),
    *("document", "abstract", "summary", "title"),
)
ANSWER_NAMES = (
    "label",
    "answer",
    "sentiment",
    "category",
    "intent",
    "class",
    "target",
    "truth",
    "expected",
    "reference",
)
TRAIN_NAMES = frozenset({"train", "training"})
VALIDATION_NAMES = frozenset({"val", "valid", "validation", "dev"})
EVALUATION_NAMES = frozenset({"test", "testing", "eval", "evaluation", "holdout", "held_out"})
TAKEN_NAMES = frozenset({"text", "examples", "labels", "loop", "split"})

Table = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """Columns that an application reads.

    Attributes:
        answers: Values of the column of known answers, for `classify`.
        commonest: The most frequent of them and its share.
        rows: How many rows were looked at.
        unlabelled: How many of them have no known answer.
        text: As `source.text` has it: one column, several, or a template of them.
        splits: What the values of `split` mean, where they are not ours.
        fields: Names in known answers that are objects, for `extract`.
        values: Of the fields that have few.
        attributes: Columns with few values, to slice by.
    """

    key: str
    text: str | tuple[str, ...]
    answer: str | None = None
    split: str | None = None
    answers: frozenset[str] = frozenset()
    commonest: tuple[str, float] | None = None
    rows: int = 0
    unlabelled: int = 0
    splits: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: tuple[str, ...] = field(default=())


def read_table(path: Path) -> Table:
    """Columns of the first rows of a file, read as a run reads it.

    Raises:
        SpecificationError: there is no such file, it cannot be read, or it has no rows.
    """
    try:
        place = look_into(str(path))
        rows = list(islice(TableFiles(table_files(place), place.name).rows(), MAX_ROWS))
    except PlatformError as error:
        said = str(error)
        raise SpecificationError(said if said.startswith("Cannot read") else f"Cannot read it: {said}") from error
    names = dict.fromkeys(name for row in rows for name in row if name)
    if not rows or not names:
        raise SpecificationError(f"{str(path)!r} has no rows. Give a file with documents.")
    table = {name: [row.get(name) for row in rows] for name in names}
    _require_encoding(table, path)
    return table


def _require_encoding(table: Table, path: Path) -> None:
    """A text in a wrong encoding is a document with a reason; a file of them is a file in a wrong encoding."""
    texts = [value for values in table.values() for value in values if isinstance(value, str) and not value.isascii()]
    broken = sum(not storable(value) for value in texts)
    if broken * 2 > len(texts):
        raise SpecificationError(
            f"Cannot read {str(path)!r} as UTF-8: {broken} of {len(texts)} texts with other letters than English ones "
            "are in another encoding. Save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
        )


def guess_columns(
    table: Table, path: Path, *, task: Task, key: str | None, text: str | None, answer: str | None
) -> Columns:
    """Columns of a file for an application, from the names given and from what the columns hold.

    Raises:
        SpecificationError: a given column is not there or cannot be the key, or none can be guessed.
    """
    given_text = None if text is None else named_text(text, table)
    named = [("--text", name) for name in (() if given_text is None else text_columns(given_text))]
    for flag, name in (("--key", key), *named, ("answer", answer)):
        if name is not None and name not in table:
            close = difflib.get_close_matches(name, table, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise SpecificationError(f"{str(path)!r} has no column {name!r} ({flag}); it has {_listed(table)}.{hint}")
    chosen_key = key or _guessed_key(table)
    chosen_text = given_text or _guessed_text(table, chosen_key)
    missing = [flag for flag, name in (("--key", chosen_key), ("--text", chosen_text)) if name is None]
    if chosen_key is None or chosen_text is None:
        raise SpecificationError(
            f"Cannot tell from the columns of {str(path)!r} which one is the "
            f"{' and the '.join(flag[2:] for flag in missing)} of a document. "
            f"Columns: {_listed(table)}. Give {' and '.join(missing)}.{'' if chosen_key else _passed_over(table)}"
        )
    if not _is_key(table[chosen_key]):
        raise SpecificationError(
            f"Column {chosen_key!r} of {str(path)!r} cannot be the key: {_no_key(table[chosen_key])}. Give another "
            f"--key; columns: {_listed(table)}."
        )
    chosen_answer = answer or _guessed_answer(table, task, {chosen_key, *text_columns(chosen_text)})
    if chosen_answer is not None and task == "classify":
        _require_labels(table[chosen_answer], chosen_answer, path)
    return _described(table, task, chosen_key, chosen_text, chosen_answer)


def named_text(text: str, columns: Iterable[str] = ()) -> str | tuple[str, ...]:
    """`--text` as `source.text` has it: a column, a template, or columns separated by commas."""
    if text in columns or is_template(text) or "," not in text:
        return text
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _text(value: Any) -> str:
    """A value as a key or a label; empty where there is none."""
    return one_form(text_of(value) or "")


def _is_key(values: Sequence[Any]) -> bool:
    keys = [_text(value) for value in values]
    nested = any(isinstance(value, Mapping | list) for value in values)
    return not nested and all(keys) and len(set(keys)) == len(keys) and not any(map(impossible, keys))


def _require_labels(values: Sequence[Any], name: str, path: Path) -> None:
    """Refuse a column of known answers that cannot be labels; empty ones are unlabelled rows."""
    labels = {_text(value) for value in values} - {""}
    broken = [label for label in labels if not _is_label(label)]
    if broken:
        raise SpecificationError(
            f"Column {name!r} of {str(path)!r} has {len(broken)} values that cannot be labels: they have "
            "blanks around them, line ends, or characters that are no text. Clean them, or give another --answer."
        )
    if len(labels) > MAX_LABELS:
        raise SpecificationError(
            f"Column {name!r} of {str(path)!r} has {len(labels)} different values, more than {MAX_LABELS}: they are no "
            "labels. Give another --answer, or --task extract or generate."
        )


def _is_label(text: str) -> bool:
    return bool(text) and text == text.strip() and storable(text) and text.isprintable()


def _is_text(values: Sequence[Any]) -> bool:
    return all(value is None or isinstance(value, str | bytes) for value in values)


def _no_key(values: Sequence[Any]) -> str:
    """Why a column cannot be the key."""
    keys = [key for key in map(_text, values) if key]
    wrong = sum(impossible(key) is not None for key in keys)
    wrong += sum(isinstance(value, Mapping | list) for value in values)
    return (
        f"{len(values) - len(keys)} rows have none, {len(keys) - len(set(keys))} repeat one, and {wrong} are "
        f"impossible (a NUL, bytes that are no text, more than {LONGEST_KEY} bytes, or a list or an object)"
    )


def _named_as_keys(table: Table) -> list[str]:
    lower = {name.lower(): name for name in reversed(list(table))}
    named = [lower[name] for name in KEY_NAMES if name in lower]
    return named + [name for name in table if name.lower().endswith(("_id", "_key")) and name not in named]


def _guessed_key(table: Table) -> str | None:
    return next((name for name in _named_as_keys(table) if _is_key(table[name])), None)


def _passed_over(table: Table) -> str:
    """Why the column that is named as a key was not taken."""
    return "".join(f" Column {name!r} cannot be it: {_no_key(table[name])}." for name in _named_as_keys(table)[:1])


def _guessed_text(table: Table, key: str | None) -> str | None:
    texts = [name for name in table if name != key and _is_text(table[name])]
    lower = {name.lower(): name for name in reversed(texts)}
    named = next((lower[name] for name in TEXT_NAMES if name in lower), None)
    if named is not None:
        return named
    lengths = sorted(((_mean_length(table[name]), name) for name in texts), reverse=True)
    clear = len(lengths) == 1 or (len(lengths) > 1 and lengths[0][0] >= 2 * lengths[1][0])
    return lengths[0][1] if clear and lengths[0][0] >= LONG_TEXT else None


def _mean_length(values: Sequence[Any]) -> float:
    return sum(len(value) for value in values if value) / max(len(values), 1)


def _guessed_answer(table: Table, task: Task, taken: set[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(list(table)) if name not in taken}
    named = [lower[name] for name in ANSWER_NAMES if name in lower]
    if task == "classify":
        return next((name for name in named if _are_labels(table[name])), None)
    if task == "extract":
        return next((name for name in named if _are_objects(table[name])), None)
    return None  # a free text is not known word for word


def _are_labels(values: Sequence[Any]) -> bool:
    """Whether the values are two to many labels, in some rows or all."""
    if any(isinstance(value, Mapping | list) for value in values):
        return False
    labels = {_text(value) for value in values} - {""}
    return 2 <= len(labels) <= MAX_LABELS and all(map(_is_label, labels))


def _are_objects(values: Sequence[Any]) -> bool:
    given = [value for value in values if value is not None]
    return bool(given) and all(isinstance(value, Mapping) for value in given)


def _described(table: Table, task: Task, key: str, text: str | tuple[str, ...], answer: str | None) -> Columns:
    given = list(table[answer]) if answer else []
    known = [label for label in map(_text, given) if label] if task == "classify" else []
    objects = [value for value in given if isinstance(value, Mapping)] if task == "extract" else []
    taken = {key, *text_columns(text), answer} | TAKEN_NAMES
    labelled = [value not in (None, "") for value in given]
    # A row without an answer needs no split.
    splits = _meant_splits([split for split, used in zip(table.get("split", ()), labelled, strict=False) if used])
    common = Counter(known).most_common(1)
    return Columns(
        key=key,
        text=text,
        answer=answer,
        split="split" if splits else None,
        splits={name: ours for name, ours in splits.items() if name != ours},
        answers=frozenset(known),
        commonest=(common[0][0], common[0][1] / len(known)) if common else None,
        rows=len(table[key]),
        unlabelled=labelled.count(False),
        fields=tuple(dict.fromkeys(name for value in objects for name in value)),
        values=_closed_sets(objects),
        attributes=tuple(name for name in table if name not in taken and _slices(table[name])),
    )


def _meant_splits(values: Sequence[Any]) -> dict[str, str]:
    """What each value of a column of splits means; empty where one of them is no usual name, or a split is missing.

    A part for validation is there to choose prompts by, as training documents are here; where nothing else is held
    out, it is what is evaluated.
    """
    found = {str(value) for value in values}
    held_out = found & EVALUATION_NAMES or found & VALIDATION_NAMES
    if not found & TRAIN_NAMES or not held_out or not found <= TRAIN_NAMES | VALIDATION_NAMES | EVALUATION_NAMES:
        return {}
    return {name: "evaluation" if name in held_out else "train" for name in sorted(found)}


def _closed_sets(objects: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Fields of known answers with few values, each of which occurs often."""
    columns: dict[str, list[Any]] = {}
    for answer in objects:
        for name, value in answer.items():
            columns.setdefault(name, []).append(value)
    found = {}
    for name, values in columns.items():
        told = [value for value in values if value not in (None, "")]
        distinct = {value for value in told if isinstance(value, str) and value == value.strip()}
        is_closed = 2 <= len(distinct) <= MAX_ENUM and len(told) >= OFTEN * len(distinct)
        if is_closed and all(isinstance(value, str) and value in distinct for value in told):
            found[name] = tuple(sorted(distinct))
    return found


def _slices(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values) and 2 <= len(set(values)) <= MAX_SLICES < len(values)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
