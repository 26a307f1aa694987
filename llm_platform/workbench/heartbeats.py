"""Whether Dagster's daemon lives: asked of its storage, for a probe that costs half a second of processor time.

Dagster's own check loads all of Dagster, three seconds of it, every time; on a busy node it does not end in time, and a
daemon that works is killed.
"""

from __future__ import annotations

from pathlib import Path

from llm_platform.errors import StorageError
from llm_platform.warehouse.passwords import resolved, with_password_file

SILENT_SECONDS = 300
"""A daemon beats every 30 seconds; a tick of its sensors may take longer."""


def silent_daemons(storage: str, password_file: Path | None) -> list[str]:
    """Kinds of daemons that have beaten today and not lately.

    Raises:
        StorageError: the storage does not answer, or no daemon has ever beaten.
    """
    import psycopg2

    address = storage if password_file is None else with_password_file(storage, password_file)
    try:
        connection = psycopg2.connect(resolved(address), connect_timeout=5)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT daemon_type, bool_or(timestamp > (now() AT TIME ZONE 'utc') - make_interval(secs => %s)) "
                    "FROM daemon_heartbeats WHERE timestamp > (now() AT TIME ZONE 'utc') - interval '1 day' "
                    "GROUP BY 1 ORDER BY 1",
                    [SILENT_SECONDS],
                )
                found = cursor.fetchall()
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise StorageError(f"Dagster's storage does not answer ({type(error).__name__}).") from None
    if not found:
        raise StorageError("No daemon has beaten yet.")
    return [kind for kind, lives in found if not lives]
