"""What was forgotten is gone from copies and from what callers sent, and what learned it is barred until accepted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest

from llm_platform.contracts.files import contract_files
from llm_platform.errors import EvidenceMissing
from llm_platform.operations.evidence.adapter_evidence import require_unbarred
from llm_platform.operations.privacy.forgetting import Forgetting
from llm_platform.records import AdapterManifest, ModelPin, OnlineDocument, TrainingData
from llm_platform.records.contracts import text_contract
from llm_platform.signing.keys import signing_key
from llm_platform.warehouse.copies import CopyPlace, FolderPlace, S3Place
from llm_platform.warehouse.copies_postgres import PostgresPlace, schema_name
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.operations.privacy.test_forgetting import CANARY, GONE, KEPT, Ward, fill_ward, versions_in
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.warehouse.builders import NOON, release
from llm_platform_tests.warehouse.conftest import sqlite_location

CONTRACTS = [text_contract(1, application="reviews"), text_contract(2, application="reviews")]


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    """On SQLite: the catalog makes no difference here."""
    return _ward(tmp_path)


def _ward(folder: Path, s3: Any = None) -> Ward:
    key = str(folder / "key.pem")
    signing_key(Path(key), make=True)
    places = []
    for name in ("main", "branch"):
        (folder / name).mkdir()
        places.append(replace(sqlite_location(folder / name), signing_key=key, s3=s3))
    made = Ward(*places, folder)
    fill_ward(made)
    return made


def _forget(ward: Ward, *copies: CopyPlace) -> Any:
    work = Forgetting(
        ward.forgetting.places,
        ward.forgetting.key,
        lambda: NOON,
        lambda application, namespace: copies if (application, namespace) == ("reviews", "main") else (),
    )
    work.ask("reviews", [GONE], by="the officer", reason="")
    (done,) = work.finish("reviews")
    return done


@pytest.mark.slow
def test_every_copy_of_every_version_loses_it_down_to_the_bytes(tmp_path: Path, postgres_dsn: str) -> None:
    """A reader's table is the first thing that somebody would look at."""
    with bucket_named("readers", versioned=True) as (access, client):
        ward = _ward(tmp_path, access)
        folder, store = FolderPlace(tmp_path / "readers"), S3Place("s3://readers/main/reviews")
        table = PostgresPlace(postgres_dsn, schema_name("test", "forgotten"))
        with Warehouse.attach(ward.location) as lake:
            lake.application("reviews").copies.bring(CONTRACTS, [folder, store, table], files=contract_files)
        named = [one for one in _copied(client, postgres_dsn, table, tmp_path) if GONE.encode() in one]

        done = _forget(ward, folder, store, table)
        left = list(_copied(client, postgres_dsn, table, tmp_path))

    assert len(named) > 6
    assert not [one for one in left if GONE.encode() in one or CANARY.encode() in one]
    assert pq.read_table(tmp_path / "readers" / "published_v2.parquet").num_rows == len(KEPT)
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM "{table.schema}".published_v1')
        assert cursor.fetchone() == (len(KEPT),)
    assert not [name for name in done.statement["predicate"]["not_reached"] if "past versions" in name]


def _copied(client: Any, dsn: str, table: PostgresPlace, folder: Path) -> Iterator[bytes]:
    """Bytes of files, of every version of every object, and of the pages of Postgres."""
    for path in (folder / "readers").iterdir():
        yield path.read_bytes()
        if path.suffix == ".parquet":
            yield repr(pq.read_table(path).to_pydict()).encode()
    for content in versions_in(client, "readers"):
        yield content
        if content[:4] == b"PAR1":
            yield repr(pq.read_table(io.BytesIO(content)).to_pydict()).encode()
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CHECKPOINT")
        cursor.execute(
            "SELECT pg_read_binary_file(pg_relation_filepath(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = "
            "relnamespace WHERE nspname = %s AND relkind IN ('r', 'i', 't')",
            [table.schema],
        )
        for (page,) in cursor.fetchall():
            yield bytes(page)


