"""Columns of a published table as SQL over stored answers: each field of an answer in the type of its column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

import pyarrow as pa

from llm_platform.records.contracts import ANSWER, KEY, Column, Contract
from llm_platform.redaction.redactor import put_back
from llm_platform.tables.money import read_money
from llm_platform.warehouse.engine import identifier, json_pointer, literal
from llm_platform.warehouse.session import Transaction

DIGITS_BEFORE_THE_POINT = 14
"""Of an amount, as DECIMAL(18,4) has them."""
UNREADABLE = {"date": "is no day", "money": "is no amount of money", "integer": "is no number that a column takes"}
"""What may be wrong with a value of an answer that has the right form."""


def amounts_table(field: str) -> str:
    """Name of the temporary table of a field's amounts."""
    return identifier(f"amounts of {field}")


def value(column: Column, contract: Contract) -> str:
    """SQL of a column's value, over a row `w` that has the stored answer."""
    if column.field is None:
        return _relabelled(contract)
    if column.part is not None:
        return f"{amounts_table(column.field)}.currency"
    if column.type == "money":
        return f"{amounts_table(column.field)}.amount"
    if column.type == "list":
        return f"TRY_CAST(json_extract(w.answer, {pointer(column.field)}) AS VARCHAR[])"
    text = _text(column.field)
    return text if column.type == "string" else f"TRY_CAST({text} AS {column.sql_type})"


def pointer(field: str) -> str:
    """A field's place in an answer, as a JSON pointer: a path would read points and quotes of its name."""
    return literal(json_pointer(field))


def reason(contract: Contract) -> str:
    """SQL of the column `reason`: also says which value of a valid answer no column takes."""
    said = [
        f"CASE WHEN {_text(one.field)} <> '' AND {value(one, contract)} IS NULL "
        f"THEN {literal(f'the value of {one.field!r} {UNREADABLE[one.type]}')} END"
        for one in _may_not_fit(contract)
        if one.field is not None
    ]
    return f"nullif(concat_ws('; ', {', '.join(['w.reason', *said])}), '')" if said else "w.reason"


def joins(contract: Contract) -> str:
    """SQL of the joins that `value` needs."""
    return " ".join(
        f"LEFT JOIN {amounts_table(field)} ON {amounts_table(field)}.text = {_text(field)}"
        for field in _fields_of_money(contract)
    )


def differs(contract: Contract) -> str:
    """SQL: whether the row `p` of a published table is not the row `w` that is wanted.

    A release answers a text once, so that what is read from an answer need not be compared.
    """
    plain = all(one.field is None for one in contract.answers)
    compared = ["variant", "release_id", "status", "fingerprint", "answered_at", "confidence"]
    said = [f"w.{column} IS DISTINCT FROM p.{column}" for column in compared]
    if plain:
        said += [f"{value(one, contract)} IS DISTINCT FROM p.{identifier(one.name)}" for one in contract.answers]
    else:
        # Two documents with one text may have had other names and numbers in it; never other amounts of money, and what
        # `value` needs for those is not there yet.
        texts = [one for one in contract.answers if one.type in ("string", "list") and one.part is None]
        others = [f"{value(one, contract)} IS DISTINCT FROM p.{identifier(one.name)}" for one in texts]
        said += [f"(w.withheld IS NOT NULL AND ({' OR '.join(others)}))"] if others else []
    unsaid = "" if plain else "w.status <> 'valid' AND "
    return " OR ".join([*said, f"({unsaid}w.reason IS DISTINCT FROM p.reason)"])


def put_back_withheld(transaction: Transaction) -> None:
    """Put what `redaction` has taken out of documents into the answers of the table `wanted`."""
    found = transaction.run(
        "SELECT document_id, answer, withheld FROM wanted WHERE withheld IS NOT NULL AND contains(answer, '<')"
    )
    if not found:
        return
    answers = [put_back(answer, json.loads(withheld), is_json=answer.startswith("{")) for _, answer, withheld in found]
    whole = pa.table({"document_id": [row[0] for row in found], "answer": pa.array(answers, pa.string())})
    transaction.cursor.register("whole_answers", whole)
    transaction.run(
        "UPDATE wanted SET answer = whole_answers.answer FROM whole_answers "
        "WHERE whole_answers.document_id = wanted.document_id"
    )
    transaction.cursor.unregister("whole_answers")


def stage_amounts(transaction: Transaction, contract: Contract) -> None:
    """Read the amounts of money in the rows that are written, once for each text."""
    for field in _fields_of_money(contract):
        texts = transaction.run(
            f"SELECT DISTINCT {_text(field)} FROM wanted w SEMI JOIN difference USING ({KEY}) "
            f"WHERE {_text(field)} IS NOT NULL"
        )
        transaction.cursor.register("read_amounts", _read([text for (text,) in texts]))
        transaction.run(f"CREATE OR REPLACE TEMP TABLE {amounts_table(field)} AS SELECT * FROM read_amounts")
        transaction.cursor.unregister("read_amounts")


def _read(texts: Sequence[str]) -> pa.Table:
    read = [read_money(text) for text in texts]
    fits = [one is not None and abs(one.amount) < Decimal(10) ** DIGITS_BEFORE_THE_POINT for one in read]
    rounded = [
        one.amount.quantize(Decimal("0.0001")) if one is not None and fit else None
        for one, fit in zip(read, fits, strict=True)
    ]
    return pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "amount": pa.array(rounded, pa.decimal128(18, 4)),
            "currency": pa.array([one.currency if one is not None else None for one in read], pa.string()),
        }
    )


def violations(contract: Contract) -> Iterator[tuple[str, str]]:
    """(what is wrong, SQL of the rows of which it is) for rows of a published table that keep no promise."""
    for column in contract.answers:
        name = identifier(column.name)
        if column.answered:
            yield f"are valid without {column.name!r}", f"status = 'valid' AND {name} IS NULL"
        yield f"have {column.name!r} without being valid", f"status <> 'valid' AND {name} IS NOT NULL"
        if column.values:
            known = ", ".join(map(literal, column.values))
            yield f"have a {column.name!r} that is none of its values", f"{name} NOT IN ({known})"
    yield "have a confidence outside [0, 1]", "confidence < 0 OR confidence > 1"
    yield "have no answer and no reason", "status <> 'valid' AND reason IS NULL"


def _relabelled(contract: Contract) -> str:
    if not contract.labels:
        return f"w.{ANSWER}"
    cases = " ".join(f"WHEN {literal(label)} THEN {literal(shown)}" for label, shown in contract.labels.items())
    return f"CASE w.{ANSWER} {cases} ELSE w.{ANSWER} END"


def _text(field: str | None) -> str:
    return f"json_extract_string(w.answer, {pointer(field or '')})"


def _fields_of_money(contract: Contract) -> list[str]:
    found = [one.field for one in contract.answers if one.field is not None and (one.type == "money" or one.part)]
    return list(dict.fromkeys(found))


def _may_not_fit(contract: Contract) -> list[Column]:
    return [one for one in contract.answers if one.type in UNREADABLE]
