"""A document that was forgotten is in no table, no file and no byte; others are as they were; it does not come back."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_platform.errors import LeaseHeld, SpecificationError
from llm_platform.operations.privacy.forgetting import ForgetPlace, Forgetting
from llm_platform.records import Annotation, Call, ModelPin, PoolExample, Release, TrainingData
from llm_platform.records.tables import MADE_OF_SCHEMA
from llm_platform.signing.keys import signing_key, verified
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.kept import KeptFolder
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.warehouse.builders import (
    NOON,
    RELEASE_ID,
    batch,
    completion,
    consumed,
    document,
    event,
    release,
)
from llm_platform_tests.warehouse.conftest import postgres_location, sqlite_location

CANARY = "c41d8cd98f00b204e9800998ecf8427e5f1a3b7d9c0e2f4a6b8d0c2e4f6a8b0d"
GONE = "patient-7"
KEPT = ("a", "b", "c")
NOT_COMPARED = ("forgotten", "certificates", "bars", "tallies")
"""Tables that forgetting writes itself."""


@dataclass(frozen=True)
class Ward:
    """A lake with a document in everything that a document can be in, and a branch of it."""

    location: LakeLocation
    branch: LakeLocation
    folder: Path

    @property
    def forgetting(self) -> Forgetting:
        places = [
            ForgetPlace("main", lambda: Warehouse.attach(self.location), self.folder / "main"),
            ForgetPlace("branch", lambda: Warehouse.attach(self.branch), self.folder / "branch"),
        ]
        return Forgetting(places, signing_key(Path(str(self.location.signing_key)), make=True), lambda: NOON)

    def bytes(self) -> Iterator[tuple[str, bytes]]:
        """Every file of both lakes, what Parquet files have packed, and what Postgres keeps of their schemas."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes()
                if path.suffix == ".parquet":
                    yield f"{path} unpacked", repr(pq.ParquetFile(path).read().to_pydict()).encode()
        if self.location.kind == "postgres":
            yield from pages_of(self.location)
            yield from pages_of(self.branch)

    def hits(self) -> list[str]:
        words = (CANARY.encode(), CANARY[:20].encode(), GONE.encode())
        return sorted({name for name, content in self.bytes() if any(word in content for word in words)})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ward, KeptFolder]:
    """Lakes on SQLite, filled once."""
    folder = tmp_path_factory.mktemp("kept") / "ward"
    for name in ("main", "branch"):
        (folder / name).mkdir(parents=True)
    ward = filled_ward(folder, sqlite_location(folder / "main"), sqlite_location(folder / "branch"))
    return ward, KeptFolder(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def ward(request: pytest.FixtureRequest, tmp_path: Path) -> Ward:
    if request.param == "sqlite":
        ward, kept = request.getfixturevalue("kept")
        kept.put_back()
        return ward
    tmp_path.chmod(0o755)
    dsn = request.getfixturevalue("postgres_dsn")
    return filled_ward(tmp_path, *(postgres_location(dsn, tmp_path, name) for name in ("main", "branch")))


def filled_ward(folder: Path, location: LakeLocation, branch: LakeLocation) -> Ward:
    key = str(folder / "key.pem")
    made = Ward(replace(location, signing_key=key), replace(branch, signing_key=key), folder)
    signing_key(Path(key), make=True)
    fill_ward(made)
    return made


def fill_ward(ward: Ward) -> None:
    with Warehouse.attach(ward.location) as lake:
        store = lake.application("reviews")
        texts = {key: f"a text of {key} that nobody minds" for key in KEPT} | {GONE: f"{CANARY} is how I feel"}
        older = [document(GONE, text=f"an older text of {CANARY}", fingerprint="older")]
        store.documents.apply(batch(older), deleted=None, full=False, consumed=consumed())
        answer(lake, {GONE: "older"})
        store.documents.apply(
            batch(
                document(key, text=text, fingerprint=f"print-{key}", withheld=json.dumps({"<CASE_1>": text}))
                for key, text in texts.items()
            ),
            deleted=None,
            full=True,
            consumed=consumed(),
        )
        answer(lake, {key: f"print-{key}" for key in texts})
        store.releases.put(release())
        store.releases.put(showing(texts[GONE]))
        store.references.replace(
            pa.table(
                {
                    "document_id": list(texts),
                    "answer": [f"known of {key} {text}" for key, text in texts.items()],
                    "split": ["train"] * 4,
                }
            )
        )
        store.annotations.append([note(key, text) for key, text in texts.items()])
        pool = [
            PoolExample(document_id=key, fingerprint=f"print-{key}", text=text, answer="HAPPY")
            for key, text in texts.items()
        ]
        store.pools.put("pool-1", pool)
        data = TrainingData(content_hash="set-1", train=4, validation=0, evaluation=0)
        examples = [{"document_id": key, "part": "train", "text": text} for key, text in texts.items()]
        store.training_sets.put("mood", data, examples, rules_hash="rules")
        store.rollout.append(event("first"), expected_previous=None)
        store.published.publish(RELEASE_ID, 1)
        store.published.publish(RELEASE_ID, 2)
        lake.calls.append([call("call-1", texts["a"]), call("call-2", f"Is this sad?\n{texts[GONE]}")])
    with Warehouse.attach(ward.branch) as lake:
        rows = [document("a", fingerprint="print-a"), document(GONE, text=texts[GONE], fingerprint=f"print-{GONE}")]
        lake.application("reviews").documents.apply(batch(rows), deleted=None, full=True, consumed=consumed())
    journal = ward.folder / "main" / "journal" / "reviews" / RELEASE_ID
    journal.mkdir(parents=True)
    rows = [completion(key, fingerprint=f"print-{key}", raw=texts[key]) for key in ("a", GONE)]
    (journal / "dead.journal").write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    reports = ward.folder / "main" / "reports" / "reviews"
    reports.mkdir(parents=True)
    with Warehouse.attach(ward.location) as lake:
        pq.write_table(lake.application("reviews").published.table(1), reports / "published_v1.parquet")
    (reports / "drift.html").write_text(f"<td>{GONE}</td>", encoding="utf-8")
    (reports / "card.html").write_text("<td>0.75</td>", encoding="utf-8")


def showing(text: str) -> Release:
    """A release whose prompt shows a document as an example."""
    shown = release().prompt.model_copy(update={"examples": ({"text": text, "answer": "SAD"},)})
    return release().model_copy(update={"prompt": shown})


def answer(lake: Warehouse, prints: dict[str, str]) -> None:
    store = lake.application("reviews")
    rows = [
        completion(key, fingerprint=print_, answer=f"answer about {key}", raw=f"{CANARY if key == GONE else key}")
        for key, print_ in prints.items()
    ]
    parts = pa.Table.from_pylist(
        [
            {
                "release_id": RELEASE_ID,
                "fingerprint": one,
                "position": 0,
                "of_release_id": "parts",
                "of_fingerprint": f"part-{one}",
            }
            for one in prints.values()
        ],
        schema=MADE_OF_SCHEMA,
    )
    with store.completions.lease(RELEASE_ID, holder="test") as lease:
        store.completions.append(lease, rows, made_of=parts)
    with store.completions.lease("parts", holder="test") as lease:
        pieces = [
            completion(key, release_id="parts", fingerprint=f"part-{print_}", raw=CANARY if key == GONE else key)
            for key, print_ in prints.items()
        ]
        store.completions.append(lease, pieces)


def note(key: str, text: str) -> Annotation:
    return Annotation(
        annotation_id=f"note-of-{'it' if key == GONE else key}",
        group_id=f"group-of-{'it' if key == GONE else key}",
        kind="note",
        subject_kind="document",
        subject_id=key,
        document_id=key,
        body=f"I know who wrote: {text}",
        by="a reviewer",
        at=NOON,
    )


def call(call_id: str, said: str) -> Call:
    return Call(
        call_id=call_id,
        started_at=NOON,
        latency_seconds=1.0,
        caller="notebook",
        entry="small",
        model=ModelPin(entry="small", served_name="small", dialect="nim-2.x", context_length=2048),
        endpoint="http://localhost",
        path="/v1/chat/completions",
        request=json.dumps({"messages": [{"role": "user", "content": said}]}),
        status=200,
        answer="SAD",
    )


def others(ward: Ward) -> dict[str, tuple[int, str]]:
    """(rows, hash) of every table but for the document's, by a reader that is not the platform's."""
    found = {}
    with closing(duckdb.connect(config={"allow_unsigned_extensions": "true"})) as reader:
        from llm_platform.warehouse.engine import load
        from llm_platform.warehouse.lake import attach_statement

        load(reader, "ducklake", f"{ward.location.kind}_scanner")
        reader.execute(attach_statement(ward.location, alias="lake", read_only=True))
        tables = reader.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'lake' "
            "AND table_schema IN ('reviews', 'platform')"
        ).fetchall()
        for schema, table in tables:
            rows = reader.execute(f'SELECT t::VARCHAR FROM lake.{schema}."{table}" t').fetchall()
            left = sorted(
                row[0] for row in rows if not any(word in row[0] for word in (GONE, CANARY, "older", "[forgotten]"))
            )
            found[f"{schema}.{table}"] = (len(left), repr(left))
    return {name: one for name, one in found.items() if name.split(".")[1] not in NOT_COMPARED}


