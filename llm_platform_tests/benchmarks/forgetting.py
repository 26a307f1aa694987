"""What it costs to forget one document, and a thousand, among many. By hand:

    python -m llm_platform_tests.benchmarks.forgetting --rows 1000000

Every document has an answer and a published row; requests of people's own code quote some of them. Of a lake in a
folder, on a SQLite catalog, in one process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from llm_platform.operations.privacy.forgetting import ForgetPlace, Forgetting
from llm_platform.records import Call
from llm_platform.signing.keys import signing_key
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.benchmarks import lake as filled
from llm_platform_tests.operations.privacy.test_forgetting import call

RELEASE = "release"
CALLS, AT_ONCE = 2_000, 200
MANY = 1_000


def location(folder: Path) -> LakeLocation:
    """The lake of the benchmarks, with a key that signs."""
    return replace(filled.location(folder), signing_key=str(folder / "key.pem"))


def prepare(folder: Path, rows: int) -> None:
    """Documents, an answer to each, what is published of them, known answers of some, and calls that quote some."""
    filled.fill(folder, rows)
    with Warehouse.attach(location(folder), threads=2) as lake:
        store = lake.application(filled.NAME)
        store._session.write(filled.NAME, lambda one: _answer(one, rows))
        store.published.publish(RELEASE, 1)
        keys = [f"{number:08d}" for number in range(0, rows, max(1, rows // 2_000))]
        known = {"document_id": keys, "answer": ["HAPPY"] * len(keys), "split": ["train"] * len(keys)}
        store.references.replace(pa.table(known))
        for start in range(0, CALLS, AT_ONCE):
            lake.calls.append([_call(number) for number in range(start, start + AT_ONCE)])


def _answer(transaction: object, rows: int) -> None:
    target = transaction.target("completions")  # type: ignore[attr-defined]
    documents = transaction.relation("documents")  # type: ignore[attr-defined]
    transaction.run(  # type: ignore[attr-defined]
        f"INSERT INTO {target} BY NAME SELECT '{RELEASE}' AS release_id, fingerprint, document_id, 'valid' AS status, "
        "'an answer to ' || document_id AS answer, 'an answer to ' || document_id AS raw, now() AS created_at "
        f"FROM {documents} ORDER BY fingerprint LIMIT {rows:d}"
    )


def _call(number: int) -> Call:
    said = f"Is this sad? It is letter {number} of somebody, and it says nothing that anybody else says."
    return call(f"call-{number}", said)


def forget(folder: Path, keys: list[str]) -> float:
    """Seconds from the request to the certificate."""
    place = ForgetPlace("main", lambda: Warehouse.attach(location(folder), threads=2), folder)
    work = Forgetting([place], signing_key(folder / "key.pem", make=True), lambda: datetime.now(UTC))
    began = time.monotonic()
    work.ask(filled.NAME, keys, by="benchmark", reason="")
    (done,) = work.finish(filled.NAME)
    seconds = time.monotonic() - began
    removed = done.statement["predicate"]["namespaces"]["main"]["tables"][f"{filled.NAME}.documents"]
    if removed["rows_removed_or_mended"] != len(keys) or removed["rows_about_them_now"]:
        raise AssertionError(f"{removed} of {len(keys)} documents")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forgetting-") as root:
        folder = Path(root)
        began = time.monotonic()
        prepare(folder, given.rows)
        made = time.monotonic() - began
        one = forget(folder, [f"{given.rows // 2 + 1:08d}"])
        many = forget(folder, [f"{number:08d}" for number in range(0, given.rows, given.rows // MANY)][:MANY])
    figures = {"rows": given.rows, "made_seconds": made, "one_seconds": one, "many_seconds": many, "ratio": many / one}
    sys.stdout.write(json.dumps({name: round(value, 2) for name, value in figures.items()}) + "\n")


if __name__ == "__main__":
    main()
