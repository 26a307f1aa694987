"""Source rows made into documents, batch by batch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm_platform.application.documents import Documents
from llm_platform.application.source import Source
from llm_platform.application.source_text import composed
from llm_platform.documents.normalize import decoded, normalized
from llm_platform.errors import ContractBroken
from llm_platform.records import DocumentRow, DocumentStatus, canonical_json
from llm_platform.records.tables import DOCUMENTS_SCHEMA
from llm_platform.redaction.redactor import Redactor
from llm_platform.tables.columns import python_values, texts, written
from llm_platform.tables.forms import EXACT_INTEGERS, impossible, inexact_keys, one_form, text_of

BATCH_SCHEMA = pa.schema(
    [
        pa.field(
            one.name, pa.large_string() if one.name == "text" else one.type, nullable=one.name in ("reason", "withheld")
        )
        for one in DOCUMENTS_SCHEMA
    ]
)
"""Documents, a batch of whose texts may be larger than 2 GiB."""
REFUSED = "refused"
"""Column of rows that are files: why there is no text in one."""
FINGERPRINT_LENGTH = 32
ONLINE_PREFIX = "online-"
"""Of the key of a document that came without one: its fingerprint follows, so that equal texts are one document."""
SHOWN_CHARACTERS = 40
_CACHED_ATTRIBUTES = 10_000


def prepare(
    rows: Iterable[pa.RecordBatch],
    source: Source,
    documents: Documents,
    *,
    read_by_prompts: Collection[str] | None = None,
    taking_out: TakingOut | None = None,
) -> Iterator[pa.RecordBatch]:
    """Documents of source rows, one batch per batch, in `BATCH_SCHEMA`.

    A text that cannot be sent (empty, too long, not UTF-8) is a document with that status and a reason. Duplicate keys
    are not looked for here: a batch sees only its own rows.

    Args:
        rows: Batches with the columns of `source.columns`; others are ignored.
        read_by_prompts: Attributes that prompts read, which are part of the fingerprint; None stands for all. With the
            exact ones, a changed value that no prompt reads asks no model again.
        taking_out: What is not to be in their texts and attributes; None leaves them whole.

    Raises:
        ContractBroken: a column is missing or cannot be text, or keys are null or empty.
        SpecificationError: what finds what is to be taken out is not installed.
    """
    read = source.attributes if read_by_prompts is None else [n for n in source.attributes if n in read_by_prompts]
    for batch in rows:
        yield _documents(batch, source, documents, read, taking_out)


@dataclass(frozen=True, slots=True)
class TakingOut:
    """What is taken out of documents.

    Attributes:
        put_back: Whether it is kept beside them.
    """

    redactor: Redactor
    put_back: bool

    def of(self, text: str, attributes: Mapping[str, str | None]) -> tuple[str, dict[str, str | None], dict[str, str]]:
        """(text, attributes, placeholder → value) of one document."""
        redacted = self.redactor.redact([text, *attributes.values()])
        said, *others = redacted.texts
        return said or "", dict(zip(attributes, others, strict=True)), dict(redacted.withheld)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One document, and whether it can be sent.

    Attributes:
        reason: Why it cannot.
        withheld: Placeholder → value of what was taken out of it.
    """

    row: DocumentRow
    status: DocumentStatus
    reason: str | None
    withheld: Mapping[str, str] = field(default_factory=dict)


class OneByOne:
    """Makes documents of single rows: those that `prepare` makes of a table with that one row, in a twentieth of its
    time.

    Args:
        read_by_prompts, taking_out: As for `prepare`.
    """

    def __init__(
        self,
        source: Source,
        documents: Documents,
        *,
        read_by_prompts: Collection[str] | None = None,
        taking_out: TakingOut | None = None,
    ) -> None:
        self._source, self._documents, self._taking_out = source, documents, taking_out
        self._text_columns = source.text_columns
        wanted = set(source.attributes if read_by_prompts is None else read_by_prompts)
        self._read = [name for name in source.attributes if name in wanted]

    def document(self, values: Mapping[str, Any], *, key: str | None) -> Prepared:
        """The document of one row.

        Args:
            values: Column → value, of JSON; a column that is not named is null.
            key: Its key; None names it by its content.

        Raises:
            ContractBroken: a text is no text, or the key is impossible.
        """
        said = {name: _given_text(values.get(name), name) for name in self._text_columns}
        data = composed(self._source.text, said)
        text, status, reason = _judged(data, self._documents.max_characters)
        attributes = {name: _given_attribute(values.get(name)) for name in self._source.attributes}
        withheld: dict[str, str] = {}
        if self._taking_out is not None:
            text, attributes, withheld = self._taking_out.of(text, attributes)
        read = canonical_json({name: attributes[name] for name in self._read})
        fingerprint = fingerprint_of(_told_apart(data, text, status), read)
        if key:
            key = one_form(key)
            require_possible([key], "the request")
        row = DocumentRow(
            document_id=key or f"{ONLINE_PREFIX}{fingerprint}",
            fingerprint=fingerprint,
            text=text,
            attributes=attributes,
        )
        return Prepared(row, status, reason, withheld)

    def storable(self, values: Mapping[str, Any], withheld: Mapping[str, str]) -> dict[str, Any]:
        """The columns of a row as they may be stored: without what was taken out of its document, which they make."""
        if self._taking_out is None:
            return dict(values)
        said = {name: (_given_text(values.get(name), name) or b"").decode() for name in self._text_columns}
        attributes = {name: _given_attribute(values.get(name)) for name in self._source.attributes}
        columns = {name: value for name, value in {**attributes, **said}.items() if values.get(name) is not None}
        redacted = self._taking_out.redactor.redact(list(columns.values()), known=withheld)
        return dict(zip(columns, redacted.texts, strict=True))


