"""What readers get is masked in every place and every table, and others who may read more get it apart."""

from __future__ import annotations

import dataclasses
import hmac
import io
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest

from llm_platform.application.model import Application
from llm_platform.contracts.files import contract_files
from llm_platform.errors import SpecificationError
from llm_platform.operations.release.contracts import check_contract, filled_by, tables_of
from llm_platform.operations.release.reading import query_published
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records.contracts import text_contract
from llm_platform.signing.keys import signing_key
from llm_platform.warehouse.copies import CopyPlace, FolderPlace, S3Place
from llm_platform.warehouse.copies_postgres import PostgresPlace, schema_name
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.contracts.builders import application, release
from llm_platform_tests.operations.privacy.test_forgetting import versions_in
from llm_platform_tests.operations.release.test_contracts import answer
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.warehouse.builders import fill
from llm_platform_tests.warehouse.conftest import sqlite_location

FIELDS = {
    "vendor": {"type": "string", "max_length": 40},
    "total": {"type": "money"},
    "parts": {"type": "list"},
    "due": {"type": "date"},
    "note": {"type": "string"},
}
SAID = {"vendor": "Acme of Kiel", "total": "12.50 EUR", "parts": ["bolt of Kiel"], "due": "2026-03-04", "note": "Kiel!"}
MASKS = {"document_id": "hash", "vendor": "hash", "total": "redact", "parts": "redact", "due": "redact", "note": "drop"}
DAY = date(2026, 12, 1)
SECRETS = (b"of Kiel", b"Kiel!")


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Warehouse]:
    """Three documents, nothing published, and a deployment's key."""
    yield from lake_of(tmp_path)


def lake_of(folder: Path, access: Any = None) -> Iterator[Warehouse]:
    """A lake with three documents, nothing published, and a deployment's key."""
    location = dataclasses.replace(sqlite_location(folder), signing_key=str(folder / "keys" / "signing.pem"))
    if access is not None:
        location = dataclasses.replace(location, s3=access)
    with Warehouse.attach(location) as warehouse:
        fill(warehouse, "abc", application="invoices")
        yield warehouse


def publish(
    lake: Warehouse, files: Application, *places: CopyPlace, fields: Mapping[str, Any] = FIELDS, said: Any = SAID
) -> None:
    """One publication with its copies, as the asset does it once a champion has answered."""
    store, by = lake.application("invoices"), release(fields)
    answer(lake, by, {name: said[name] for name in fields})
    if "hash" in files.publish.masks.values():
        store.copies.mask_key_id(make=True)
    filled = filled_by(store, files, by, today=DAY)
    store.published.publish(by.release_id, filled.contracts, variant="plain", retired=filled.retired)
    store.copies.bring(filled.contracts, places, files=contract_files)


def hashed(folder: Path, value: str) -> str:
    """What a mask makes of a value, by the definition of HMAC and not by ours."""
    key = signing_key(folder / "keys" / "signing.pem").derived("masks of invoices")
    return hmac.digest(key, value.encode(), "sha256").hex()


def test_a_file_of_readers_holds_what_they_get_and_no_more(lake: Warehouse, tmp_path: Path) -> None:
    """A mask that the file carries beside the value, in rows, in its statistics or in its contract, is none."""
    place, full = FolderPlace(tmp_path / "readers"), FolderPlace(tmp_path / "analysts", full=True)

    publish(lake, application(FIELDS, masks=MASKS), place, full)

    rows = pq.read_table(tmp_path / "readers" / "published_v1.parquet").to_pylist()
    assert sorted(row["document_id"] for row in rows) == [row["document_id"] for row in rows]
    assert {row["document_id"] for row in rows} == {hashed(tmp_path, key) for key in "abc"}
    assert {row["vendor"] for row in rows} == {hashed(tmp_path, "Acme of Kiel")}
    assert {(row["total"], row["parts"], row["due"]) for row in rows} == {(None, None, None)}
    assert {row["total_currency"] for row in rows} == {"EUR"}
    assert "note" not in rows[0]
    for path in (tmp_path / "readers").iterdir():
        assert not any(secret in path.read_bytes() for secret in SECRETS), path.name
    whole = pq.read_table(tmp_path / "analysts" / "published_v1.parquet").to_pylist()
    assert {(row["vendor"], row["note"]) for row in whole} == {("Acme of Kiel", "Kiel!")}
    assert lake.application("invoices").published.table(1)["note"].to_pylist() == ["Kiel!"] * 3


