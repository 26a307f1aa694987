"""Verdicts as files: CSV and JSON Lines, out and in."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_platform.application.model import Application
from llm_platform.errors import ContractBroken, StorageError
from llm_platform.records import IMPORTED, Annotation, ReviewRole, Verdict, canonical_json, content_hash
from llm_platform.review.items import clean_tag, comparable
from llm_platform.tables.delimited import delimited_header, delimited_rows
from llm_platform.tables.forms import impossible, one_form, stored, text_of
from llm_platform.tables.json_rows import NameTwice, json_value

COLUMNS = tuple(Annotation.model_fields)
REQUIRED = ("document_id",)
KNOWN = ("document_id", "fingerprint", "release_id", "verdict", "judged", "answer", "note", "tags", "by", "at")
MOST_MISTAKES = 20
SHOWN_CHARACTERS = 40
FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet takes for a formula, or that was kept from being one."""


@dataclass(frozen=True)
class Importing:
    """Who reads a file, and what is not the file's to say.

    Attributes:
        importer: Who reads it, and answers for what it says.
        by: Who judged, where a row does not say.
        at: Now; also when a row was judged that does not say, or names a time to come.
        roles: Person → role, of the people file.
    """

    importer: str
    by: str
    at: datetime
    roles: Mapping[str, ReviewRole]


def written(rows: Sequence[Mapping[str, Any]], suffix: str) -> str:
    """Rows as the text of a `.csv` or `.jsonl` file, one annotation a line; `import` reads it back.

    What documents, models and people say must not run in a spreadsheet: in CSV a `'` stands in front of a formula.

    Raises:
        ContractBroken: the suffix is neither.
    """
    plain = [{name: _plain(row[name]) for name in COLUMNS} for row in rows]
    if suffix == ".jsonl":
        return "".join(canonical_json(row) + "\n" for row in plain)
    if suffix != ".csv":
        raise _unknown_suffix(suffix)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        [{name: "" if value is None else _no_formula(value) for name, value in row.items()} for row in plain]
    )
    return out.getvalue()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _as_it_was(value: Any) -> Any:
    """What `_no_formula` was given."""
    return value[1:] if isinstance(value, str) and value.startswith("'") and FORMULA.match(value) else value


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def read_annotations(
    path: Path, application: Application, *, known: Mapping[str, str], importing: Importing
) -> list[Annotation]:
    """Annotations of a file: one that `written` made, or a table of answers with at least `document_id` and `answer`.

    The same row has the same id, so a file that is imported twice adds nothing. Whatever a file says of queues, roles
    and blindness, its rows are imported ones: see `warehouse.annotations` for what those may decide.

    Args:
        path: `.csv` or `.jsonl`.
        application: Says what an answer may be.
        known: Document id → fingerprint of the documents as they are now.
        importing: Who reads it, and what the file may not say.

    Raises:
        ContractBroken: lists the mistakes as `file:line: …`; nothing was read then.
        StorageError: the file cannot be read.
    """
    rows: list[Annotation] = []
    mistakes: list[str] = []

    def read(number: int, row: Mapping[str, Any]) -> None:
        try:
            rows.extend(_annotations(row, application, known=known, importing=importing))
        except ContractBroken as error:
            mistakes.append(f"{path}:{number}: {error}")

    content = _content(path)
    file_hash = hashlib.sha256(content).hexdigest()
    for number, row in _lines(path, content, mistakes.append):
        read(number, row)
    if mistakes:
        more = f"\n… and {len(mistakes) - MOST_MISTAKES} more" if len(mistakes) > MOST_MISTAKES else ""
        raise ContractBroken("\n".join(mistakes[:MOST_MISTAKES]) + more + "\nNothing was imported.")
    return [_imported(row, importing, file_hash) for row in {row.annotation_id: row for row in rows}.values()]