def prepared_batch(prepared: Sequence[Prepared], documents: Documents) -> pa.RecordBatch:
    """Such documents in `BATCH_SCHEMA`. They are not published, so what was taken out of them is not kept."""
    rows = [one.row for one in prepared]
    made = [
        [row.document_id for row in rows],
        [row.fingerprint for row in rows],
        [row.text for row in rows],
        [canonical_json(dict(row.attributes)) for row in rows],
        [bucket_of(row.document_id, documents.buckets) for row in rows],
        [one.status.value for one in prepared],
        [one.reason for one in prepared],
        [None] * len(prepared),
    ]
    return pa.record_batch(
        [pa.array(values, type=field.type) for values, field in zip(made, BATCH_SCHEMA, strict=True)],
        schema=BATCH_SCHEMA,
    )


def _given_text(value: Any, name: str) -> bytes | None:
    if value is None or isinstance(value, str):
        try:
            return None if value is None else value.encode()
        except UnicodeEncodeError as error:
            raise ContractBroken(f"The text of column {name!r} holds half of a surrogate pair. Send text.") from error
    if isinstance(value, bool | int | float):
        return (text_of(value) or "").encode()
    raise ContractBroken(f"Column {name!r} is to hold a text, and holds a {type(value).__name__}. Send text.")


def _given_attribute(value: Any) -> str | None:
    if isinstance(value, dict | list):
        return canonical_json(_plain(value))
    text = text_of(value)
    return None if text is None else one_form(text.encode(errors="replace").decode())


def bucket_of(document_id: str, buckets: int) -> int:
    """The bucket of a document in [0, buckets): a hash of its id, equal on every machine."""
    return int.from_bytes(hashlib.sha256(document_id.encode()).digest()[:8]) % buckets


def fingerprint_of(text: str, attributes: str) -> str:
    """Hash of a normalized text and the attributes that prompts read (canonical JSON)."""
    # A normalized text holds no NUL, so the two cannot run into each other.
    return hashlib.sha256(text.encode() + b"\0" + attributes.encode()).hexdigest()[:FINGERPRINT_LENGTH]


def _documents(
    batch: pa.RecordBatch, source: Source, documents: Documents, read: Sequence[str], taking_out: TakingOut | None
) -> pa.RecordBatch:
    _check_columns(batch, source)
    keys = _keys(batch.column(source.key), source)
    columns = {name: _attributes(batch.column(name), name, source) for name in source.attributes}
    refused = batch.column(REFUSED).to_pylist() if REFUSED in batch.schema.names else [None] * len(keys)
    bodies, statuses, reasons = [], [], []
    for data, why in zip(said := _composed(batch, source), refused, strict=True):
        text, status, reason = _judged(data, documents.max_characters)
        if why is not None:
            text, status, reason = "", DocumentStatus.UNDECODABLE, why
        bodies.append(text)
        statuses.append(status)
        reasons.append(reason)
    withheld = [None] * len(keys) if taking_out is None else _taken_out(bodies, columns, taking_out)
    attributes = _json_rows(columns, len(keys))
    chosen = _json_rows({name: columns[name] for name in read}, len(keys))
    fingerprints = [
        fingerprint_of(_told_apart(data, text, status), attribute_json)
        for data, text, status, attribute_json in zip(said, bodies, statuses, chosen, strict=True)
    ]
    buckets = [bucket_of(key, documents.buckets) for key in keys]
    made = [keys, fingerprints, bodies, attributes, buckets, [one.value for one in statuses], reasons, withheld]
    return pa.record_batch(
        [pa.array(values, type=field.type) for values, field in zip(made, BATCH_SCHEMA, strict=True)],
        schema=BATCH_SCHEMA,
    )


def _taken_out(
    bodies: list[str], columns: Mapping[str, list[str | None]], taking_out: TakingOut
) -> Sequence[str | None]:
    """What was taken out of each row, as JSON where it is to be put back; `bodies` and `columns` are without it."""
    kept = []
    for at, text in enumerate(bodies):
        bodies[at], others, withheld = taking_out.of(text, {name: values[at] for name, values in columns.items()})
        for name, value in others.items():
            columns[name][at] = value
        kept.append(canonical_json(withheld) if withheld and taking_out.put_back else None)
    return kept