def test_the_contract_beside_the_rows_says_what_is_masked(lake: Warehouse, tmp_path: Path) -> None:
    """Who takes a hash for a name finds out by the schema, and rows keep what it promises."""
    import json

    from jsonschema import Draft202012Validator

    place = FolderPlace(tmp_path / "readers")
    publish(lake, application(FIELDS, masks=MASKS), place)

    schema = json.loads((tmp_path / "readers" / "published_v1.schema.json").read_text())
    rows = pq.read_table(tmp_path / "readers" / "published_v1.parquet").to_pylist()

    properties = schema["properties"]
    assert {name: one["x-mask"] for name, one in properties.items() if "x-mask" in one} == {
        name: mask for name, mask in MASKS.items() if mask != "drop"
    }
    assert "note" not in properties
    assert "maxLength" not in properties["vendor"]
    assert "keyed hash" in properties["vendor"]["description"]
    for row in rows:
        Draft202012Validator(schema).validate(json.loads(json.dumps(row, default=str)))
    assert "property: mask" in (tmp_path / "readers" / "published_v1.odcs.yaml").read_text()


def test_an_object_store_gets_the_masked_table(tmp_path: Path) -> None:
    """A role of the bucket may read one prefix, and what is not masked is under another."""
    with bucket_named("masked-readers") as (access, client):
        for lake in lake_of(tmp_path, access):
            places = [S3Place("s3://masked-readers/masked"), S3Place("s3://masked-readers/full", full=True)]
            publish(lake, application(FIELDS, masks=MASKS), *places)

        stored = {
            one["Key"]: client.get_object(Bucket="masked-readers", Key=one["Key"])["Body"].read()
            for one in client.list_objects_v2(Bucket="masked-readers")["Contents"]
        }
    assert len(stored) == 6
    masked = pq.read_table(io.BytesIO(stored["masked/published_v1.parquet"])).to_pylist()
    assert {row["vendor"] for row in masked} == {hashed(tmp_path, "Acme of Kiel")}
    held = {key.split("/")[0] for key, content in stored.items() if any(secret in content for secret in SECRETS)}
    assert held == {"full"}


