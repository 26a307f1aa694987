"""Dagster's history in SQLite files, as Dagster keeps it, with statements that are compiled once.

Dagster makes a new engine of SQLAlchemy's for each of the thousand statements of a run: each asks the database for its
properties and compiles its statements anew, which was two thirds of what the events of a run cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

from dagster import StringSource
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from llm_platform.resources.dagster_history import MakesAllThree

MOST_ENGINES = 64
"""A daemon meets one file for each run."""


@lru_cache(MOST_ENGINES)
def _engine(address: str) -> Engine:
    """What reaches one file. It holds no connection: files of Dagster's may be removed at any time."""
    return create_engine(address, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


class SqliteRuns(SqliteRunStorage):
    """Runs and their tags."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """One transaction."""
        with _engine(self._conn_string).connect() as connection, connection.begin():
            yield connection


class SqliteSchedules(SqliteScheduleStorage):
    """Ticks of sensors and schedules."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """One transaction."""
        with _engine(self._conn_string).connect() as connection, connection.begin():
            yield connection


class SqliteEvents(SqliteEventLogStorage):
    """Events, one file for each run, and an index of all."""

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = _engine(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection


class SqliteStorage(MakesAllThree, DagsterSqliteStorage):
    """`DagsterSqliteStorage`, in the same files."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.base_dir, self._inst_data = base_dir, inst_data
        self._run_storage = SqliteRuns.from_local(_runs_directory(base_dir))
        self._event_log_storage = SqliteEvents(_event_logs_directory(base_dir))
        self._schedule_storage = SqliteSchedules.from_local(_schedule_directory(base_dir))
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def config_type(cls) -> Any:
        """What stands in Dagster's file."""
        return {"base_dir": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """The storage that Dagster's file describes."""
        return cls(config_value["base_dir"], inst_data=inst_data)