def test_nothing_of_a_forgotten_document_is_left_in_any_byte(ward: Ward) -> None:
    """Every version of tables, branches, snapshots, statistics, freed pages, journals, exports, calls, examples."""
    assert len(ward.hits()) > 20
    before = others(ward)

    ward.forgetting.ask("reviews", [GONE], by="the officer", reason="asked by letter")
    (done,) = ward.forgetting.finish("reviews")

    assert ward.hits() == []
    assert others(ward) == before
    with Warehouse.attach(ward.location) as lake:
        store = lake.application("reviews")
        store.releases.put(release(temperature=0.5))
        shown = showing(f"{CANARY} is how I feel")
        kept = store.releases.get(shown.release_id)
        assert kept is not None
        assert (kept.release_id, kept.request_id) == (shown.release_id, shown.request_id)
        assert kept.prompt.examples == ({"text": "[forgotten]", "answer": "SAD"},)
        assert store.bars.standing("release", shown.release_id) is not None
        assert store.releases.get(release().release_id) == release(), "rows from before are still found"
    tables = done.statement["predicate"]["namespaces"]["main"]["tables"]
    expected = (
        "documents",
        "completions",
        "made_of",
        "references",
        "annotations",
        "example_pools",
        "training_examples",
    )
    assert all(tables[f"reviews.{name}"]["rows_removed_or_mended"] > 0 for name in expected)
    assert {"reviews.published_v1", "reviews.published_v2", "reviews.training_examples", "platform.calls"} <= set(
        tables
    )
    assert all(one["other_rows_digest_before"] == one["other_rows_digest_now"] for one in tables.values())
    assert "reviews.documents" in done.statement["predicate"]["namespaces"]["branch"]["tables"]
    assert (ward.folder / "main" / "reports" / "reviews" / "card.html").is_file()
    assert pq.read_table(ward.folder / "main/reports/reviews/published_v1.parquet").num_rows == 3
    assert ward.forgetting.finish("reviews") == []