def test_a_new_mask_needs_a_new_number_and_is_on_every_table_then(
    lake: Warehouse, tmp_path: Path, postgres_dsn: str
) -> None:
    """Under one number readers lose nothing; from the next one on, no older table shows what the new one hides."""
    folder, table = FolderPlace(tmp_path / "readers"), PostgresPlace(postgres_dsn, schema_name("test", "remasked"))
    places = (folder, table)
    publish(lake, application(FIELDS), *places)
    store = lake.application("invoices")

    same = tables_of(store, application(FIELDS, masks=MASKS), today=DAY)
    publish(lake, application(FIELDS, masks=MASKS), *places)
    kept = pq.read_table(tmp_path / "readers" / "published_v1.parquet")["note"].to_pylist()
    publish(lake, application(FIELDS, masks=MASKS, contract=2), *places)

    assert "vendor is hashed, and was shown" in (same.broken or "")
    assert "note is gone" in (same.broken or "")
    assert kept == ["Kiel!"] * 3
    for number in (1, 2):
        rows = pq.read_table(tmp_path / "readers" / f"published_v{number}.parquet").to_pylist()
        assert {(row["vendor"], row["due"], row.get("note")) for row in rows} == {
            (hashed(tmp_path, "Acme of Kiel"), None, None)
        }
        with closing(psycopg2.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(f'SELECT to_jsonb(t)::text FROM "{table.schema}".published_v{number} t')
            copied = cursor.fetchall()
            # Also what is deleted, until somebody vacuums: the pages themselves.
            cursor.execute(
                "SELECT pg_read_binary_file(pg_relation_filepath(%s))", [f'"{table.schema}".published_v{number}']
            )
            pages = bytes(cursor.fetchone()[0])
        assert len(copied) == 3
        assert not any(secret in text.encode() for (text,) in copied for secret in SECRETS)
        assert not any(secret in pages for secret in SECRETS)


def test_a_bucket_that_keeps_versions_shows_none_from_before_the_mask(tmp_path: Path) -> None:
    """Whoever may read an object may read what it was."""
    with bucket_named("versioned-readers", versioned=True) as (access, client):
        place = S3Place("s3://versioned-readers/masked")
        for lake in lake_of(tmp_path, access):
            publish(lake, application(FIELDS), place)
            shown = [
                one for one in versions_in(client, "versioned-readers") if any(secret in one for secret in SECRETS)
            ]
            publish(lake, application(FIELDS, contract=2, masks=MASKS), place)
        left = list(versions_in(client, "versioned-readers"))

    assert shown
    assert len(left) == 6
    assert not [one for one in left if any(secret in one for secret in SECRETS)]


def test_a_mask_follows_its_field_into_a_table_that_calls_it_otherwise(lake: Warehouse, tmp_path: Path) -> None:
    """Names of columns are the readers' own; what is hidden is what the field says."""
    place = FolderPlace(tmp_path / "readers")
    before = {"vendor": {"type": "string"}}
    publish(lake, application(before), place, fields=before)
    renamed = {"creditor": {"type": "string"}}
    files = application(
        renamed, contract=2, masks={"creditor": "redact"}, beside={"1": {"fields": {"vendor": "creditor"}}}
    )

    publish(lake, files, place, fields=renamed, said={"creditor": "Acme of Kiel"})

    for number, name in ((1, "vendor"), (2, "creditor")):
        table = pq.read_table(tmp_path / "readers" / f"published_v{number}.parquet")
        assert set(table[name].to_pylist()) == {"[redacted]"}


def test_a_table_with_the_whole_answer_as_json_loses_that_with_the_first_mask(lake: Warehouse, tmp_path: Path) -> None:
    """Tables of older versions have a column with every field in it."""
    fields = {"vendor": {"type": "string"}}
    place, store, by = FolderPlace(tmp_path / "readers"), lake.application("invoices"), release(fields)
    answer(lake, by, {"vendor": "Acme of Kiel"})
    old = text_contract(1, application="invoices")
    store.published.publish(by.release_id, [old], variant="plain")
    store.copies.bring([old], [place], files=contract_files)

    publish(lake, application(fields, contract=2, masks={"vendor": "redact"}), place, fields=fields)

    assert store.published.numbers() == (1, 2)
    for path in (tmp_path / "readers").iterdir():
        assert not any(secret in path.read_bytes() for secret in SECRETS), path.name
    assert "answer" not in pq.read_table(tmp_path / "readers" / "published_v1.parquet").column_names


def test_a_mask_that_is_taken_off_is_judged_too(lake: Warehouse, tmp_path: Path) -> None:
    """A hash is what readers join on; a text for '[redacted]' takes nothing from them."""
    publish(lake, application(FIELDS, masks=MASKS))
    store = lake.application("invoices")
    without = {name: {k: v for k, v in MASKS.items() if k != name} for name in MASKS}

    judged = {name: tables_of(store, application(FIELDS, masks=masks), today=DAY) for name, masks in without.items()}

    assert {name: one.broken is None for name, one in judged.items()} == {
        "document_id": False,
        "vendor": False,
        "total": True,
        "parts": True,
        "due": True,
        "note": True,
    }
    assert judged["note"].described.version == "1.1.0"


def test_consumers_break_on_what_is_masked_in_the_table_that_they_read(lake: Warehouse, tmp_path: Path) -> None:
    """Who reads the older table is told before the change is merged, by name."""
    publish(lake, application(FIELDS))
    (tmp_path / "q.sql").write_text("SELECT vendor FROM published_v1")
    files = application(FIELDS, masks={"vendor": "redact"}, contract=2, consumers={"books": {"queries": ["q.sql"]}})
    loaded = LoadedApplication(files.model_copy(update={"folder": tmp_path, "variants": {}}), {}, {}, {})

    found = check_contract(lake.application("invoices"), loaded, today=DAY)

    assert [(one.consumer, one.table, one.column, one.why) for one in found.breaks] == [
        ("books", "published_v1", "vendor", "is redacted, and was shown")
    ]
    assert not found.holds


def test_assets_of_readers_get_the_masked_table(lake: Warehouse, tmp_path: Path) -> None:
    """What an application's own assets make of it is shown to readers as well."""
    files = application(FIELDS, masks=MASKS)
    publish(lake, files)

    rows = query_published(
        lake.application("invoices"),
        files,
        consumer="summary",
        name="q.sql",
        sql="SELECT DISTINCT vendor, due FROM published_v1",
        today=DAY,
    )

    assert rows.to_pylist() == [{"vendor": hashed(tmp_path, "Acme of Kiel"), "due": None}]


def test_another_key_is_no_silent_change_of_every_hash(lake: Warehouse, tmp_path: Path) -> None:
    """Readers join on hashes; a key that was lost must not give them others without a word."""
    place = FolderPlace(tmp_path / "readers")
    files = application(FIELDS, masks=MASKS)
    publish(lake, files, place)
    before = (tmp_path / "readers" / "published_v1.parquet").read_bytes()
    (tmp_path / "keys" / "signing.pem").unlink()
    fill(lake, "abcd", application="invoices")

    with pytest.raises(SpecificationError, match="published_v1 is hashed for readers with the deployment's key"):
        publish(lake, files, place)

    assert (tmp_path / "readers" / "published_v1.parquet").read_bytes() == before
    tables = tables_of(lake.application("invoices"), files, today=DAY)
    assert "vendor is hashed with another key" in (tables.broken or "")
