"""Whether anything has to run at all: what the files of an application say, and what the last run was started with."""

from __future__ import annotations

from importlib.metadata import version

import dagster as dg

from llm_platform.application.model import Application
from llm_platform.records import content_hash
from llm_platform.settings.settings import Settings

FILES_TAG = "llm_platform/files"
"""Tag of a run with the version of the files that it read."""

MOST_READ_BYTES = 1_000_000


def files_version(settings: Settings, application: Application) -> str:
    """Hash of everything that a run reads beside the tables: the folder of the application, the lock file, ourselves.

    A large file, such as a table of known answers, is told by its size and time.
    """
    found = []
    paths = [path for path in application.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in sorted([*paths, settings.models_lock]):
        status = path.stat()
        large = status.st_size > MOST_READ_BYTES
        content = [status.st_size, status.st_mtime_ns] if large else content_hash(path.read_bytes().hex())
        found.append([str(path), content])
    return content_hash([version("llm_platform"), settings.git_commit, found])


def is_unchanged(instance: dg.DagsterInstance, application: str, files: str) -> bool:
    """Whether the last run of an application was whole, was started with these files, and ended well."""
    runs = instance.get_runs(dg.RunsFilter(job_name=application), limit=1)
    return bool(runs) and runs[0].is_success and runs[0].tags.get(FILES_TAG) == files