def test_a_request_that_waits_shows_nobody_what_is_to_be_forgotten(ward: Ward) -> None:
    """It has the texts, in a database that operators read: a killed `forget` left them there in plain words."""
    request = ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
    ward.forgetting._kept(request.model_copy(update={"found": ward.forgetting.look("reviews", [GONE])}))
    other = replace(ward.forgetting, key=signing_key(ward.folder / "other.pem", make=True))

    with (
        Warehouse.attach(ward.location) as lake,
        lake._session.coordinator.transaction("forget") as statements,
    ):
        stored = statements.run(f"SELECT content FROM {lake._session.coordinator.requests}", [])
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_SIGNING_KEY"):
        other.finish("reviews")

    assert len(stored) == 1
    assert not any(word in stored[0][0] for word in (GONE, CANARY, "fingerprint"))
    (done,) = ward.forgetting.finish("reviews")
    assert done.request.document_ids == (GONE,)


@pytest.mark.slow
def test_versions_of_objects_go_too(postgres_dsn: str, tmp_path: Path) -> None:
    """A bucket that keeps versions hides what is deleted in it, and shows it to whoever asks for it by its version."""
    with bucket_named("lake", versioned=True) as (access, client):
        key = str(tmp_path / "key.pem")
        signing_key(Path(key), make=True)
        places = [
            replace(postgres_location(postgres_dsn, tmp_path, name), data_path=f"s3://lake/{name}", s3=access)
            for name in ("main", "branch")
        ]
        ward = Ward(*(replace(one, signing_key=key) for one in places), folder=tmp_path)
        fill_ward(ward)
        assert any(CANARY.encode() in content for content in versions(client))

        ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
        (done,) = ward.forgetting.finish("reviews")

        left = list(versions(client))
        assert left
        assert not [content for content in left if CANARY.encode() in content or GONE.encode() in content]
        assert ward.hits() == []
        assert done.request.erased["main"]["versions"] > 0
        assert not any("object versions" in name for name in done.statement["predicate"]["not_reached"])
        with Warehouse.attach(ward.location, read_only=True) as lake:
            assert lake.application("reviews").documents.table(["document_id"]).num_rows == len(KEPT)


