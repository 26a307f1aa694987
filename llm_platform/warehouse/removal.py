"""A lake that is taken away whole: the schemas of its catalog in Postgres, and its files.

What is in a namespace's own folder, a SQLite catalog and its files, goes with the folder.
"""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from pathlib import Path

import psycopg2

from llm_platform.errors import StorageError
from llm_platform.warehouse.coordination_postgres import leases_schema
from llm_platform.warehouse.engine import identifier, with_deadline
from llm_platform.warehouse.lake import LakeLocation
from llm_platform.warehouse.object_versions import purge_versions
from llm_platform.warehouse.statistics import postgres_error


def remove_lake(location: LakeLocation) -> None:
    """Delete the files of a lake, and its schemas in Postgres; what is gone already is passed over.

    Raises:
        StorageError: the database, the store or the disk refuses; run it again once that is mended.
        TransientError: the database does not answer, or somebody is at work in the lake.
    """
    # Schemas first: who may not drop them has not lost the files of a lake that is still there.
    if location.kind == "postgres":
        _drop_schemas(location)
    _remove_files(location)


def _drop_schemas(location: LakeLocation) -> None:
    schemas = ", ".join(map(identifier, (location.schema, leases_schema(location.schema))))
    try:
        with closing(psycopg2.connect(with_deadline(location.target))) as there, there, there.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '20s'")
            cursor.execute(f"DROP SCHEMA IF EXISTS {schemas} CASCADE")
    except psycopg2.Error as error:
        raise postgres_error(
            error,
            f"delete the lake at {location.address}",
            denied="this role does not own its schemas. Let the role that owns them run this, or an administrator.",
        ) from None


def _remove_files(location: LakeLocation) -> None:
    try:
        if not location.is_remote:
            with suppress(FileNotFoundError):
                shutil.rmtree(Path(location.data_path))
        elif location.s3 is not None:
            with suppress(FileNotFoundError):
                location.s3.file_system().delete_dir(location.data_path.removeprefix("s3://"))
            # A delete hides what it deletes in a bucket that keeps versions.
            if locked := purge_versions(location.s3, location.data_path)[1]:
                raise StorageError(
                    f"{locked} versions of files of the lake in {location.data_path} are locked by the store. Run it "
                    "again once their lock has ended."
                )
    except OSError as error:
        # What a client of a store says may quote what it sent.
        why = error.strerror or type(error).__name__
        raise StorageError(f"Cannot delete the files of the lake in {location.data_path}: {why}.") from None
