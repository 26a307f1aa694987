"""What the server that commands are forked from has done: each of them would do it again, for a second of CPU."""

from __future__ import annotations

from importlib import import_module

from llm_platform.cli.main import program
from llm_platform.warehouse.engine import verified_extension

IMPORTED = (
    "dagster._core.execution.execute_in_process",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.sqlite_storage",
    "llm_platform.demo.demo",
    "llm_platform.resources.dagster_sqlite",
    "llm_platform.review.app",
    "llm_platform.workbench.instance",
    "open_data_contract_standard.model",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "scipy.stats",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "upath.core",
)
for name in IMPORTED:
    import_module(name)
for name in ("ducklake", "sqlite_scanner", "postgres_scanner"):
    verified_extension(name)
program()
