"""The chain behind one published row: document, completion, release, prompt, model, run, snapshots, rollout, report."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from llm_platform.errors import ContractBroken
from llm_platform.warehouse.engine import identifier
from llm_platform.warehouse.schema import columns_of, is_published, published_table
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session
from llm_platform.warehouse.stored_reasons import in_own_words

TEXTS = {
    "documents": ("text",),
    "completions": ("raw", "said"),
    "releases": ("content",),
    "prompts": ("content",),
}
"""Columns that hold documents, prompts or unparsed answers, shown only when asked for, as reasons not ours are."""


def explain(
    session: Session, application: str, document_id: str, *, contract: int, with_texts: bool = False
) -> dict[str, object]:
    """Rows that made one published row, by table; None where there is none.

    Raises:
        ContractBroken: the document is neither stored nor published.
    """
    chain = _Chain(session, application, with_texts)
    table = published_table(contract)
    published = chain.first(table, {"document_id": document_id})
    document = chain.first("documents", {"document_id": document_id})
    if published is None and document is None:
        raise ContractBroken(
            f"Application {application!r} has no document {document_id!r}, in 'documents' or in {table!r}. "
            "Check the key; it is case-sensitive."
        )
    fingerprint = (published or document or {})["fingerprint"]
    release_id = published["release_id"] if published else None
    release = chain.first("releases", {"release_id": release_id})
    completion = chain.first("completions", {"release_id": release_id, "fingerprint": fingerprint})
    rollout = chain.first("rollout", {"release_id": release_id}, newest="sequence")
    # A canary's answer is published by a step of its rollout, before there is any decision that makes it the champion.
    step = chain.first("rollout_steps", {"release_id": release_id, "decision": "promote"}, newest="sequence")
    decided = rollout or step
    return {
        "published": published,
        "document": document,
        "completion": completion,
        **({"made_of": chain.made_of(completion, page_starts(document))} if completion and completion["parts"] else {}),
        "release": release,
        "prompt": chain.first("prompts", {"version": release["prompt_version"]}) if release else None,
        "model": chain.first("models", {"entry": release["model_entry"]}, newest="observed_at") if release else None,
        "run": chain.first("inference_runs", {"run_id": completion["run_id"], "release_id": release_id})
        if completion
        else None,
        "rollout": rollout,
        **({"rollout_step": step} if step is not None else {}),
        "report": chain.first("reports", {"report_id": decided["report_id"]}) if decided else None,
    }


OF_AN_ANSWER = ("release_id", "fingerprint", "document_id", "status", "answer", "reason", "run_id")
"""What is shown of each answer that another one rests on."""


def page_starts(document: Mapping[str, Any] | None) -> list[int]:
    """At which character each page of a document begins, where its source says so (`page_starts` among attributes)."""
    attributes = json.loads((document or {}).get("attributes") or "{}")
    try:
        starts = json.loads(attributes.get("page_starts") or "[]")
    except (TypeError, ValueError):
        return []
    said = isinstance(starts, list) and all(isinstance(start, int) for start in starts)
    return starts if said and starts == sorted(starts) else []


class _Chain:
    """Looks rows up, here and then upstream."""

    def __init__(self, session: Session, application: str, with_texts: bool) -> None:
        self._session = session
        self._application = application
        self._with_texts = with_texts

    def first(self, table: str, key: dict[str, Any], *, newest: str | None = None) -> dict[str, Any] | None:
        """The first row with this key, as a dict with the catalog that it was found in under `lake`."""
        if any(value is None for value in key.values()):
            return None
        hidden = () if self._with_texts else TEXTS.get(table, ())
        known = self._session.columns(self._application, table) if is_published(table) else ()
        # Of a published table, also what its contract has beside the columns of every one.
        columns = [name for name in dict.fromkeys((*(columns_of(table) or {}), *sorted(known))) if name not in hidden]
        if known and "answer" not in known:
            columns.remove("answer")
        where = " AND ".join(f"{identifier(name)} = ?" for name in key)
        order = "" if newest is None else f" ORDER BY {identifier(newest)} DESC"
        for catalog, name in ((LAKE, "own"), (UPSTREAM, "upstream")):
            relation = self._session.relation(self._application, table, catalog=catalog)
            listed = ", ".join(self._shown(column) for column in columns)
            rows = self._session.rows(
                f"SELECT {listed} FROM {relation} WHERE {where}{order} LIMIT 1", list(key.values())
            )
            if rows:
                return {**dict(zip(columns, rows[0], strict=True)), "lake": name}
        return None

    def _shown(self, column: str) -> str:
        if column != "reason" or self._with_texts:
            return identifier(column)
        return in_own_words()

    def made_of(self, completion: Mapping[str, Any], starts: Sequence[int]) -> dict[str, Any]:
        """The answers that one to a document in parts rests on, by their number; and on which page each part begins."""
        # Of a calibrated release, what it is derived from: the one that sends the same requests.
        keys = completion["request_id"], completion["fingerprint"]
        links = self._links(LAKE, keys) or self._links(UPSTREAM, keys)
        found: dict[str, Any] = {}
        for number, (release, key, begins) in enumerate(links, start=1):
            row = self.first("completions", {"release_id": release, "fingerprint": key})
            page = {"page": bisect_right(starts, begins)} if starts and begins is not None else {}
            found[str(number)] = None if row is None else {**{name: row[name] for name in OF_AN_ANSWER}, **page}
        return found

    def _links(self, catalog: str, keys: tuple[str, str]) -> list[tuple[Any, ...]]:
        made_of = self._session.relation(self._application, "made_of", catalog=catalog)
        releases = self._session.relation(self._application, "releases", catalog=catalog)
        return self._session.rows(
            f"SELECT of_release_id, of_fingerprint, begins FROM {made_of} WHERE release_id IN "
            f"(SELECT release_id FROM {releases} WHERE request_id = ?) AND fingerprint = ? ORDER BY position",
            list(keys),
        )
