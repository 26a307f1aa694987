"""Keep `documents` and `references` what the source tables say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.application.long_document_rules import PARTS
from llm_platform.application.model import Application
from llm_platform.application.source import Source, TableRef
from llm_platform.documents.prepare import OneByOne, prepare, prepared_batch
from llm_platform.documents.references import KnownAnswers, known_answers_of, matched
from llm_platform.errors import ContractBroken, DropHeld, EndpointMismatch, PlatformError, SpecificationError
from llm_platform.evaluation.panel import Panel
from llm_platform.evaluation.ready import require_judging
from llm_platform.models.lock import lock_hash
from llm_platform.operations.answering.redacting import mark_of, redacted_answers, taking_out
from llm_platform.operations.releases import LoadedApplication, champion_release
from llm_platform.records import Judge, RowsChanged, SourceState, content_hash
from llm_platform.tables.columns import texts
from llm_platform.warehouse.documents import dropped
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.sources import SourceReader
from llm_platform.warehouse.store import ApplicationStore

ACCEPT_DROP_TAG = "llm_platform/accept_drop"
"""Tag of a run that may take over a source that has lost many rows."""

FULL_TAG = "llm_platform/full"
"""Tag of a run that reads the whole source, whatever its change feed says."""

KEY_FORM = "NFC, whole numbers without a point"
"""The form of keys: part of the rules by which rows become documents, so that another one has all rows read again."""

ONLINE_ROWS = 1000
MOST_COMPARED = 100_000
"""Documents whose keys are looked through for one that is nearly what a known answer names."""

Ref = TypeVar("Ref", bound=TableRef)


@dataclass(frozen=True)
class DocumentsUpdate:
    """What an update of `documents` read and wrote.

    Attributes:
        held_back: Bytes of WAL that the server of the source still keeps for its slot; None where it has none.
    """

    change: RowsChanged
    full: bool
    reason: str
    state: SourceState
    held_back: int | None = None


def located(ref: Ref, application: Application) -> Ref:
    """The same reference, with a file path made absolute: paths in `application.yaml` are relative to its folder."""
    places = {"url": ref.url, "files": ref.files if isinstance(ref, Source) else None}
    found = {name: place for name, place in places.items() if place is not None and "://" not in place}
    return ref.model_copy(update={name: str((application.folder / place).resolve()) for name, place in found.items()})


def consumed_and_current(lake: Warehouse, loaded: LoadedApplication) -> tuple[SourceState | None, SourceState]:
    """(what `documents` consumed, where the source stands now); equal tokens mean that nothing changed."""
    application = loaded.application
    store = lake.application(application.name)
    consumed, rules = store.documents.consumed(), _rules(loaded, store)
    state = lake.sources.state(located(application.source, application), _under(rules, consumed))
    return consumed, _with_rules(state, rules)


def update_documents(
    lake: Warehouse, loaded: LoadedApplication, *, accept_drop: bool = False, full: bool = False
) -> DocumentsUpdate:
    """Bring `documents` to the source's present state, and commit what was consumed with the rows.

    Args:
        lake: Where documents are.
        loaded: The application.
        accept_drop: Somebody has said that the source may have lost as many rows as it has.
        full: Read all of the source, whatever its change feed says.

    Raises:
        DropHeld: the source has lost more rows than `source.max_drop` allows; nothing is written.
        ContractBroken: a column is gone, or a key is missing or occurs twice; nothing is written.
        TransientError: the source cannot be read; an unreadable source is never an empty one.
    """
    application = loaded.application
    store = lake.application(application.name)
    consumed = store.documents.consumed()
    rules = _rules(loaded, store)
    since = None if full else _under(rules, consumed)
    if consumed is not None and since is None and not full:
        # Written under other rules, perhaps by a version that took any key.
        store.documents.mend()
    changes = lake.sources.changes(
        located(application.source, application),
        since,
        known=store.documents.keys,
        emptied=accept_drop,
    )
    rows = prepare(
        changes.rows,
        application.source,
        application.documents,
        read_by_prompts=columns_read(loaded, store),
        taking_out=taking_out(application),
    )
    state = _with_rules(changes.state.after(consumed), rules)
    try:
        change = store.documents.apply(
            rows,
            deleted=changes.deleted,
            full=changes.full,
            consumed=state,
            following=consumed,
            max_drop=1.0 if accept_drop else application.source.max_drop,
            departing=forgets_departed(lake, application),
        )
    except DropHeld as error:
        raise DropHeld(_held(str(error), application)) from error
    change = _with_online(store, loaded, change, only_new=not changes.full)
    update = DocumentsUpdate(change=change, full=changes.full, reason=changes.reason, state=state)
    return _acknowledged(lake, application, changes.state, update)


def forgets_departed(lake: Warehouse, application: Application) -> bool:
    """Whether what leaves the source is forgotten from here.

    It is forgotten in every namespace, and the files of a branch may name a smaller table: what has left production's,
    production forgets, in its branches too.
    """
    return application.retention.deleted == "forget" and not lake.has_upstream


def _acknowledged(
    lake: Warehouse, application: Application, state: SourceState, update: DocumentsUpdate
) -> DocumentsUpdate:
    """Let a slot forget changes that are stored.

    A branch reads beside those who run the namespace that it stands on, and the changes are kept for them.
    """
    if lake.has_upstream:
        return update
    try:
        standing = lake.sources.acknowledge(application.source, state)
    except PlatformError as error:
        # The documents are stored. The same changes are read once more by the next run, which acknowledges them, too.
        return replace(update, reason=f"{update.reason}; not acknowledged: {error}")
    return update if standing is None else replace(update, held_back=standing.held_back)


def _with_online(
    store: ApplicationStore, loaded: LoadedApplication, change: RowsChanged, *, only_new: bool
) -> RowsChanged:
    """Take in what callers have sent since; with what the source has changed, as one change."""
    application = loaded.application
    making = OneByOne(
        application.source,
        application.documents,
        read_by_prompts=columns_read(loaded, store),
        taking_out=taking_out(application),
    )
    store.online_documents.hand_over()
    sent = store.online_documents.newest(only_new=only_new)
    batches = [
        prepared_batch(
            [making.document(values, key=key) for key, values in sent[start : start + ONLINE_ROWS]],
            application.documents,
        )
        for start in range(0, len(sent), ONLINE_ROWS)
    ]
    if not batches:
        return change
    taken = store.documents.take_in(batches)
    return RowsChanged(
        **{
            name: getattr(change, name) + getattr(taken, name)
            for name in ("inserted", "updated", "deleted", "unchanged")
        },
        snapshot_id=taken.snapshot_id,
    )


def held_drop(lake: Warehouse, loaded: LoadedApplication) -> str | None:
    """Why an update would be held, from the number of rows alone; None where it would not."""
    application = loaded.application
    documents, source = lake.application(application.name).documents, located(application.source, application)
    if lake.sources.only_grew(source, documents.consumed()):
        return None
    found = dropped(documents.of_source(), lake.sources.count(source), application.source.max_drop)
    return None if found is None else _held(found, application)


def _held(found: str, application: Application) -> str:
    return (
        f"Held: {found}. Documents of {application.name} and what is published stay as they were. If "
        f"{application.source.address!r} has lost these rows by mistake, restore it; if not: llm-platform run "
        f"{application.name} --accept-drop, or start the run in Dagster's UI with the tag {ACCEPT_DROP_TAG}: true."
    )


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
    source = application.source
    wanted = [*source.columns, *([source.watermark] if source.watermark else [])]
    columns = lake.sources.columns(located(source, application), wanted)
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
    store = lake.application(application.name)
    rows = _without_forgotten(store, read_known(lake.sources, application), application)
    approved, spec = store.annotations.approved(), application.references
    named = {*texts(rows[spec.key]), *approved["document_id"].to_pylist()} if spec is not None else set()
    documents = store.documents.some(sorted(filter(None, named)), ["document_id", "fingerprint"])
    known = known_answers_of(rows, approved, documents, application, others=lambda: _keys_to_compare(store))
    return replace(known, rows=_redacted(known.rows, store, application))


def _redacted(rows: pa.Table, store: ApplicationStore, application: Application) -> pa.Table:
    """Known answers without what is taken out of their documents."""
    given = dict(zip(rows["document_id"].to_pylist(), rows["answer"].to_pylist(), strict=True))
    answers = redacted_answers(given, store, application)
    if answers is given:
        return rows
    at = rows.schema.get_field_index("answer")
    return rows.set_column(at, rows.schema.field(at), pa.array(list(answers.values()), rows.schema.field(at).type))


def _without_forgotten(store: ApplicationStore, rows: pa.Table, application: Application) -> pa.Table:
    """Known answers that may be known: a file of them may name a document for ever that was forgotten here."""
    assert application.references is not None
    keys = rows[application.references.key]
    gone = store.bars.forgotten(keys.cast(pa.string()).to_pylist())
    return rows.filter(pc.invert(pc.is_in(keys.cast(pa.string()), value_set=pa.array(gone)))) if gone else rows


def read_known(sources: SourceReader, application: Application) -> pa.Table:
    """The table of known answers as its owner wrote it.

    Raises:
        As `known_answers`.
    """
    spec = application.references
    if spec is None:
        raise SpecificationError(
            f"{application.name} has no 'references' in application.yaml, so its answers cannot be graded. "
            "Name a table or a file of known answers there."
        )
    wanted = application.reference_columns()
    # In one form where they are compared; what is graded by its type keeps it.
    texts = [name for name in wanted if name in (spec.key, spec.split) or application.task != "extract"]
    return sources.read(located(spec, application), wanted, texts=texts)


def known_answer_panels(store: ApplicationStore, loaded: LoadedApplication) -> list[Panel]:  # noqa: ARG001
    """What a reader has to know of the known answers: those that judge nothing, because no document is theirs."""
    references = store.references.table()
    there = store.documents.some(references["document_id"].to_pylist(), ["document_id"])["document_id"].to_pylist()
    known = matched(references, there, others=lambda: _keys_to_compare(store))
    if not known.unmatched:
        return []
    left = known.rows.num_rows - known.unmatched
    note = f"{known.unmatched_note}, so these reports rest on at most {left}. Compare references.key with source.key."
    return [Panel(title="Known answers without a document", note=note)]


def _keys_to_compare(store: ApplicationStore) -> list[str]:
    """Keys that a known answer without a document may have meant; none where looking through them would take long."""
    if sum(store.documents.counts().values()) > MOST_COMPARED:
        return []
    keys: list[str] = store.documents.table(["document_id"])["document_id"].to_pylist()
    return keys


def scoring_judges(loaded: LoadedApplication) -> list[Judge]:
    """Judges whose verdicts are scores, so that every run asks them."""
    return [judge for name, judge in loaded.judges.items() if f"judge:{name}" in loaded.application.evaluation.scorers]


def require_judgeable(lake: Warehouse, loaded: LoadedApplication) -> None:
    """Refuse to pay for answers that nothing could be said about: what judges them and known answers come first.

    Raises:
        SpecificationError: a scorer, a metric or a panel cannot be loaded.
        EndpointMismatch: the endpoint of a judge that scores is not what the lock file pins.
        ContractBroken: known answers cannot be read, or nothing is published yet and none of them could be used.
    """
    application = loaded.application
    store = lake.application(application.name)
    require_judging(application)
    for judge in scoring_judges(loaded):
        seen = store.models.latest(judge.model)
        if seen is not None and seen.lock_hash == lock_hash(loaded.lock[judge.model]) and not seen.matches:
            raise EndpointMismatch(
                f"The endpoint of {judge.model!r}, which judge {judge.name!r} of {application.name} asks, is not what "
                f"models.lock.yaml pins ({seen.mismatches}), so no answer could be judged and nothing was sent."
            )
    if application.references is None:
        return
    known = known_answers(lake, application)
    if not store.documents.counts() or champion_release(store) is not None:
        return
    nothing = "so no variant could be judged and nothing was sent"
    gated = application.evaluation.gates.accuracy is not None
    if not known.rows.num_rows:
        if gated:
            raise ContractBroken(
                f"There are no known answers of {application.name} ({known.unlabelled} rows have none), {nothing}. "
                f"Fill {application.references.url!r}, or take evaluation.gates.accuracy out while people judge the "
                "first answers."
            )
        return
    if known.unmatched == known.rows.num_rows:
        raise ContractBroken(
            f"{known.unmatched_note}, {nothing}. Documents have keys such as {store.documents.first_key()!r}. Name the "
            "column with the same keys as references.key, or bring the documents."
        )
    if gated and "evaluation" not in known.rows["split"].to_pylist():
        raise ContractBroken(
            f"None of the {known.rows.num_rows} known answers of {application.name} is in the evaluation split, "
            f"{nothing}. Say in references.splits which of them are, or leave 'split' out."
        )


def _rules(loaded: LoadedApplication, store: ApplicationStore) -> str:
    """A suffix for tokens: a changed rule by which rows become documents then reads as a changed source."""
    application = loaded.application
    source = application.source.model_dump(mode="json")
    rules = [KEY_FORM, application.documents.model_dump(mode="json"), source, columns_read(loaded, store)]
    return f"/{content_hash(rules)}{mark_of(application)}"


def _under(rules: str, consumed: SourceState | None) -> SourceState | None:
    """The state of the source itself that was consumed under these rules; None where it was under others."""
    if consumed is None or not consumed.token.endswith(rules):
        return None
    return consumed.model_copy(update={"token": consumed.token.removesuffix(rules)})


def _with_rules(state: SourceState, rules: str) -> SourceState:
    return state.model_copy(update={"token": state.token + rules})