def _judged(data: bytes | None, max_characters: int) -> tuple[str, DocumentStatus, str | None]:
    if data is None:
        return "", DocumentStatus.EMPTY, "the text is null"
    raw, problem = decoded(data)
    text = normalized(raw)
    if problem is not None:
        return text, DocumentStatus.UNDECODABLE, problem
    if not text:
        return text, DocumentStatus.EMPTY, f"nothing is left of {len(raw)} characters after normalization"
    if len(text) > max_characters:
        reason = f"{len(text)} characters, more than documents.max_characters ({max_characters})"
        return text, DocumentStatus.OVERSIZED, reason
    return text, DocumentStatus.SENDABLE, None


def _told_apart(data: bytes | None, text: str, status: DocumentStatus) -> str:
    """What is hashed of a text: two unreadable ones may look alike once decoded; their bytes tell them apart."""
    return f"bytes:{hashlib.sha256(data or b'').hexdigest()}" if status is DocumentStatus.UNDECODABLE else text


def _check_columns(batch: pa.RecordBatch, source: Source) -> None:
    missing = [name for name in source.columns if name not in batch.schema.names]
    if missing:
        raise ContractBroken(
            f"Source {source.address!r} has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, batch.schema.names))}. Name other columns in application.yaml, or bring them back."
        )


def _keys(column: pa.Array, source: Source) -> list[str]:
    if pa.types.is_nested(column.type):
        raise ContractBroken(
            f"Column {source.key!r} of source {source.address!r} has type {column.type}, which cannot be a key. "
            "Name a column of texts or numbers as source.key."
        )
    if pa.types.is_floating(column.type) and pc.any(pc.greater_equal(pc.abs(column), EXACT_INTEGERS)).as_py():
        raise inexact_keys(source.address, source.key)
    keys = texts(column)
    missing = sum(not key for key in keys)
    if missing:
        raise ContractBroken(
            f"{missing} of {len(keys)} rows of source {source.address!r} have no key (column {source.key!r} is null or "
            "empty). Give every row a key of its own, or leave these rows out of the source."
        )
    present = [key for key in keys if key is not None]
    require_possible(present, f"source {source.address!r} (column {source.key!r})")
    return present


def require_possible(keys: Sequence[str], of: str) -> None:
    """Refuse keys that no table of ours can hold.

    Raises:
        ContractBroken: with how many there are, and what is wrong with the first.
    """
    wrong = [(number, why) for number, key in enumerate(keys, start=1) if (why := impossible(key)) is not None]
    if wrong:
        number, why = wrong[0]
        shown = ascii(keys[number - 1][:SHOWN_CHARACTERS])
        raise ContractBroken(
            f"{len(wrong)} of {len(keys)} keys of {of} are impossible (first: {shown}, which {why}). Give these rows "
            "other keys; nothing was written."
        )


def _composed(batch: pa.RecordBatch, source: Source) -> list[bytes | None]:
    """The text of each row, from one column or several."""
    names = source.text_columns
    columns = [_bytes(batch.column(name), name, source) for name in names]
    if names == (source.text,):
        return columns[0]
    return [composed(source.text, dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _bytes(column: pa.Array, name: str, source: Source) -> list[bytes | None]:
    """Texts as bytes, so that strings and binary columns are judged alike (a string column may hold invalid UTF-8)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or _is_text(column.type)):
        if pa.types.is_nested(column.type):
            raise ContractBroken(
                f"Column {name!r} of source {source.address!r} has type {column.type}, which is not text. "
                "Choose a text column as source.text."
            )
        column = written(column)
    return list(pc.cast(column, pa.large_binary()).to_pylist())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _attributes(column: pa.Array, name: str, source: Source) -> list[str | None]:
    """A column of any type as text; lists and structs as canonical JSON."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        return [None if value is None else canonical_json(_plain(value)) for value in python_values(column)]
    try:
        # Not `columns.texts`: fingerprints cover these values, and another way of writing a number would be paid for.
        values = pc.cast(written(column), pa.binary()).to_pylist()
    except pa.ArrowInvalid:  # bytes that are not UTF-8
        values = pc.cast(column, pa.binary()).to_pylist()
    except pa.ArrowNotImplementedError as error:
        raise ContractBroken(
            f"Column {name!r} of source {source.address!r} has type {column.type}, which cannot be text. "
            "Cast it in the source, or leave it out."
        ) from error
    return [None if value is None else one_form(value.decode(errors="replace")) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return value
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _json_rows(columns: dict[str, list[str | None]], count: int) -> list[str]:
    """One canonical JSON object a row; equal rows are written once."""
    if not columns:
        return ["{}"] * count
    names = list(columns)
    known: dict[tuple[str | None, ...], str] = {}
    rows = []
    for values in zip(*columns.values(), strict=True):
        row = known.get(values)
        if row is None:
            row = canonical_json(dict(zip(names, values, strict=True)))
            if len(known) < _CACHED_ATTRIBUTES:
                known[values] = row
        rows.append(row)
    return rows
