"""Pools of few-shot examples: frozen from known answers, and read again for every release that shows them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from llm_platform.application.model import Application
from llm_platform.errors import SpecificationError
from llm_platform.files import write_text
from llm_platform.operations.answering.redacting import require_redacted, shown_pool
from llm_platform.prompts.render import Choose
from llm_platform.prompts.selection import ExampleSelector, pool_hash
from llm_platform.records import DocumentStatus, ExampleSelection, PoolExample, Prompt
from llm_platform.warehouse.store import ApplicationStore

FEW_SHOT = "use as few-shot"
DO_NOT_USE = "do not use"
DEFAULT_ROWS = 500
_POOL = re.compile(r"^examples:.*?\bpool:\s*(?P<value>[^\s,}#]+)", re.DOTALL | re.MULTILINE)
_SELECT = re.compile(r"\bselect:\s*(random|nearest)\b")


@dataclass(frozen=True)
class Pool:
    """Known answers that may be shown as examples, and the hash that names them."""

    name: str
    examples: tuple[PoolExample, ...]
    preferred: int
    left_out: int


def draw_pool(store: ApplicationStore, application: Application, *, rows: int = DEFAULT_ROWS) -> Pool:
    """The pool that the present known answers make, of the training split only.

    A text of the evaluation split is never in it, nor anything that somebody tagged "do not use" (the document, or an
    answer to it). Documents tagged "use as few-shot" are all in it; the others are drawn by a seeded order.

    Raises:
        SpecificationError: there is no known answer to show.
    """
    require_redacted(store, application)
    joined = _labelled(store)
    held_out = {row["fingerprint"] for row in joined if row["split"] == "evaluation"}
    refused, wanted = _tagged(store, DO_NOT_USE), _tagged(store, FEW_SHOT)
    examples: dict[str, PoolExample] = {}
    left_out = 0
    for row in joined:
        if row["split"] != "train":
            continue
        if row["document_id"] in refused or row["fingerprint"] in held_out:
            left_out += 1
            continue
        example = _example(row, application, preferred=row["document_id"] in wanted)
        known = examples.get(example.fingerprint)
        if known is None or (example.preferred and not known.preferred):
            examples[example.fingerprint] = example
    if not examples:
        raise SpecificationError(
            f"{application.name} has no known answer in the training split, so there is nothing to show as an example. "
            f"Add references, then: llm-platform run {application.name}"
        )
    drawn = sorted(examples.values(), key=lambda example: (not example.preferred, _rank(example)))[:rows]
    return Pool(
        name=pool_hash(drawn),
        examples=tuple(drawn),
        preferred=sum(example.preferred for example in drawn),
        left_out=left_out,
    )


def freeze_pool(store: ApplicationStore, application: Application, path: Path, *, rows: int = DEFAULT_ROWS) -> Pool:
    """Store the present pool, and write its hash into the front matter of a prompt file, which stays as it is else.

    Raises:
        SpecificationError: the file has no `pool:` in its front matter, or there is no known answer.
    """
    pool = draw_pool(store, application, rows=rows)
    text = path.read_text(encoding="utf-8")
    front = _front_matter(text)
    found = _POOL.search(front)
    if found is None or _SELECT.search(front) is None:
        raise SpecificationError(
            f"{path}: found no examples that are selected from a pool; write "
            "'examples: {select: nearest, count: 4, pool: unfrozen}' into its front matter, then freeze again."
        )
    store.pools.put(pool.name, pool.examples)
    write_text(path, text[: found.start("value")] + pool.name + text[found.end("value") :], shared=True)
    return pool


def selector(store: ApplicationStore, application: Application, prompt: Prompt) -> Choose | None:
    """What chooses the examples of a prompt; None where they are the same for all documents, or there are none.

    A pool that was frozen in another namespace is drawn again, and taken if it comes out the same.

    Raises:
        SpecificationError: the pool is not here, and the present known answers make another one.
    """
    if prompt.selection is None:
        return None
    pool = shown_pool(_pool(store, application, prompt.selection, prompt.name), application)
    return ExampleSelector(prompt.selection, pool).choose


def _pool(
    store: ApplicationStore, application: Application, selection: ExampleSelection, name: str
) -> Sequence[PoolExample]:
    stored = store.pools.get(selection.pool)
    if stored is not None:
        return stored
    drawn = draw_pool(store, application)
    if drawn.name != selection.pool:
        raise SpecificationError(
            f"Prompt {name!r} shows examples from pool {selection.pool}, which is not in this namespace, and the known "
            f"answers here make {drawn.name}. Freeze it here (llm-platform prompt freeze {application.name} {name}; a "
            "new release), or set LLM_PLATFORM_UPSTREAM to the namespace where it was frozen."
        )
    store.pools.put(drawn.name, drawn.examples)
    return drawn.examples


def _front_matter(text: str) -> str:
    end = text.find("\n---", 3)
    return text[:end] if text.startswith("---") and end > 0 else ""


def _labelled(store: ApplicationStore) -> list[dict[str, str]]:
    """Documents that can be sent, each with its known answer and split."""
    documents = store.documents.known(["document_id", "fingerprint", "text", "attributes", "status"])
    joined = documents.join(store.references.table(), keys="document_id", join_type="inner")
    sendable = joined.filter(pc.equal(joined["status"], DocumentStatus.SENDABLE.value))
    rows: list[dict[str, str]] = sendable.sort_by("document_id").to_pylist()
    return [row for row in rows if row["answer"] is not None]


def _tagged(store: ApplicationStore, tag: str) -> set[str]:
    """Documents that carry a tag, themselves or through one of their answers."""
    rows = store.annotations.tagged(tag).to_pylist()
    about = {row["subject_id"] for row in rows if row["subject_kind"] == "document"}
    return about | {row["document_id"] for row in rows if row["document_id"] is not None}


def _example(row: dict[str, str], application: Application, *, preferred: bool) -> PoolExample:
    answer = row["answer"]
    if application.task == "extract":
        # In the order of the specification, which is the order that guided decoding produces.
        fields = json.loads(answer)
        answer = json.dumps({name: fields[name] for name in application.fields if name in fields}, ensure_ascii=False)
    return PoolExample(
        document_id=row["document_id"],
        fingerprint=row["fingerprint"],
        text=row["text"],
        attributes=json.loads(row["attributes"]) if row["attributes"] else {},
        answer=answer,
        preferred=preferred,
    )


def _rank(example: PoolExample) -> str:
    return hashlib.sha256(f"pool:{example.fingerprint}".encode()).hexdigest()
