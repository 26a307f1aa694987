"""Tables' files are encrypted where that is asked for, existing ones too, and nothing of them stays readable."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from llm_platform.errors import SpecificationError, StorageError, TransientError
from llm_platform.files import _is_below_dm_crypt, disk_of
from llm_platform.resources.handed import adapter_folders, places_written
from llm_platform.settings.settings import Settings
from llm_platform.warehouse import encrypting
from llm_platform.warehouse.encrypting import encrypt_lake
from llm_platform.warehouse.encrypting_postgres import sessions
from llm_platform.warehouse.lake import LakeLocation, Warehouse
from llm_platform_tests.contracts.builders import application
from llm_platform_tests.servers.buckets import bucket_named
from llm_platform_tests.warehouse.builders import RELEASE_ID, answer_all, batch, consumed, document, event, fill
from llm_platform_tests.warehouse.conftest import postgres_location, sqlite_location

SECRET = b"text of secret"


@pytest.fixture(scope="module")
def postgres_dsn(postgres_dsn: str) -> str:
    """A database of its own: who else is connected is part of what is tried."""
    with closing(psycopg2.connect(postgres_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE encrypting")
    return postgres_dsn.replace("dbname=postgres", "dbname=encrypting")


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> LakeLocation:
    """A lake that was made without encryption, on each kind of catalog."""
    if request.param == "sqlite":
        return plain(sqlite_location(tmp_path))
    return plain(postgres_location(request.getfixturevalue("postgres_dsn"), tmp_path))


def plain(found: LakeLocation) -> LakeLocation:
    """A lake with documents, answers, a decision, what is published, and old snapshots."""
    with Warehouse.attach(found, threads=1) as lake:
        store = lake.application("reviews")
        fill(lake, ["secret", "other"])
        answer_all(lake)
        store.rollout.append(event("first"), expected_previous=None)
        store.published.publish(RELEASE_ID, 1)
        store.documents.apply([], deleted=["other"], full=False, consumed=consumed(2))
    return found


def readable(location: LakeLocation) -> list[str]:
    return [str(path) for path in Path(location.data_path).rglob("*") if path.is_file() and not _is_closed(path)]


def _is_closed(path: Path) -> bool:
    content = path.read_bytes()
    return content[:4] == b"PARE" and SECRET not in content


def rows(location: LakeLocation) -> dict[str, list[str]]:
    with Warehouse.attach(location, read_only=True) as lake:
        store = lake.application("reviews")
        names = store._session.tables("reviews")
        return {name: sorted(map(repr, lake.frame("reviews", name).to_pylist())) for name in names}


def read_by(dsn: str, role: str, schema: str) -> None:
    """Let a new role read a catalog."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN")
        cursor.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO {role}')
        cursor.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO {role}')


