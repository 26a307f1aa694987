"""Dagster's history in Postgres, with its password in a file that is read at every connection.

Dagster knows passwords in its file or in an environment variable. Both are seen by whoever may read a pod's
specification, neither changes while a process runs, and one PGPASSWORD cannot serve two roles.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dagster import Field, StringSource
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.auth import PgTokenProvider
from dagster_postgres.utils import DagsterPostgresException

from llm_platform.errors import TransientError
from llm_platform.resources.dagster_history import MakesAllThree
from llm_platform.warehouse.engine import redacted
from llm_platform.warehouse.passwords import read_password


class PasswordFromFile(PgTokenProvider):
    """What connects reads the file; nothing is kept."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def _fetch_token(self) -> tuple[str, float]:
        # Expired at once: a file that was exchanged counts from the next connection on.
        return read_password(self._file), time.time()


class PostgresStorage(MakesAllThree, DagsterPostgresStorage):
    """`DagsterPostgresStorage` of an address without a password, and a file with it."""

    @classmethod
    def config_type(cls) -> Any:
        """What stands in Dagster's file."""
        return {"address": StringSource, "password_file": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """The storage that Dagster's file describes.

        Raises:
            TransientError: its server does not answer, or does not let this user in.
        """
        address, file = config_value["address"], config_value.get("password_file")
        provider = PasswordFromFile(Path(file)) if file else None
        try:
            return cls(address, inst_data=inst_data, token_provider=provider)
        except DagsterPostgresException as error:
            said = redacted(str(getattr(error.__cause__, "orig", error)).strip().splitlines()[0])
            raise TransientError(
                f"Dagster's storage at {redacted(address)} does not answer: {said}. Check server, user and password, "
                "then run again."
            ) from error
