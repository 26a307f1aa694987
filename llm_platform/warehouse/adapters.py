"""`training_sets`, `training_examples`, `adapters`, `adapter_reports`: what was trained on what, and how good it is.

The files of an adapter are in its folder; here is which adapter a name points at, and what has been measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from llm_platform.records import AdapterManifest, TrainingData, canonical_json
from llm_platform.records.tables import arrow_schema
from llm_platform.warehouse.schema import NEWEST_FIRST
from llm_platform.warehouse.session import LAKE, UPSTREAM, Session, Transaction

EXAMPLES_SCHEMA = arrow_schema("training_examples")


class TrainingSets:
    """Frozen training examples of one application, by the hash of their content."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def put(self, name: str, data: TrainingData, examples: Sequence[Mapping[str, Any]], *, rules_hash: str) -> int:
        """Store a set of examples, unless it is what the name has now; returns the snapshot id.

        Args:
            name: Adapter that they are for.
            data: What they are, in numbers.
            examples: Mappings with at least `document_id` and `part`, in the order in which they train.
            rules_hash: Of the rules by which they were chosen and rendered.
        """
        rows = [
            {
                "content_hash": data.content_hash,
                "position": position,
                "document_id": example["document_id"],
                "part": example["part"],
                "example": canonical_json(dict(example)),
            }
            for position, example in enumerate(examples)
        ]
        batch = pa.Table.from_pylist(rows, schema=EXAMPLES_SCHEMA)

        def body(transaction: Transaction) -> None:
            newest = transaction.run(
                f"SELECT content_hash, rules_hash FROM {transaction.relation('training_sets')} WHERE name = ? "
                f"ORDER BY {NEWEST_FIRST} LIMIT 1",
                [name],
            )
            if newest == [(data.content_hash, rules_hash)]:
                return
            known = transaction.run(
                f"SELECT 1 FROM {transaction.relation('training_examples')} WHERE content_hash = ? LIMIT 1",
                [data.content_hash],
            )
            if not known:
                target = transaction.target("training_examples")
                transaction.cursor.register("new_training_examples", batch)
                transaction.run(f"INSERT INTO {target} SELECT * FROM new_training_examples")
            sequence = transaction.next_sequence("training_sets")
            transaction.run(
                f"INSERT INTO {transaction.target('training_sets')} "
                '(content_hash, name, rules_hash, data, created_at, "sequence") VALUES (?, ?, ?, ?, now(), ?)',
                [data.content_hash, name, rules_hash, data.model_dump_json(), sequence],
            )

        return self._session.write(self._application, body)[1]

    def newest(self, name: str, *, rules_hash: str) -> TrainingData | None:
        """The newest set of a name that was chosen and rendered by these rules."""
        found = self._session.value(
            f"SELECT data FROM {self._relation('training_sets')} WHERE name = ? AND rules_hash = ? "
            f"ORDER BY {NEWEST_FIRST} LIMIT 1",
            [name, rules_hash],
        )
        return TrainingData.model_validate_json(found) if found is not None else None

    def examples(self, content_hash: str) -> list[dict[str, Any]]:
        """The examples of a set, in order."""
        rows = self._session.rows(
            f"SELECT example FROM {self._relation('training_examples')} WHERE content_hash = ? ORDER BY position",
            [content_hash],
        )
        return [json.loads(row[0]) for row in rows]

    def document_ids(self, content_hash: str) -> list[str]:
        """Documents that train or validate in a set."""
        rows = self._session.rows(
            f"SELECT document_id FROM {self._relation('training_examples')} WHERE content_hash = ? ORDER BY position",
            [content_hash],
        )
        return [row[0] for row in rows]

    def _relation(self, table: str) -> str:
        return self._session.relation(self._application, table)


class Adapters:
    """Adapters of one application: append-only, the newest row of a name first."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, manifest: AdapterManifest, *, inputs_hash: str) -> int:
        """Let a name point at an adapter, unless it does already; returns the snapshot id.

        Args:
            manifest: What it was made from.
            inputs_hash: Of all that training reads; empty for an adapter that was trained elsewhere.
        """

        def body(transaction: Transaction) -> None:
            newest = transaction.run(
                f"SELECT adapter_id FROM {transaction.relation('adapters')} WHERE name = ? "
                f"ORDER BY {NEWEST_FIRST} LIMIT 1",
                [manifest.name],
            )
            if newest == [(manifest.adapter_id,)]:
                return
            values = [manifest.adapter_id, manifest.name, inputs_hash, manifest.model_dump_json()]
            sequence = transaction.next_sequence("adapters")
            transaction.run(
                f"INSERT INTO {transaction.target('adapters')} "
                '(adapter_id, name, inputs_hash, manifest, created_at, "sequence") VALUES (?, ?, ?, ?, now(), ?)',
                [*values, sequence],
            )

        return self._session.write(self._application, body)[1]

    def named(self, name: str) -> list[AdapterManifest]:
        """Manifests of the adapters that had a name, newest first."""
        return self._select("name = ?", [name])

    def trained(self, inputs_hash: str) -> AdapterManifest | None:
        """The adapter that was trained from exactly these inputs."""
        found = self._select("inputs_hash = ?", [inputs_hash])
        return found[0] if found else None

    def get(self, adapter_id: str) -> AdapterManifest | None:
        """An adapter by its id."""
        found = self._select("adapter_id = ?", [adapter_id])
        return found[0] if found else None

    def all(self) -> list[AdapterManifest]:
        """Every adapter once, newest first."""
        return list({manifest.adapter_id: manifest for manifest in self._select("true", [])}.values())

    def _select(self, where: str, parameters: list[Any]) -> list[AdapterManifest]:
        """Ours, then the upstream's: a branch answers with the adapters of production until it trains its own."""
        found = []
        for catalog in (LAKE, UPSTREAM):
            relation = self._session.relation(self._application, "adapters", catalog=catalog)
            found += self._session.rows(
                f"SELECT manifest FROM {relation} WHERE {where} ORDER BY {NEWEST_FIRST}, adapter_id", parameters
            )
        return [AdapterManifest.model_validate_json(row[0]) for row in found]


class AdapterReports:
    """What was measured of adapters, as JSON by subject and kind; append-only."""

    def __init__(self, session: Session, application: str) -> None:
        self._session = session
        self._application = application

    def append(self, subject: str, kind: str, content: str) -> int:
        """Store a measurement, unless the newest of its kind says the same; returns the snapshot id.

        Args:
            subject: An adapter's id, or the name of one for what concerns all that had it.
            kind: What was measured.
            content: The outcome, as JSON.
        """

        def body(transaction: Transaction) -> None:
            newest = transaction.run(
                f"SELECT content FROM {transaction.relation('adapter_reports')} WHERE subject = ? AND kind = ? "
                f"ORDER BY {NEWEST_FIRST} LIMIT 1",
                [subject, kind],
            )
            if newest != [(content,)]:
                sequence = transaction.next_sequence("adapter_reports")
                target = transaction.target("adapter_reports")
                transaction.run(
                    f'INSERT INTO {target} (subject, kind, content, created_at, "sequence") VALUES (?, ?, ?, now(), ?)',
                    [subject, kind, content, sequence],
                )

        return self._session.write(self._application, body)[1]

    def newest(self, subject: str, kind: str) -> str | None:
        """The newest measurement of a kind."""
        relation = self._session.relation(self._application, "adapter_reports")
        found = self._session.value(
            f"SELECT content FROM {relation} WHERE subject = ? AND kind = ? ORDER BY {NEWEST_FIRST} LIMIT 1",
            [subject, kind],
        )
        return None if found is None else str(found)