def test_the_file_beside_the_report_card_loses_a_row_whose_key_is_masked(ward: Ward) -> None:
    """What a row says is about somebody, whether its key can be read or not."""
    reports = ward.folder / "main" / "reports" / "reviews"
    with Warehouse.attach(ward.location) as lake:
        store = lake.application("reviews")
        columns = tuple(
            one.model_copy(update={"mask": "hash"}) if one.name == "document_id" else one
            for one in CONTRACTS[0].columns
        )
        contract = CONTRACTS[0].model_copy(update={"columns": columns, "mask_key": store.copies.mask_key_id()})
        store.copies.bring([contract], [FolderPlace(reports)], files=contract_files)
    before = pq.read_table(reports / "published_v1.parquet").to_pylist()

    _forget(ward)

    after = pq.read_table(reports / "published_v1.parquet").to_pylist()
    assert GONE not in {row["document_id"] for row in before}
    assert {row["answer"] for row in before} - {row["answer"] for row in after} == {f"answer about {GONE}"}
    assert [row for row in before if row["answer"] != f"answer about {GONE}"] == after


@pytest.mark.slow
def test_what_a_caller_sent_is_forgotten_with_it_and_not_taken_in_again(ward: Ward) -> None:
    """Documents that came through the service are in no source that anybody could delete them from."""
    sent = OnlineDocument(document_id=GONE, columns=f'{{"text":"{CANARY}"}}', received_at=NOON)
    other = sent.model_copy(update={"document_id": "another", "columns": '{"text":"fine"}'})
    waiting = ward.folder / "main" / "journal" / "reviews" / "online_documents"
    waiting.mkdir(parents=True)
    (waiting / "dead.journal").write_text("".join(f"{one.model_dump_json()}\n" for one in (sent, other)))
    with Warehouse.attach(ward.location) as lake:
        lake.application("reviews").online_documents.append([sent, other])

    _forget(ward)

    assert ward.hits() == []
    assert len((waiting / "dead.journal").read_text().splitlines()) == 1
    with Warehouse.attach(ward.location) as lake:
        documents = lake.application("reviews").online_documents
        documents.append([sent.model_copy(update={"received_at": NOON + timedelta(days=1)})])
        assert [key for key, _ in documents.newest(only_new=False)] == ["another"]


def test_an_adapter_that_learned_it_is_barred_until_a_person_takes_it_with_a_reason(ward: Ward) -> None:
    """Weights cannot be searched for a text, so somebody has to answer for them."""
    learned = _adapter("set-1")
    with Warehouse.attach(ward.location) as lake:
        lake.application("reviews").adapters.append(learned, inputs_hash="inputs")
        lake.application("reviews").adapters.append(_adapter("set-2"), inputs_hash="others")
    tuned = release().model_copy(update={"adapter": learned.adapter_id})

    done = _forget(ward)

    named = done.statement["predicate"]["namespaces"]["main"]["adapters_trained_on_them"]
    assert named == [learned.adapter_id]
    with Warehouse.attach(ward.location) as lake:
        store = lake.application("reviews")
        with pytest.raises(EvidenceMissing, match=f"Adapter {learned.adapter_id} .* adapter accept reviews"):
            require_unbarred(store, tuned)
        require_unbarred(store, tuned.model_copy(update={"adapter": _adapter("set-2").adapter_id}))
        accepted = store.bars.accept(
            "adapter", learned.adapter_id, by="eve", because="its examples were one in a thousand", at=NOON
        )
        require_unbarred(store, tuned)
        (bar,) = store.bars.accepted()

    assert (accepted, bar.accepted_by, bar.accepted_because) == (1, "eve", "its examples were one in a thousand")


def _adapter(examples: str) -> AdapterManifest:
    return AdapterManifest(
        application="reviews",
        name="mood",
        base=ModelPin(entry="small", served_name="small", dialect="nim-2.x", context_length=2048),
        base_sha256="a" * 64,
        files={"adapter_config.json": "b" * 64, "adapter_model.safetensors": "c" * 64},
        data=TrainingData(content_hash=examples, train=4, validation=0, evaluation=0),
        created_at=NOON,
    )
