"""`contracts`: what readers of each published table have been promised. Append-only: the newest of a number holds."""

from __future__ import annotations

from datetime import UTC, datetime

from llm_platform.records.contracts import Contract
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

NEWEST = 'QUALIFY row_number() OVER (PARTITION BY contract ORDER BY "sequence" DESC) = 1'


class Contracts:
    """Contracts of one application that were published."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def published(self, *, upstream: bool = False) -> dict[int, Contract]:
        """Number → the newest contract of each table that is there, in this namespace or in the one below."""
        catalog = UPSTREAM if upstream else LAKE
        relation = self._session.relation(self._application, "contracts", catalog=catalog)
        found = self._session.rows(f"SELECT contract, content FROM {relation} {NEWEST} ORDER BY contract")
        contracts = [Contract.model_validate_json(content) for _, content in found]
        # Of one that is retired only the row is left.
        return {
            one.number: one for one in contracts if self._session.exists(self._application, one.table, catalog=catalog)
        }

    def history(self, number: int) -> list[tuple[Contract, datetime]]:
        """Every contract of a number and since when it held, the oldest first."""
        relation = self._session.relation(self._application, "contracts")
        found = self._session.rows(
            f'SELECT content, created_at FROM {relation} WHERE contract = ? ORDER BY "sequence"', [number]
        )
        return [(Contract.model_validate_json(content), at) for content, at in found]


def stored_contract(transaction: Transaction, number: int, *, upstream: bool = False) -> Contract | None:
    """The newest contract of a number, as a transaction sees it, here or in the namespace that this one stands on."""
    relation = transaction.upstream("contracts") if upstream else transaction.relation("contracts")
    found = transaction.run(
        f'SELECT content FROM {relation} WHERE contract = ? ORDER BY "sequence" DESC LIMIT 1',
        [number],
    )
    return Contract.model_validate_json(found[0][0]) if found else None


def store_contract(transaction: Transaction, contract: Contract) -> None:
    """Write down what readers are promised from now on, where that is something else."""
    stored = stored_contract(transaction, contract.number)
    if stored is not None and stored.content_id == contract.content_id:
        return
    sequence = transaction.next_sequence("contracts")
    transaction.run(
        f"INSERT INTO {transaction.target('contracts')} "
        '(contract, version, content_id, content, created_at, "sequence") VALUES (?, ?, ?, ?, ?, ?)',
        [
            contract.number,
            contract.version,
            contract.content_id,
            contract.model_dump_json(),
            datetime.now(UTC),
            sequence,
        ],
    )
