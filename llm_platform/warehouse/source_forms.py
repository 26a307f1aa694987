"""Keys of tables in databases as texts in one form: in SQL what `tables.forms` does in Python."""

from __future__ import annotations

from llm_platform.errors import ContractBroken
from llm_platform.tables.forms import EXACT_INTEGERS
from llm_platform.warehouse.engine import identifier

FLOATS = ("DOUBLE", "FLOAT")
NESTED = ("STRUCT", "MAP", "UNION", "LIST")


def text_form(column: str, kind: str) -> str:
    """SQL of a column of this SQL type as text: whole numbers without a point, NFC."""
    name = identifier(column)
    if kind in FLOATS:
        whole = f"{name} = trunc({name}) AND abs({name}) < {EXACT_INTEGERS:.0f}"
        return f"CASE WHEN isnan({name}) THEN NULL WHEN {whole} THEN {name}::BIGINT::VARCHAR ELSE {name}::VARCHAR END"
    if kind.startswith("DECIMAL") and not kind.endswith(",0)"):
        return f"regexp_replace({name}::VARCHAR, '\\.?0+$', '')"
    return f"nfc_normalize({name}::VARCHAR)"


def key_form(column: str, kind: str, *, of: str) -> str:
    """SQL of a key column as text; see `text_form`.

    Raises:
        ContractBroken: a value of this type names nothing.
    """
    if kind.startswith(NESTED) or kind.endswith("]"):
        raise ContractBroken(
            f"Column {column!r} of {of} has type {kind}, which cannot be a key. Name a column of texts or numbers."
        )
    return text_form(column, kind)
