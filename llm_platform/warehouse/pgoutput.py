"""Messages of Postgres' plugin `pgoutput`, read for the keys of one table's changed rows.

Source: PostgreSQL's documentation, "Logical Replication Message Formats", protocol version 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_KEYS = 100_000
"""Beyond so many changed keys, reading all rows and comparing them is no more work."""

BEGIN, RELATION, INSERT, UPDATE, DELETE, TRUNCATE = b"BRIUDT"
TEXT = ord("t")


@dataclass
class ChangedKeys:
    """What a slot holds of one table.

    Attributes:
        keys: Of rows that came, changed or left, as Postgres writes values of that type; incomplete where `whole` says
            something.
        whole: Why the keys do not say everything; None where they do.
        newest: Where in the WAL the last transaction that changed the table was committed; None where there is none.
        transactions: Ids (32 bits) of the transactions that changed it.
    """

    keys: set[str] = field(default_factory=set, repr=False)
    whole: str | None = None
    newest: int | None = None
    transactions: set[int] = field(default_factory=set, repr=False)


def changed_keys(messages: Iterable[bytes], *, relation: int, key: str, most: int = MOST_KEYS) -> ChangedKeys:
    """Keys of a table that these messages are about.

    Args:
        messages: In the order of the slot; those about other tables may be among them.
        relation: The table's oid.
        key: Name of its key column.
        most: Keys that are kept; more of them stand for the whole table.
    """
    found = ChangedKeys()
    transaction = commit = 0
    at: int | None = None
    for message in messages:
        kind = message[0]
        if kind == BEGIN:
            commit, transaction = _number(message, 1, 8), _number(message, 17, 4)
            continue
        if kind == TRUNCATE:
            tables = [_number(message, 6 + 4 * index, 4) for index in range(_number(message, 1, 4))]
            if relation not in tables:
                continue
            found.whole = "the table was truncated"
            found.keys.clear()
        elif kind not in (RELATION, INSERT, UPDATE, DELETE) or _number(message, 1, 4) != relation:
            continue
        elif kind == RELATION:
            at = _column(message, key)
            continue
        else:
            _take(found, _keys(message, at), most)
        found.newest = commit
        found.transactions.add(transaction)
    return found


def _take(found: ChangedKeys, keys: list[str | None], most: int) -> None:
    if None in keys:
        found.whole = found.whole or "changed rows were sent without their key"
    found.keys.update(key for key in keys if key is not None)
    if len(found.keys) > most:
        found.whole = found.whole or f"more than {most} keys changed"
    if found.whole is not None:
        found.keys.clear()


def _keys(message: bytes, at: int | None) -> list[str | None]:
    """The key before a change, where it is sent, and after it; None where a row has none, or it is not sent."""
    offset, keys = 5, []
    while offset < len(message):
        # A letter says which row follows: the old one, its key alone, or the new one. Their form is the same.
        key, offset = _key(message, offset + 1, at)
        keys.append(key)
    return keys


def _key(message: bytes, offset: int, at: int | None) -> tuple[str | None, int]:
    """The key in the row that begins here, and where that row ends."""
    columns, key = _number(message, offset, 2), None
    offset += 2
    for index in range(columns):
        kind, offset = message[offset], offset + 1
        if kind != TEXT:
            # Null, or a long value that has not changed and is not sent; values are never sent in binary form.
            continue
        size = _number(message, offset, 4)
        offset += 4
        if index == at:
            key = _decoded(message[offset : offset + size])
        offset += size
    return key, offset


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # A database without an encoding (SQL_ASCII) holds what it was given. When all rows are read, it shows.
        return None


def _column(message: bytes, name: str) -> int | None:
    """Which of a relation's columns has this name; None where it is not sent."""
    _, offset = _text(message, 5)
    _, offset = _text(message, offset)
    columns = _number(message, offset + 1, 2)
    offset += 3
    for index in range(columns):
        found, offset = _text(message, offset + 1)
        if found == name:
            return index
        offset += 8
    return None


def _text(message: bytes, offset: int) -> tuple[str, int]:
    end = message.index(0, offset)
    return message[offset:end].decode(), end + 1


def _number(message: bytes, offset: int, size: int) -> int:
    return int.from_bytes(message[offset : offset + size], "big")
