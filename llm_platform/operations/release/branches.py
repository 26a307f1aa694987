"""Namespaces that read another's tables and write only their own.

A branch is a note beside a namespace's own catalog. In a cluster the same is the setting `LLM_PLATFORM_UPSTREAM`, and a
role of the catalog's database that may only read the upstream schema (`deploy/branch/role.sql`).
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.files import BRANCH_NOTE, noted_upstream, write_text


def make_branch(state: Path, name: str, upstream: str) -> str:
    """Write down that namespace `name` reads `upstream`; the catalog is made at first use.

    Raises:
        SpecificationError: the names are equal, or `name` reads something else already.
        StorageError: the state folder cannot be written.
    """
    if name == upstream:
        raise SpecificationError(f"Namespace {name!r} cannot read itself. Give the branch another name.")
    folder = state / "namespaces" / name
    note = folder / BRANCH_NOTE
    # A note that cannot be read is written anew.
    noted = upstream
    with suppress(SpecificationError):
        noted = noted_upstream(folder) or upstream
    if noted != upstream:
        raise SpecificationError(
            f"Namespace {name!r} already reads another namespace. First: llm-platform branch down {name}"
        )
    if not note.is_file() and (folder / "catalog.sqlite").exists():
        raise SpecificationError(f"Namespace {name!r} exists and is no branch. Give the branch another name.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Cannot make namespace {name!r} in {folder}: {error.strerror}.") from error
    write_text(note, json.dumps({"upstream": upstream, "made_at": datetime.now(UTC).isoformat()}))
    return name


def remove_branch(state: Path, name: str) -> None:
    """Delete a namespace that `make_branch` made, and nothing else.

    Raises:
        SpecificationError: the namespace is no branch.
    """
    folder = state / "namespaces" / name
    if not (folder / BRANCH_NOTE).is_file():
        raise SpecificationError(f"Namespace {name!r} is not a branch, so it stays. See: llm-platform state reset")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"Cannot delete {folder}: {error.strerror}.") from error