def _imported(row: Annotation, importing: Importing, file_hash: str) -> Annotation:
    """A row with what holds for every imported one, whatever its file says."""
    return row.model_copy(
        update={
            "queue": IMPORTED,
            "role": importing.roles.get(row.by),
            "blind": None,
            "at": min(row.at, importing.at),
            "imported_by": importing.importer,
            "imported_at": importing.at,
            "imported_from": file_hash,
        }
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"Cannot read {str(path)!r}: {error.strerror}.") from error


def _lines(path: Path, content: bytes, complain: Callable[[str], None]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, row) of a file; complains of lines that are no rows."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ContractBroken(f"{path}: not UTF-8, at byte {error.start}. Save it as UTF-8.") from error
    if path.suffix == ".jsonl":
        yield from _json_lines(path, text, complain)
    elif path.suffix == ".csv":
        yield from _csv_lines(path, text, complain)
    else:
        raise _unknown_suffix(path.suffix)


def _json_lines(path: Path, text: str, complain: Callable[[str], None]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json_value(line, "the line")
        except NameTwice as error:
            complain(f"{path}:{number}: {error}")
            continue
        except ContractBroken:
            complain(f"{path}:{number}: not JSON")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            complain(f"{path}:{number}: found a {type(row).__name__}, expected an object with 'document_id'")


def _csv_lines(path: Path, text: str, complain: Callable[[str], None]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = delimited_header(io.StringIO(text, newline=""), str(path), default=",")
    missing = [name for name in REQUIRED if name not in header]
    doubled = [name for name in header if name and header.count(name) > 1]
    if missing or doubled:
        found = f"no column {', '.join(map(repr, missing))}" if missing else f"column {doubled[0]!r} more than once"
        complain(f"{path}:1: found {found}, expected a header with each name once, {REQUIRED[0]!r} among them")
        return

    def ragged(number: int) -> None:
        complain(f"{path}:{number}: the number of cells is not that of the header")

    rows = delimited_rows(io.StringIO(text, newline=""), str(path), default=",", ragged=ragged)
    try:
        for number, row in rows:
            # What a person has written is as it stands there.
            said = map(_as_it_was, row.values()) if row.get("annotation_id") else row.values()
            yield number, {name: value or None for name, value in zip(row, said, strict=True) if name}
    except ContractBroken as error:
        complain(f"{path}: {error}")


def _annotations(
    row: Mapping[str, Any], application: Application, *, known: Mapping[str, str], importing: Importing
) -> list[Annotation]:
    if row.get("annotation_id"):
        return [_exported(row, application)]
    unknown = sorted(set(row) - set(KNOWN))
    if unknown:
        raise ContractBroken(f"unknown column {unknown[0]!r}; known are {', '.join(KNOWN)}")
    document_id = _key(row)
    fingerprint = _words(row, "fingerprint") or known.get(document_id)
    if not fingerprint:
        raise ContractBroken(f"document {document_id!r} is not stored, and the row has no 'fingerprint' of its text")
    answer = _answer(row.get("answer"), application)
    verdict = _verdict(row, answer)
    tags, note, by = _tags(row.get("tags")), _words(row, "note").strip(), _words(row, "by") or stored(importing.by)
    if verdict is None and not tags and not note:
        raise ContractBroken("the row has neither 'answer' nor 'verdict', 'tags' or 'note'")
    shared = {
        "document_id": document_id,
        "fingerprint": fingerprint,
        "by": by,
        "at": _time(row.get("at")) or importing.at,
    }
    identity = {**row, "document_id": document_id, "by": shared["by"]}
    group_id = "import-" + content_hash(
        {name: stored(str(value)) for name, value in identity.items() if value is not None}
    )
    made: list[dict[str, Any]] = []
    if verdict is not None:
        release_id = _words(row, "release_id") or None
        kind = ("answer", f"{release_id}/{document_id}") if release_id else ("document", document_id)
        judged = _answer(row.get("judged"), application)
        subject = {"subject_kind": kind[0], "subject_id": kind[1], "release_id": release_id}
        made.append({"kind": "verdict", "verdict": verdict, "answer": answer, "judged": judged, **subject})
    made += [{"kind": "tag", "body": tag, "subject_kind": "document", "subject_id": document_id} for tag in tags]
    made += [{"kind": "note", "body": note, "subject_kind": "document", "subject_id": document_id}] if note else []
    return [
        Annotation(annotation_id=f"{group_id}-{number}", group_id=group_id, **shared, **values)
        for number, values in enumerate(made)
    ]


def _exported(row: Mapping[str, Any], application: Application) -> Annotation:
    """A row that `written` wrote; what it says is checked as if a person had typed it."""
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown:
        raise ContractBroken(f"unknown column {unknown[0]!r} in a row with an 'annotation_id'")
    values = {name: row.get(name) for name in COLUMNS}
    if isinstance(values["blind"], str):
        values["blind"] = values["blind"].lower() == "true"
    values["at"], values["imported_at"] = _time(values["at"]), None
    values["answer"] = _answer(values["answer"], application)
    values["document_id"] = _key(row) or None
    values |= {name: stored(value) for name, value in values.items() if isinstance(value, str)}
    try:
        return Annotation.model_validate(values)
    except ValueError as error:
        fields = sorted({str(mistake["loc"][0]) for mistake in getattr(error, "errors", list)()})
        raise ContractBroken(f"column {', '.join(map(repr, fields))} has a value that it cannot have") from error


def _words(row: Mapping[str, Any], column: str) -> str:
    """What a row says in a column of words; empty where it says nothing."""
    value = row.get(column)
    if isinstance(value, list | dict | bool):
        raise ContractBroken(f"column {column!r} is a {type(value).__name__}, expected a text")
    return stored(text_of(value) or "")


def _key(row: Mapping[str, Any]) -> str:
    """The document's key in the form that documents have; empty where the row names none."""
    key = one_form(text_of(row.get("document_id")) or "")
    if (why := impossible(key)) is not None:
        raise ContractBroken(f"the key {key[:SHOWN_CHARACTERS]!a} is impossible: it {why}")
    return key


def _answer(value: Any, application: Application) -> str | None:
    text = text_of(value)
    if text is None:
        return None
    if application.task == "classify":
        if one_form(text) not in application.labels:
            raise ContractBroken(f"the answer is not a label; labels are {', '.join(application.labels)}")
        return one_form(text)
    if application.task != "extract":
        return stored(one_form(text))
    try:
        fields = json_value(value, "the answer") if isinstance(value, str) else value
    except NameTwice:
        raise
    except ContractBroken as error:
        raise ContractBroken("the answer is not JSON") from error
    unknown = sorted(set(fields) - set(application.fields)) if isinstance(fields, dict) else ["(no object)"]
    if unknown:
        raise ContractBroken(f"the answer has the field {unknown[0]!r}; fields are {', '.join(application.fields)}")
    return comparable(canonical_json(fields), application)


def _verdict(row: Mapping[str, Any], answer: str | None) -> Verdict | None:
    said = row.get("verdict")
    if said is None:
        return Verdict.CORRECTED if answer is not None else None
    # Never quoted: in a table whose columns were mixed up it is a text.
    if not isinstance(said, str) or said not in set(Verdict):
        raise ContractBroken(f"column 'verdict' is not one of {', '.join(Verdict)}")
    verdict = Verdict(said)
    if verdict in (Verdict.RIGHT, Verdict.CORRECTED) and answer is None:
        raise ContractBroken(f"verdict {verdict.value!r} needs an 'answer'")
    return verdict


def _tags(value: Any) -> list[str]:
    given = value.split(";") if isinstance(value, str) else value or []
    if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
        raise ContractBroken("column 'tags' is neither texts separated by ';' nor a list of texts")
    return list(dict.fromkeys(clean_tag(stored(tag)) for tag in given if tag.strip()))


def _time(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        time = datetime.fromisoformat(str(value))
        # The first and the last hours there are have none elsewhere.
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ContractBroken("column 'at' is not a time such as 2026-03-31T12:00:00+00:00") from error


def _unknown_suffix(suffix: str) -> ContractBroken:
    return ContractBroken(f"Cannot use a file that ends in {suffix!r}; use .csv or .jsonl.")