def versions(client: Any) -> Iterator[bytes]:
    """Every version of every object of the lake, as it is and unpacked."""
    for content in versions_in(client, "lake"):
        yield content
        yield repr(pq.ParquetFile(pa.BufferReader(content)).read().to_pydict()).encode()


def versions_in(client: Any, bucket: str) -> Iterator[bytes]:
    """Every version of every object of a bucket."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for one in page.get("Versions", ()):
            yield client.get_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])["Body"].read()


def test_a_forgotten_document_does_not_come_back(ward: Ward) -> None:
    """The source may still have it, and files of known answers and of verdicts may name it for ever."""
    ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
    ward.forgetting.finish("reviews")

    with Warehouse.attach(ward.location) as lake:
        store = lake.application("reviews")
        rows = batch([document(GONE, text=CANARY), document("new")])
        change = store.documents.apply(rows, deleted=None, full=False, consumed=consumed())
        store.references.replace(pa.table({"document_id": [GONE, "a"], "answer": ["x", "y"], "split": ["train"] * 2}))
        store.annotations.append([note(GONE, CANARY)])
        keys = store.documents.table(["document_id"])["document_id"].to_pylist()
        known = store.references.table()["document_id"].to_pylist()

    assert (change.inserted, keys, known) == (1, ["a", "b", "c", "new"], ["a"])
    assert ward.hits() == []
    other = replace(ward.location, signing_key=str(ward.folder / "other.pem"))
    signing_key(ward.folder / "other.pem", make=True)
    with Warehouse.attach(other) as lake, pytest.raises(SpecificationError, match="LLM_PLATFORM_SIGNING_KEY"):
        lake.application("reviews").documents.apply(rows, deleted=None, full=False, consumed=consumed())


def test_a_certificate_verifies_offline_and_no_changed_byte_does(ward: Ward) -> None:
    """It is shown to somebody who does not trust this machine."""
    ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
    (done,) = ward.forgetting.finish("reviews")
    envelope = done.path.read_text(encoding="utf-8")
    public = ward.forgetting.key.public_pem

    statement = verified(envelope, public)

    assert statement == done.statement
    assert statement["subject"][0]["digest"] == {"hmac-sha256": ward.forgetting.key.keyed_hash("reviews", GONE)}
    changed = json.loads(envelope)
    changed["payload"] = changed["payload"][:-8] + "AAAA" + changed["payload"][-4:]
    with pytest.raises(SpecificationError, match="does not hold"):
        verified(json.dumps(changed), public)
    stranger = signing_key(ward.folder / "stranger.pem", make=True)
    with pytest.raises(SpecificationError, match="does not hold"):
        verified(envelope, stranger.public_pem)


def test_a_document_that_is_being_answered_is_not_forgotten_behind_the_back_of_who_answers(ward: Ward) -> None:
    """The answer would come after the certificate."""
    ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
    with (
        Warehouse.attach(ward.location) as lake,
        lake.application("reviews").completions.lease("x", holder="a run"),
        pytest.raises(LeaseHeld, match="a run"),
    ):
        ward.forgetting.finish("reviews")

    (done,) = ward.forgetting.finish("reviews")

    assert done.rows > 0
    assert ward.hits() == []


@pytest.mark.slow
def test_what_was_killed_at_any_point_is_finished_by_the_next_call(ward: Ward) -> None:
    """A person who was told that it is done must not depend on a machine that stayed up."""
    before = others(ward)
    ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
    draw = random.Random(7)
    ends = [carry_out(ward, draw.randrange(1, 1500)).returncode for _ in range(10)]

    ended = carry_out(ward, 0)

    assert ends.count(-signal.SIGKILL) >= 3, ends
    assert ended.returncode == 0, ended.stderr
    assert ward.forgetting.finish("reviews") == []
    assert ward.hits() == []
    assert others(ward) == before
    assert len(list((ward.folder / "main" / "certificates").glob("*.dsse.json"))) == 1


def carry_out(ward: Ward, number: int) -> subprocess.CompletedProcess[str]:
    program = "llm_platform_tests.operations.privacy.killed"
    places = [json.dumps(asdict(one)) for one in (ward.location, ward.branch)]
    command = [sys.executable, "-m", program, str(ward.folder), *places, str(number)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_text_that_somebody_else_has_too_keeps_its_answers(ward: Ward) -> None:
    """Forgetting one document must not take, or make paid again, what was answered for another one."""
    with Warehouse.attach(ward.location) as lake:
        store = lake.application("reviews")
        twin = document("twin", text=f"{CANARY} is how I feel", fingerprint=f"print-{GONE}")
        store.documents.apply(batch([twin]), deleted=None, full=False, consumed=consumed())
        before = store.completions.counts(RELEASE_ID)

    ward.forgetting.ask("reviews", [GONE], by="the officer", reason="")
    ward.forgetting.finish("reviews")

    with Warehouse.attach(ward.location, read_only=True) as lake:
        store = lake.application("reviews")
        answers = store.completions.of_release(RELEASE_ID)
        assert dict(zip(answers["fingerprint"].to_pylist(), answers["document_id"].to_pylist(), strict=True)) == {
            **{f"print-{key}": key for key in KEPT},
            f"print-{GONE}": "twin",
        }
        assert sum(store.completions.counts(RELEASE_ID).values()) == sum(before.values()) - 1


def pages_of(location: LakeLocation) -> Iterator[tuple[str, bytes]]:
    """Every page of the tables of a catalog in Postgres, by the table's name."""
    with closing(psycopg2.connect(location.target)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CHECKPOINT")
        cursor.execute("SHOW data_directory")
        folder = Path(cursor.fetchall()[0][0])
        cursor.execute(
            "SELECT relname, pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname LIKE %s AND relkind IN ('r', 't')",
            [f"{location.schema}%"],
        )
        found = cursor.fetchall()
    for name, path in found:
        if path and (folder / path).is_file():
            yield f"{location.schema}.{name}", (folder / path).read_bytes()
