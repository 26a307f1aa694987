"""The rights on the page about access, given to real roles of a Postgres and to identities of an object store."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
import requests
from botocore.exceptions import ClientError

from llm_platform.warehouse.copies import S3Place
from llm_platform.warehouse.copies_postgres import PostgresPlace, schema_name
from llm_platform.warehouse.lake import Warehouse
from llm_platform_tests.contracts.builders import application
from llm_platform_tests.operations.release.test_masks import FIELDS, MASKS, SECRETS, hashed, lake_of, publish
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.warehouse.builders import fill
from llm_platform_tests.warehouse.conftest import postgres_location

PAGE = Path(__file__).parents[3] / "docs" / "access.md"
MASKED, FULL = (schema_name("production", "invoices", full=full) for full in (False, True))
ROLES = ("reader", "analyst", "reviewer", "operator")


def block(language: str) -> str:
    """The code of a language on the page."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, language
    return found[1]


@pytest.fixture(scope="module")
def database(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A database with a catalog, copies of both kinds, and the page's rights; and the folder of the lake."""
    folder = tmp_path_factory.mktemp("access")
    with closing(psycopg2.connect(postgres_dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE platform LOGIN SUPERUSER")
    ours = postgres_dsn.replace("user=postgres", "user=platform")
    location = dataclasses.replace(
        postgres_location(ours, folder),
        metadata_schema="catalog_production",
        signing_key=str(folder / "keys" / "signing.pem"),
    )
    with Warehouse.attach(location) as lake:
        fill(lake, "abc", application="invoices")
        places = [PostgresPlace(ours, MASKED), PostgresPlace(ours, FULL, full=True)]
        publish(lake, application(FIELDS, masks=MASKS), *places)
        with closing(psycopg2.connect(postgres_dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(block("sql"))
        # A table of the next contract is made after the rights were given.
        publish(lake, application(FIELDS, masks=MASKS, contract=2), *places)
    return postgres_dsn, folder


def read_as(dsn: str, role: str, sql: str) -> list[tuple[Any, ...]]:
    """What a role reads."""
    who = dsn.replace("user=postgres", f"user={role}")
    with closing(psycopg2.connect(who)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


@pytest.mark.parametrize("number", [1, 2])
def test_a_reader_gets_hashes_and_an_analyst_words(database: tuple[str, Path], number: int) -> None:
    """Each from a schema of its own, the tables of a later contract included."""
    dsn, folder = database

    reader = read_as(dsn, "reader", f'SELECT DISTINCT vendor FROM "{MASKED}".published_v{number}')
    analyst = read_as(dsn, "analyst", f'SELECT DISTINCT vendor, note FROM "{FULL}".published_v{number}')

    assert reader == [(hashed(folder, "Acme of Kiel"),)]
    assert analyst == [("Acme of Kiel", "Kiel!")]


@pytest.mark.parametrize(
    ("role", "schema"),
    [
        ("reader", FULL),
        ("reader", "catalog_production"),
        ("analyst", "catalog_production"),
        *((role, schema) for role in ("reviewer", "operator") for schema in (MASKED, FULL)),
        ("reviewer", "catalog_production"),
    ],
)
def test_a_role_is_kept_from_what_the_page_does_not_give_it(database: tuple[str, Path], role: str, schema: str) -> None:
    """What keeps them is Postgres, not the platform's good will."""
    table = "ducklake_snapshot" if schema == "catalog_production" else "published_v1"

    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        read_as(database[0], role, f'SELECT * FROM "{schema}".{table}')


def test_an_operator_sees_how_things_are_and_no_text(database: tuple[str, Path]) -> None:
    """Everything in the catalog, as this role reads it, row by row."""
    dsn, _ = database
    tables = read_as(dsn, "operator", "SELECT tablename FROM pg_tables WHERE schemaname = 'catalog_production'")

    said = [
        text
        for (table,) in tables
        if table not in ("ducklake_data_file", "ducklake_delete_file")
        for (text,) in read_as(dsn, "operator", f'SELECT t::text FROM catalog_production."{table}" t')
    ]

    assert len(tables) > 10
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        read_as(dsn, "operator", "SELECT encryption_key FROM catalog_production.ducklake_data_file")
    assert any("published_v2" in text for text in said)
    assert not any(secret.decode() in text for text in said for secret in SECRETS)


def test_the_policy_gives_a_reader_the_masked_object_and_no_other(tmp_path: Path) -> None:
    """With the store deciding, as it does for every request."""
    with bucket_named("company-readers") as (access, client):
        client.create_bucket(Bucket="company-analysts")
        places = [
            S3Place("s3://company-readers/production/invoices"),
            S3Place("s3://company-analysts/production/invoices", full=True),
        ]
        for lake in lake_of(tmp_path, access):
            publish(lake, application(FIELDS, masks=MASKS), *places)
        with _reader(f"http://{access.endpoint}", block("json")) as theirs:
            held = theirs.get_object(Bucket="company-readers", Key="production/invoices/published_v1.parquet")
            content = held["Body"].read()
            refused = [
                _refused(theirs, "company-analysts", "production/invoices/published_v1.parquet"),
                _refused(theirs, "company-readers", "production/others/published_v1.parquet"),
            ]

    assert not any(secret in content for secret in SECRETS)
    assert refused == ["AccessDenied", "AccessDenied"]


@contextmanager
def _reader(endpoint: str, policy: str) -> Iterator[Any]:
    """A client of somebody who has a policy and nothing else; meanwhile the store looks at who asks."""
    known = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    iam = boto3.client("iam", aws_access_key_id="key", aws_secret_access_key="s3cret", **known)
    iam.create_user(UserName="reader")
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=json.dumps(json.loads(policy)))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10)
    try:
        yield boto3.client(
            "s3", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], **known
        )
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data="inf", timeout=10)


def _refused(client: Any, bucket: str, key: str) -> str:
    with pytest.raises(ClientError) as raised:
        client.get_object(Bucket=bucket, Key=key)
    return str(raised.value.response["Error"]["Code"])
