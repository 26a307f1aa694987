"""A new application, written for a table that somebody has.

The folder that is written works as it stands: it can be checked, run and edited. What could not be seen in the table is
said in a comment, and what cannot be guessed is an error that names the flag to give.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from llm_platform.application.model import NAME_PATTERN
from llm_platform.application.rules import PROMPTS_FOLDER
from llm_platform.application.scaffold.columns import (
    MAX_LABELS,
    Columns,
    guess_columns,
    named_text,
    read_table,
)
from llm_platform.application.scaffold.text import Draft, application_yaml, prompt_text, readme
from llm_platform.errors import SpecificationError, StorageError
from llm_platform.extraction.kinds import is_document, media_type
from llm_platform.files import share, write_text
from llm_platform.records import Task
from llm_platform.tables.files import is_table_file
from llm_platform.tables.folders import is_part
from llm_platform.tables.forms import alike, one_form
from llm_platform.tables.places import S3, is_place_of_many, look_into

DEFAULT_MODEL = "smollm2-135m"
PROMPT_NAME = "first"


def new_application(
    name: str,
    source: str,
    folder: Path,
    *,
    task: str = "classify",
    labels: Sequence[str] = (),
    key: str | None = None,
    text: str | None = None,
    answer: str | None = None,
    model: str = DEFAULT_MODEL,
) -> Path:
    """Write the folder of a new application, and return it.

    Args:
        name: Name of the application and of its folder.
        source: A CSV, Parquet or JSON Lines file, a folder or a pattern of such, a folder of documents (PDF, mails, …),
            `s3://…`, or `warehouse.table`.
        folder: Where the application's folder is made.
        labels: For `classify`; without them, the values of the column of known answers.
        key: Column that names a document; guessed from a file's columns.
        text: Column that holds the text, several separated by commas, or a template of them; guessed from a file.
        answer: Column of known answers; guessed from a file's columns.
        model: Entry of the lock file.

    Raises:
        SpecificationError: the name is not allowed, the folder is there already, the file cannot be read, or columns or
            labels cannot be guessed.
    """
    target = folder / name
    checked_task = _checked(name, task, target)
    columns, place = _source(source, target, checked_task, key=key, text=text, answer=answer)
    if checked_task != "classify" and labels:
        raise SpecificationError(f"Labels were given for task {task!r}. Give them only with --task classify.")
    chosen = tuple(map(one_form, labels)) or tuple(sorted(columns.answers))
    if checked_task == "classify":
        _check_labels(name, chosen, columns)
    draft = Draft(name, checked_task, place, columns, chosen, model, PROMPT_NAME)
    _write(target, draft)
    return target


def _source(
    source: str, target: Path, task: Task, *, key: str | None, text: str | None, answer: str | None
) -> tuple[Columns, dict[str, str]]:
    """Columns of the source, and the keys of `application.yaml` that say where it is."""
    if not _is_file(source):
        place = _place(source)
        return _unseen(source, key, text, answer), place
    path = Path(source).expanduser().resolve()
    if path.is_dir() and _holds_documents(path):
        if answer is not None:
            raise SpecificationError(
                f"{source!r} holds documents and no table, so none of its columns is {answer!r}. Leave --answer out, "
                "and name a table of known answers under 'references' in application.yaml, by the paths of its files."
            )
        return Columns(key="path", text="text"), {"files": _portable(path, target.resolve())}
    columns = guess_columns(read_table(path), path, task=task, key=key, text=text, answer=answer)
    return columns, {"url": _portable(path, target.resolve())}


def _checked(name: str, task: str, target: Path) -> Task:
    if not re.fullmatch(NAME_PATTERN, name):
        raise SpecificationError(
            f"Application name {name!r} is not allowed. Use small letters, digits and underscores ({NAME_PATTERN})."
        )
    found = next((known for known in get_args(Task) if known == task), None)
    if found is None:
        raise SpecificationError(f"Task {task!r} is not known. Choose one of {', '.join(get_args(Task))}.")
    if target.exists():
        raise SpecificationError(f"{target} is there already and is not overwritten. Choose another name or folder.")
    result: Task = found
    return result


def _is_file(source: str) -> bool:
    if "://" in source:
        return False
    path = Path(source).expanduser()
    return is_table_file(source) or path.exists() or is_place_of_many(str(path))


def _holds_documents(folder: Path) -> bool:
    """Whether a folder has files that are documents, and none that is a table."""
    paths = [file.path for file in look_into(str(folder)).all_files]
    return not any(map(is_part, paths)) and any(is_document(path) and media_type(path) for path in paths)


def _unseen(source: str, key: str | None, text: str | None, answer: str | None) -> Columns:
    """Columns of a warehouse table, which is not read here."""
    if key is None or text is None:
        missing = " and ".join(flag for flag, value in (("--key", key), ("--text", text)) if value is None)
        raise SpecificationError(
            f"The columns of {source!r} are not read before the application runs. Give {missing}, the names of "
            "the column that names a document and of the column that holds its text."
        )
    return Columns(key=key, text=named_text(text), answer=answer)


def _place(source: str) -> dict[str, str]:
    if source.startswith(S3):
        return {"url": source}
    if "://" in source or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", source):
        raise SpecificationError(
            f"Source {source!r} is neither a file that ends in .csv, .tsv, .jsonl, .ndjson or .parquet, nor a folder "
            "or a pattern of such files, nor s3://…, nor a table written as warehouse.table. Copy what is elsewhere to "
            "this machine, or attach its store as a warehouse."
        )
    warehouse, table = source.split(".", maxsplit=1)
    return {"warehouse": warehouse, "table": table}


def _portable(path: Path, target: Path) -> str:
    """A path relative to the application's folder where both move together, else as it is.

    They do beside each other, and below the folder that one works in: it may be a checkout.
    """
    here = Path.cwd()
    together = path.is_relative_to(target.parent) or (path.is_relative_to(here) and target.is_relative_to(here))
    return os.path.relpath(path, target) if together else str(path)


def _check_labels(name: str, labels: Sequence[str], columns: Columns) -> None:
    if not labels:
        raise SpecificationError(
            f"Task 'classify' of {name!r} needs labels, and no column of known answers with 2 to {MAX_LABELS} values "
            "was found to take them from. Give --labels A,B, or choose --task extract or --task generate."
        )
    doubled = [label for n, label in enumerate(labels) if label in labels[:n]]
    if len(labels) < 2 or doubled:
        found = f"{doubled[0]!r} twice" if doubled else f"only {labels[0]!r}"
        raise SpecificationError(f"Labels of {name!r} have {found}. Give at least two different ones: --labels A,B.")
    for label, other in _alike(labels):
        raise SpecificationError(
            f"Labels of {name!r} have {label!r} and {other!r}, which differ in case or form only. Write them alike in "
            "the table, or give --labels and say in references.labels which label each value is."
        )
    unknown = sorted(columns.answers - set(labels))
    if unknown:
        raise SpecificationError(
            f"Column {columns.answer!r} has {len(unknown)} values that are not labels (first: {unknown[0]!r}). "
            "Give them in --labels as well, or leave --labels out to take them from the column."
        )


def _alike(labels: Sequence[str]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    return [(first[form], label) for label in labels if first.setdefault(form := alike(label), label) != label]


def _write(target: Path, draft: Draft) -> None:
    files = {
        "application.yaml": application_yaml(draft),
        f"{PROMPTS_FOLDER}/{draft.prompt}.md": prompt_text(draft),
        "README.md": readme(draft),
    }
    try:
        (target / PROMPTS_FOLDER).mkdir(parents=True)
        for folder in (target, target / PROMPTS_FOLDER):
            share(folder)
        for name, content in files.items():
            write_text(target / name, content, shared=True)
    except OSError as error:
        raise StorageError(f"Cannot write the application's folder {target}: {error.strerror}.") from error
