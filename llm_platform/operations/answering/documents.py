"""Keep `documents` and `references` what the source tables say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from llm_platform.application.model import Application, TableRef
from llm_platform.documents.prepare import prepare
from llm_platform.documents.references import KnownAnswers, references_table, with_verdicts
from llm_platform.errors import SpecificationError
from llm_platform.operations.releases import LoadedApplication, champion_release
from llm_platform.prompts.load import PARTS
from llm_platform.records import DocumentsChange, SourceState, content_hash
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore

Ref = TypeVar("Ref", bound=TableRef)


@dataclass(frozen=True)
class DocumentsUpdate:
    """What an update of `documents` read and wrote."""

    change: DocumentsChange
    full: bool
    reason: str
    state: SourceState


def located(ref: Ref, application: Application) -> Ref:
    """The same reference, with a file path made absolute: paths in `application.yaml` are relative to its folder."""
    if ref.url is None or "://" in ref.url:
        return ref
    return ref.model_copy(update={"url": str((application.folder / ref.url).resolve())})


def consumed_and_current(lake: Warehouse, loaded: LoadedApplication) -> tuple[SourceState | None, SourceState]:
    """(what `documents` consumed, where the source stands now); equal tokens mean that nothing changed."""
    application = loaded.application
    store = lake.application(application.name)
    state = lake.sources.state(located(application.source, application))
    return store.documents.consumed(), _with_rules(state, _rules(loaded, store))


def update_documents(lake: Warehouse, loaded: LoadedApplication) -> DocumentsUpdate:
    """Bring `documents` to the source's present state, and commit what was consumed with the rows.

    Raises:
        ContractBroken: a column is gone, or a key is missing or occurs twice; nothing is written.
        TransientError: the source cannot be read; an unreadable source is never an empty one.
    """
    application = loaded.application
    store = lake.application(application.name)
    consumed = store.documents.consumed()
    rules = _rules(loaded, store)
    since = None
    if consumed is not None and consumed.token.endswith(rules):
        since = consumed.model_copy(update={"token": consumed.token.removesuffix(rules)})
    changes = lake.sources.changes(located(application.source, application), since)
    rows = prepare(changes.rows, application.source, application.documents, read_by_prompts=columns_read(loaded, store))
    state = _with_rules(changes.state, rules)
    change = store.documents.apply(rows, deleted=changes.deleted, full=changes.full, consumed=state)
    return DocumentsUpdate(change=change, full=changes.full, reason=changes.reason, state=state)


def columns_read(loaded: LoadedApplication, store: ApplicationStore) -> list[str]:
    """Columns that some prompt reads, the champion's stored one included; fingerprints cover exactly these."""
    prompts = list(loaded.prompts.values())
    champion = champion_release(store)
    if champion is not None:
        together = champion.long_documents.prompt if champion.long_documents is not None else None
        prompts += [champion.prompt] if together is None else [champion.prompt, together]
    return sorted({name for prompt in prompts for name in prompt.variables} - {PARTS})


def missing_columns(lake: Warehouse, application: Application) -> list[str]:
    """Columns that the application reads and the source does not have."""
    columns = lake.sources.columns(located(application.source, application))
    source = application.source
    wanted = [*source.columns, *([source.watermark] if source.watermark else [])]
    return [name for name in wanted if name not in columns]


def read_references(lake: Warehouse, application: Application) -> pa.Table:
    """Known answers as they are now: document_id, answer, split, provenance. See `known_answers`.

    Raises:
        SpecificationError: the application names no references.
        ContractBroken: a column is gone, a key occurs twice, or an answer is not possible.
    """
    return known_answers(lake, application).rows


def known_answers(lake: Warehouse, application: Application) -> KnownAnswers:
    """Known answers as their table has them now, and what people have decided since.

    Raises:
        SpecificationError: the application names no references.
        ContractBroken: a column is gone, a key occurs twice, or an answer is not possible.
    """
    spec = application.references
    if spec is None:
        raise SpecificationError(
            f"{application.name} has no 'references' in application.yaml, so its answers cannot be graded. "
            "Name a table or a file of known answers there."
        )
    ref = located(spec, application)
    present = lake.sources.columns(ref)
    rows = lake.sources.read(ref, [name for name in application.reference_columns() if name in present])
    store = lake.application(application.name)
    documents = store.documents.table(columns=["document_id", "fingerprint"])
    known = references_table(rows, documents, application)
    return with_verdicts(known, store.annotations.approved(), documents, application)


def _rules(loaded: LoadedApplication, store: ApplicationStore) -> str:
    """A suffix for tokens: a changed rule by which rows become documents then reads as a changed source."""
    application = loaded.application
    rules = [application.documents.model_dump(mode="json"), application.source.model_dump(mode="json")]
    return "/" + content_hash([*rules, columns_read(loaded, store)])


def _with_rules(state: SourceState, rules: str) -> SourceState:
    return state.model_copy(update={"token": state.token + rules})
