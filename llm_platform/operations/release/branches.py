"""Namespaces that read another's tables and write only their own.

A branch is a note beside a namespace's own catalog. In a cluster the same is the setting `LLM_PLATFORM_UPSTREAM`, and a
role of the catalog's database that may only read the upstream schema (`deploy/branch/role.sql`).
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.files import BRANCH_NOTE, noted_upstream, write_text
from llm_platform.warehouse.lake import LakeLocation
from llm_platform.warehouse.removal import remove_lake


@dataclass(frozen=True)
class Branch:
    """A namespace that reads another one.

    Attributes:
        expires_at: None for one that stays until somebody takes it down.
        place: Its Kubernetes namespace; None for one of a state folder.
        bytes: What its state folder takes; None for one of a cluster.
    """

    name: str
    upstream: str
    made_at: datetime | None
    expires_at: datetime | None
    place: str | None = None
    bytes: int | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


def list_branches(state: Path) -> list[Branch]:
    """The branches of a state folder by name.

    Raises:
        SpecificationError: a note cannot be read.
    """
    found = []
    for note in sorted((state / "namespaces").glob(f"*/{BRANCH_NOTE}")):
        upstream = noted_upstream(note.parent)
        said = json.loads(note.read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in note.parent.rglob("*") if path.is_file())
        times = (time_of(said.get("made_at")), time_of(said.get("expires_at")))
        found.append(Branch(note.parent.name, upstream or "", *times, bytes=size))
    return found


def time_of(text: object) -> datetime | None:
    """A moment that a note says; None where it says none."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def make_branch(state: Path, name: str, upstream: str, *, expires_at: datetime | None = None) -> str:
    """Write down that namespace `name` reads `upstream`; the catalog is made at first use.

    Args:
        expires_at: When `down --expired` may take it down; another call moves it.

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
    said = {"upstream": upstream, "made_at": datetime.now(UTC).isoformat()}
    write_text(note, json.dumps(said | ({"expires_at": expires_at.isoformat()} if expires_at else {})))
    return name


def remove_branch(state: Path, name: str, lake: LakeLocation) -> None:
    """Delete a namespace that `make_branch` made, and nothing else.

    Args:
        lake: Of the namespace: on a shared catalog or store, its schemas and its files.

    Raises:
        SpecificationError: the namespace is no branch.
        StorageError: something of it cannot be deleted; it is still a branch then.
        TransientError: its database does not answer.
    """
    folder = state / "namespaces" / name
    if not (folder / BRANCH_NOTE).is_file():
        raise SpecificationError(f"Namespace {name!r} is not a branch, so it stays. See: llm-platform state reset")
    remove_lake(lake)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"Cannot delete {folder}: {error.strerror}.") from error
