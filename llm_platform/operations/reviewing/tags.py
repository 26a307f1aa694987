"""Tags and notes on prompts, runs, releases, documents and single answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llm_platform.errors import SpecificationError
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import Annotation, SubjectKind, content_hash
from llm_platform.review.items import LONGEST_NOTE, clean_tag
from llm_platform.warehouse.store import ApplicationStore


@dataclass(frozen=True)
class TagSubject:
    """What a tag or a note is on; the last three are known where it is a document or an answer."""

    kind: SubjectKind
    id: str
    document_id: str | None = None
    fingerprint: str | None = None
    release_id: str | None = None


def subject_of(
    store: ApplicationStore,
    loaded: LoadedApplication,
    *,
    prompt: str | None = None,
    run: str | None = None,
    release: str | None = None,
    document: str | None = None,
) -> TagSubject:
    """The one thing that is named; a release and a document together are an answer.

    Raises:
        SpecificationError: none or several are named, or there is no such thing.
    """
    if document is not None and prompt is None and run is None:
        return _document(store, loaded, document, release)
    given = {"prompt": prompt, "run": run, "release": release, "document": document}
    named = [kind for kind, value in given.items() if value is not None]
    if len(named) != 1:
        raise SpecificationError(
            f"Found {' and '.join('--' + kind for kind in named) or 'nothing'}. Name one of --prompt, --run, --release "
            "or --document; --release and --document together are one answer."
        )
    if prompt is not None:
        known = {*loaded.prompts, *store.prompts.table()["name"].to_pylist()}
        return TagSubject("prompt", _known(prompt, known, "prompt", loaded))
    if release is not None:
        known = set(store.releases.table()["release_id"].to_pylist())
        return TagSubject("release", _known(release, known, "stored release", loaded), release_id=release)
    # Runs of other machines are in a history that is not here, so an id is taken as it is.
    return TagSubject("run", run or "")


def _known(name: str, known: set[str], what: str, loaded: LoadedApplication) -> str:
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise SpecificationError(f"{loaded.application.name} has no {what} {name!r}. There are: {listed}.")
    return name


def _document(store: ApplicationStore, loaded: LoadedApplication, document: str, release: str | None) -> TagSubject:
    fingerprint = store.documents.fingerprint(document)
    if fingerprint is None:
        raise SpecificationError(f"{loaded.application.name} has no document {document!r}. Check the key.")
    if release is None:
        return TagSubject("document", document, document, fingerprint)
    _known(release, set(store.releases.table()["release_id"].to_pylist()), "stored release", loaded)
    return TagSubject("answer", f"{release}/{document}", document, fingerprint, release)


def add_tag(store: ApplicationStore, subject: TagSubject, tag: str, *, note: str, by: str, at: datetime) -> bool:
    """Put a tag, and a note if one is given, on a subject; False when it carries both already.

    Raises:
        ContractBroken: the tag is empty or too long.
        SpecificationError: the note is too long.
    """
    if len(note.strip()) > LONGEST_NOTE:
        raise SpecificationError(f"The note has {len(note.strip())} characters; at most {LONGEST_NOTE} are kept.")
    present = {(row["kind"], row["body"]) for row in store.annotations.tags(subject.kind, subject.id).to_pylist()}
    wanted = [("tag", clean_tag(tag)), *([("note", note.strip())] if note.strip() else [])]
    rows = [_row(subject, kind, body, by=by, at=at) for kind, body in wanted if (kind, body) not in present]
    return bool(rows and store.annotations.append(rows))


def remove_tag(store: ApplicationStore, subject: TagSubject, tag: str, *, by: str, at: datetime) -> int:
    """Take a tag off a subject, whoever put it there; returns how many rows no longer count.

    Tags that came with a verdict on the review page share its group, and go without it.
    """
    found = [
        row
        for row in store.annotations.tags(subject.kind, subject.id).to_pylist()
        if row["kind"] == "tag" and row["body"] == clean_tag(tag)
    ]
    store.annotations.append([_undo(row, by=by, at=at) for row in found])
    return len(found)


def _row(subject: TagSubject, kind: str, body: str, *, by: str, at: datetime) -> Annotation:
    identity = content_hash([subject.kind, subject.id, kind, body, by, at.isoformat()])
    return Annotation.model_validate(
        {
            "annotation_id": f"tag-{identity}",
            "group_id": f"tag-{identity}",
            "kind": kind,
            "subject_kind": subject.kind,
            "subject_id": subject.id,
            "document_id": subject.document_id,
            "fingerprint": subject.fingerprint,
            "release_id": subject.release_id,
            "body": body,
            "by": by,
            "at": at,
        }
    )


def _undo(row: Mapping[str, Any], *, by: str, at: datetime) -> Annotation:
    return Annotation(
        annotation_id=f"{row['annotation_id']}-undo",
        group_id=f"{row['annotation_id']}-undo",
        kind="undo",
        subject_kind=row["subject_kind"],
        subject_id=row["subject_id"],
        document_id=row["document_id"],
        by=by,
        at=at,
        undoes=row["annotation_id"],
    )
