"""The chain behind one published row: document, completion, release, prompt, model, run, snapshots, rollout, report."""

from __future__ import annotations

from typing import Any

from llm_platform.errors import ContractBroken
from llm_platform.warehouse.engine import identifier
from llm_platform.warehouse.schema import columns_of, published_table
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session

TEXTS = {
    "documents": ("text",),
    "completions": ("raw",),
    "releases": ("content",),
    "prompts": ("content",),
}
"""Columns that hold documents, prompts or unparsed answers: shown only when asked for."""


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
    return {
        "published": published,
        "document": document,
        "completion": completion,
        "release": release,
        "prompt": chain.first("prompts", {"version": release["prompt_version"]}) if release else None,
        "model": chain.first("models", {"entry": release["model_entry"]}, newest="observed_at") if release else None,
        "run": chain.first("inference_runs", {"run_id": completion["run_id"], "release_id": release_id})
        if completion
        else None,
        "rollout": rollout,
        "report": chain.first("reports", {"report_id": rollout["report_id"]}) if rollout else None,
    }


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
        columns = [name for name in columns_of(table) or {} if name not in hidden]
        where = " AND ".join(f"{identifier(name)} = ?" for name in key)
        order = "" if newest is None else f" ORDER BY {identifier(newest)} DESC"
        for catalog, name in ((LAKE, "own"), (UPSTREAM, "upstream")):
            relation = self._session.relation(self._application, table, catalog=catalog)
            listed = ", ".join(identifier(column) for column in columns)
            rows = self._session.rows(
                f"SELECT {listed} FROM {relation} WHERE {where}{order} LIMIT 1", list(key.values())
            )
            if rows:
                return {**dict(zip(columns, rows[0], strict=True)), "lake": name}
        return None
