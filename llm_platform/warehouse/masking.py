"""What readers get of a published table: some of its columns hashed, redacted, or not at all.

The masks are SQL over the full table, applied where a copy is written or a reader's query runs, so that no place holds
both. A hash is an HMAC-SHA256 with a key that is derived from the deployment's: nobody without it can try out values.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from llm_platform.errors import SpecificationError
from llm_platform.records.contracts import REDACTED, Column, Contract
from llm_platform.warehouse.engine import identifier, literal
from llm_platform.warehouse.session import Session

if TYPE_CHECKING:
    from llm_platform.signing.keys import SigningKey

PURPOSE = "masks of "
"""In front of the application's name: what is hashed for readers is hashed for nothing else."""
BLOCK = 64
INNER, OUTER = "llm_platform_mask_inner", "llm_platform_mask_outer"
"""Variables of a cursor that hold the key: a statement that names it would stand in an error."""


def mask_key_id(session: Session, *, make: bool = False) -> str | None:
    """Which key hashes are made with; None where there is none yet.

    Args:
        session: Knows where the deployment's key is.
        make: Make one where there is none.

    Raises:
        SpecificationError: the file is no key.
    """
    path = session.signing_key
    if path is None or not (make or Path(path).exists()):
        return None
    # Loads cryptography, which only masks need.
    from llm_platform.signing.keys import signing_key

    return signing_key(Path(path), make=make).key_id[:16]


def hand_key(session: Session, cursor: duckdb.DuckDBPyConnection, contract: Contract, *, application: str) -> None:
    """Let a cursor hash what the contract masks so.

    Raises:
        SpecificationError: the key is not the one that readers' hashes were made with, or there is none.
    """
    if "hash" not in contract.masks.values():
        return
    found = mask_key_id(session)
    if session.signing_key is None or found is None or contract.mask_key not in (None, found):
        has = "there is none" if found is None else f"the key here is {found}"
        raise SpecificationError(
            f"{application}.{contract.table} is hashed for readers with the deployment's key "
            f"{contract.mask_key or ''}, and {has}. Name that key in LLM_PLATFORM_SIGNING_KEY; or, if it is lost, give "
            "the table another number ('publish.contract'), since no hash stays what it was."
        )
    from llm_platform.signing.keys import signing_key

    key = signing_key(Path(session.signing_key)).derived(PURPOSE + application).ljust(BLOCK, b"\0")
    for name, pad in ((INNER, 0x36), (OUTER, 0x5C)):
        cursor.execute(f"SET VARIABLE {name} = $1", [bytes(byte ^ pad for byte in key)])


def hashed_for_readers(key: SigningKey, values: Iterable[str], *, application: str) -> list[str]:
    """What readers get of some texts where a column is hashed."""
    derived = key.derived(PURPOSE + application)
    return [hmac.digest(derived, value.encode("utf-8", "surrogatepass"), "sha256").hex() for value in values]


def masked_select(contract: Contract, relation: str) -> str:
    """SQL of the rows as readers get them, from a relation that has the full ones."""
    listed = ", ".join(f"{_masked(one)} AS {identifier(one.name)}" for one in contract.columns if one.mask != "drop")
    return f"SELECT {listed} FROM {relation}"


def _masked(column: Column) -> str:
    name = identifier(column.name)
    if column.mask == "hash":
        inner = f"sha256(getvariable('{INNER}') || encode({name}::VARCHAR))"
        return f"sha256(getvariable('{OUTER}') || unhex({inner}))"
    if column.mask == "redact":
        hidden = literal(REDACTED) if column.type == "string" else f"NULL::{column.sql_type}"
        return f"CASE WHEN {name} IS NOT NULL THEN {hidden} END"
    return name