def asked(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_an_existing_lake_is_encrypted_and_every_row_is_there(location: LakeLocation) -> None:
    """Whoever turns it on late has the most to hide."""
    before = rows(location)
    with Warehouse.attach(location, read_only=True) as lake:
        snapshot = lake.snapshot()
    assert readable(location)

    written = encrypt_lake(location)

    assert written == sum(map(len, before.values()))
    assert readable(location) == []
    assert rows(location) == before
    assert sorted(path.name for path in Path(location.data_path).parent.glob("*.encrypting*")) == []
    encrypted = replace(location, encrypted=True)
    for number, again in ((5, encrypted), (7, location)):
        with Warehouse.attach(again, threads=1) as lake:
            assert lake.snapshot() > snapshot
            documents = lake.application("reviews").documents
            change = documents.apply(
                batch([document("new", text="text of secret")]), deleted=None, full=False, consumed=consumed(number)
            )
            documents.apply([], deleted=["new"], full=False, consumed=consumed(number + 1))
        assert change.inserted == 1
    assert readable(location) == []
    assert encrypt_lake(encrypted) == 0


def test_no_number_of_a_snapshot_means_another_one_afterwards(location: LakeLocation) -> None:
    """What was kept about an old snapshot must be found to have expired, or a run would skip what has changed."""
    with Warehouse.attach(location, read_only=True) as lake:
        numbers = range(lake.snapshot() + 1)

    encrypt_lake(location)

    with Warehouse.attach(location, read_only=True) as lake:
        session = lake.application("reviews")._session
        assert not [number for number in numbers if session.has_snapshot(number)]


def test_a_lake_without_encryption_is_not_written_where_it_is_asked_for(location: LakeLocation) -> None:
    """A setting that only counts for new files would be believed to count for all."""
    asked = replace(location, encrypted=True)

    for read_only in (True, False):
        with pytest.raises(StorageError, match="llm-platform state encrypt"):
            Warehouse.attach(asked, read_only=read_only)


def test_a_lake_that_somebody_has_open_is_left_alone(location: LakeLocation) -> None:
    """Their next commit would go into a file that nobody reads any more."""
    program = (
        "import sys\nfrom llm_platform.warehouse.lake import LakeLocation, Warehouse\n"
        "with Warehouse.attach(LakeLocation(*sys.argv[1:3], sys.argv[3] or None)) as lake:\n"
        "    lake.snapshot(); print('open', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, location.catalog, location.data_path, location.metadata_schema or ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"

    who = f"process {other.pid} has it" if location.kind == "sqlite" else "role 'postgres' from .* has it"
    with pytest.raises(TransientError, match=who):
        encrypt_lake(location)

    other.communicate()
    if location.kind == "postgres":
        # A server learns on its own that a process is gone, and on a busy machine late.
        deadline = time.monotonic() + 60.0
        while sessions(location.target, location.schema):
            assert time.monotonic() < deadline
    assert encrypt_lake(location) > 0


@pytest.mark.parametrize("at", ["_copied", "exchange"])
def test_what_was_killed_is_begun_anew_and_leaves_nothing_plain(
    location: LakeLocation, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Before the catalog is exchanged the lake is as it was; after it, only plain files are left over."""
    before = rows(location)

    name = "_copied" if at == "_copied" else "exchange" if location.kind == "postgres" else "_take_the_place"
    real = getattr(encrypting, name)

    def killed(*arguments: Any, **named: Any) -> None:
        if at == "exchange":
            real(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(encrypting, name, killed)
        with pytest.raises(KeyboardInterrupt):
            encrypt_lake(location)
    assert rows(location) == before

    encrypt_lake(location)

    assert readable(location) == []
    assert rows(location) == before


def test_a_catalog_in_postgres_keeps_its_rights_and_nothing_of_the_texts(tmp_path: Path, postgres_dsn: str) -> None:
    """Who could read the lake before can read it afterwards, and nobody else; triggers stand as before."""
    location = plain(postgres_location(postgres_dsn, tmp_path))
    names = "SELECT table_name FROM information_schema.tables WHERE table_schema = '{}' ORDER BY 1"
    rights = (
        "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants "
        "WHERE table_schema = '{}' AND grantee <> 'postgres' ORDER BY 1, 2, 3"
    )
    read_by(postgres_dsn, "reader_of_all", location.schema)
    tables, granted = (asked(postgres_dsn, sql.format(location.schema)) for sql in (names, rights))

    encrypt_lake(location)

    assert asked(postgres_dsn, names.format(location.schema)) == tables
    assert asked(postgres_dsn, rights.format(location.schema)) == granted
    assert granted
    assert asked(postgres_dsn, f"SELECT 1 FROM pg_namespace WHERE nspname = '{location.schema}_encrypting'") == []
    with Warehouse.attach(location, threads=1) as lake:
        lake.application("reviews").documents.apply(
            batch([document("third")]), deleted=None, full=False, consumed=consumed(3)
        )
    held = asked(postgres_dsn, f'SELECT min_value FROM "{location.schema}".ducklake_file_column_stats')
    assert not [value for (value,) in held if value and "text of" in value]


def test_files_in_a_bucket_are_encrypted_and_the_plain_ones_gone_with_their_versions(
    tmp_path: Path, postgres_dsn: str
) -> None:
    """A version that is left is a plain file that the bucket's operator reads."""
    with bucket_named("lake", versioned=True) as (access, client):
        location = replace(postgres_location(postgres_dsn, tmp_path), data_path="s3://lake/data", s3=access)
        before = rows(plain(location))

        encrypt_lake(location)

        kept = [
            client.get_object(Bucket="lake", Key=one["Key"], VersionId=one["VersionId"])["Body"].read()
            for one in client.list_object_versions(Bucket="lake")["Versions"]
        ]
        assert kept
        assert all(content[:4] == b"PARE" and SECRET not in content for content in kept)
        assert rows(location) == before


@pytest.mark.slow
@pytest.mark.parametrize("after_seconds", [0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0])
def test_the_next_call_finishes_what_kill_9_ended(location: LakeLocation, after_seconds: float) -> None:
    """A machine that is taken away asks nobody whether now is a good time."""
    before = rows(location)
    program = (
        "import sys\nfrom llm_platform.warehouse.encrypting import encrypt_lake\n"
        "from llm_platform.warehouse.lake import LakeLocation\n"
        "print('begun', flush=True)\nencrypt_lake(LakeLocation(*sys.argv[1:3], sys.argv[3] or None))\n"
    )
    where = [location.catalog, location.data_path, location.metadata_schema or ""]
    with subprocess.Popen([sys.executable, "-c", program, *where], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            process.wait(timeout=after_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    assert rows(location) == before

    for _ in range(20):
        try:
            encrypt_lake(location)
            break
        except TransientError:  # the server has not noticed yet that the killed one is gone
            time.sleep(0.5)

    assert readable(location) == []
    assert rows(location) == before


def test_a_branch_reads_the_keys_of_what_it_may_read_and_no_others(tmp_path: Path, postgres_dsn: str) -> None:
    """A key lies in the schema of its namespace, and rights are given by schema."""
    lakes = [replace(postgres_location(postgres_dsn, tmp_path, name), encrypted=True) for name in ("ours", "theirs")]
    for lake in lakes:
        with Warehouse.attach(lake, threads=1) as opened:
            fill(opened, ["secret"])
        assert readable(lake) == []
    ours, theirs = (lake.schema for lake in lakes)
    read_by(postgres_dsn, "of_branch", ours)

    with (
        closing(psycopg2.connect(postgres_dsn.replace("user=postgres", "user=of_branch"))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f'SELECT count(encryption_key) FROM "{ours}".ducklake_data_file')
        assert cursor.fetchone()[0] > 0
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(f'SELECT encryption_key FROM "{theirs}".ducklake_data_file')


def test_what_is_in_no_table_has_to_be_on_an_encrypted_disk(tmp_path: Path) -> None:
    """Journals and exports are text as well; half an encryption is none."""
    settings = Settings(state=tmp_path, encrypted=True)

    with pytest.raises(SpecificationError, match="journals would be written to /proc/self, which is on proc"):
        settings.require_encrypted(Path("/proc/self"), of="journals")
    settings.require_encrypted(Path("/dev/shm/not/there/yet"), of="journals")
    settings.model_copy(update={"encrypted_disk": True}).require_encrypted(Path("/proc/self"), of="journals")
    settings.model_copy(update={"encrypted": False}).require_encrypted(Path("/proc/self"), of="journals")
    assert disk_of(Path("/dev/shm")).kind == "tmpfs"


def test_copies_and_adapters_are_refused_where_nothing_encrypts_them(tmp_path: Path) -> None:
    """What leaves the lake is text as well; a bucket says by itself whether it encrypts, a database cannot."""
    with bucket_named("lake") as (access, client):
        settings = Settings(
            state=tmp_path,
            encrypted=True,
            data_root="s3://lake/data",
            s3_key_id="key",
            s3_secret="s3cret",
            s3_endpoint=access.endpoint,
            s3_url_style="path",
            s3_use_ssl=False,
        )
        spec = application(copies=("s3://lake/readers",))

        with pytest.raises(SpecificationError, match=r"copies of invoices .* to s3://lake/readers, whose"):
            places_written(spec, settings)
        with pytest.raises(SpecificationError, match=r"adapters, .* would be written to s3://lake/data, whose bucket"):
            adapter_folders(settings).may_store()
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
        client.put_bucket_encryption(Bucket="lake", ServerSideEncryptionConfiguration={"Rules": [rule]})

        assert len(places_written(spec, settings)) == 1
        adapter_folders(settings).may_store()

    elsewhere = application(copies=("postgres:host=db password=s3cret dbname=x",))
    with pytest.raises(SpecificationError, match="whose disk cannot be seen from here") as refused:
        places_written(elsewhere, settings)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(SpecificationError, match="which is on proc"):
        places_written(application(copies=("/proc/self",)), settings)
    stated = settings.model_copy(update={"encrypted_disk": True})
    assert len(places_written(elsewhere, stated)) == 1


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """As Linux shows block devices: LUKS on a disk, a volume of LVM on that, one on a plain disk, one on both."""
    made = {"disk": [], "luks": ["disk"], "safe": ["luks"], "plain": ["disk"], "mixed": ["luks", "disk"]}
    for name, below in made.items():
        (tmp_path / name / "slaves").mkdir(parents=True)
        for one in below:
            (tmp_path / name / "slaves" / one).symlink_to(tmp_path / one)
    for name in ("luks", "safe", "plain", "mixed"):
        (tmp_path / name / "dm").mkdir()
        uuid = "CRYPT-LUKS2-0123-data" if name == "luks" else "LVM-0123"
        (tmp_path / name / "dm" / "uuid").write_text(uuid)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "encrypted"), [("disk", False), ("luks", True), ("safe", True), ("plain", False), ("mixed", False)]
)
def test_a_volume_is_encrypted_where_all_that_it_is_made_of_is(devices: Path, name: str, encrypted: bool) -> None:
    """LVM over LUKS is the usual way, and hides the one below the other."""
    assert _is_below_dm_crypt(devices / name) is encrypted
