"""The Dagster instance of a namespace: where its history is, what its pools hold, and who is at work on it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from rich.console import Console
from rich.progress import Progress
from sqlalchemy.exc import DBAPIError

from llm_platform.defs.runs import PROCESS_TAG, end_dead_runs, works_on
from llm_platform.errors import LeaseHeld, SpecificationError, StorageError
from llm_platform.files import claim
from llm_platform.models.lock import load_lock
from llm_platform.resources.pools import apply_pool_limits
from llm_platform.settings.settings import SHIPPED, Settings

FOLLOW_SECONDS = 2.0
# By their names: to import them, and Dagster's own for Postgres, takes half a second.
POSTGRES_STORAGE = {"module": "llm_platform.resources.dagster_storage", "class": "PostgresStorage"}
SQLITE_STORAGE = {"module": "llm_platform.resources.dagster_sqlite", "class": "SqliteStorage"}
STORAGE_KEYS = {"storage", "run_storage", "event_log_storage", "schedule_storage"}

_in_use: ContextVar[tuple[Path, dg.DagsterInstance] | None] = ContextVar("_in_use", default=None)


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME of the namespace, with the deployment's `dagster.yaml` in it: Dagster reads it nowhere else.

    Raises:
        SpecificationError: the file that `dagster_instance` names cannot be read as YAML of named keys.
        StorageError: the folder cannot be written.
    """
    home = settings.dagster_home
    wanted = instance_yaml(settings).encode()
    claim(settings.state)
    claim(settings.namespace_folder)
    try:
        home.mkdir(parents=True, exist_ok=True)
        target = home / "dagster.yaml"
        if not target.is_file() or target.read_bytes() != wanted:
            target.write_bytes(wanted)
    except OSError as error:
        raise StorageError(
            f"Cannot write {home}: {error.strerror}. Free space or fix its permissions, or name another folder in "
            "LLM_PLATFORM_STATE."
        ) from error
    return home


def instance_yaml(settings: Settings) -> str:
    """Dagster's file of this deployment: the shipped one, where its history is, and what `dagster_instance` says.

    Raises:
        SpecificationError: that file cannot be read as YAML of named keys.
    """
    shipped = (SHIPPED / "dagster.yaml").read_text(encoding="utf-8")
    given = {} if settings.dagster_instance is None else _instance_file(settings.dagster_instance)
    if settings.dagster_storage is not None:
        config = {"address": settings.dagster_storage}
        if settings.dagster_storage_password_file is not None:
            config["password_file"] = str(settings.dagster_storage_password_file)
        given = {"storage": {"custom": {**POSTGRES_STORAGE, "config": config}}, **given}
    elif not given.keys() & STORAGE_KEYS:
        config = {"base_dir": os.path.abspath(settings.dagster_home)}
        given = {"storage": {"custom": {**SQLITE_STORAGE, "config": config}}, **given}
    if not given:
        return shipped
    return "# Written by llm-platform: the shipped file, and this deployment's own.\n" + yaml.safe_dump(
        {**yaml.safe_load(shipped), **given}, sort_keys=False
    )


def _instance_file(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecificationError(
            f"LLM_PLATFORM_DAGSTER_INSTANCE: {path} cannot be read ({error.strerror}). Mount it, or unset the variable."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise SpecificationError(f"LLM_PLATFORM_DAGSTER_INSTANCE: {path} is no YAML of named keys, as dagster.yaml is.")
    return found


def prepared_dagster_home(settings: Settings) -> Path:
    """`dagster_home`, with the pools of its instance limited as the settings say.

    Raises:
        SpecificationError: a limit names no lock entry.
    """
    with recorded(settings):
        return settings.dagster_home


@contextmanager
def recorded(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance whose history `make dev` shows, rid of runs whose process is gone, with its pools limited.

    One block inside another has the same: to open it costs as much as a small step.

    Raises:
        SpecificationError: a limit names no lock entry.
        StorageError: the history cannot be read or written.
    """
    if (used := _in_use.get()) is not None and used[0] == settings.dagster_home:
        yield used[1]
        return
    os.environ["DAGSTER_HOME"] = str(dagster_home(settings))
    try:
        with dg.DagsterInstance.get() as instance:
            # A killed run would keep its place in the pool of its model, and this one would wait for it for ever.
            end_dead_runs(instance)
            apply_pool_limits(instance, settings.nim_pool_limits, entries=load_lock(settings.models_lock))
            token = _in_use.set((settings.dagster_home, instance))
            try:
                yield instance
            finally:
                _in_use.reset(token)
    except dg.DagsterInvalidConfigError as error:
        # It names keys of the file, in which no secret stands.
        raise SpecificationError(
            f"Dagster does not take {settings.dagster_home / 'dagster.yaml'}: {error}. It is the shipped file with the "
            "keys of LLM_PLATFORM_DAGSTER_INSTANCE."
        ) from None
    except (DBAPIError, OSError) as error:
        said = _said_by_database(error) if isinstance(error, DBAPIError) else error.strerror or type(error).__name__
        if "not a database" in said or "malformed" in said:
            raise StorageError(
                f"Cannot read the history of runs in {settings.dagster_home}: a database in it is damaged. Bring the "
                "folder back from a backup, or move it away and run again: documents, answers and reports are in the "
                "lake, and only what Dagster's pages show of earlier runs is lost."
            ) from None
        raise StorageError(
            f"Cannot write the history of runs in {settings.dagster_home}: {said}. Answers that were committed are "
            "kept. Free space or fix its permissions, then run again."
        ) from None


def _said_by_database(error: DBAPIError) -> str:
    """What SQLite says names no value; of others only the class, since a statement with its values may be quoted."""
    return str(error.orig) if isinstance(error.orig, sqlite3.Error) else type(error.orig).__name__


def require_idle(instance: dg.DagsterInstance, application: str) -> None:
    """Refuse to work on an application beside another process of this machine, which would do the same work.

    Without this, the second run would wait without a word for the first one's place in the pool of the model. Runs of
    other machines are kept apart by their leases.

    Raises:
        LeaseHeld: says which run and which process.
    """
    if (other := at_work(instance, application)) is not None:
        raise LeaseHeld(
            f"{other} is bringing {application} up to date; nothing was started. Wait for it or stop it, then run "
            f"again: what it has answered is not asked again. To share its work: llm-platform answer {application}"
        )


def at_work(instance: dg.DagsterInstance, application: str) -> str | None:
    """Run and process of this machine that bring an application up to date now, in words; None when there are none."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if PROCESS_TAG in run.tags and works_on(run, application):
            _, process, _ = json.loads(run.tags[PROCESS_TAG])
            return f"Run {run.run_id} (process {process})"
    return None


def follow_runs(settings: Settings, tags: Mapping[str, str], *, console: Console) -> dict[str, bool]:
    """Wait until all runs with these tags have ended; run id → whether it succeeded."""
    drawn = console.is_terminal  # asked now, as in `bars`
    with recorded(settings) as instance, Progress(console=console, disable=not drawn) as progress:
        task, said, pause = progress.add_task("runs ended", total=None), -1, threading.Event()
        while True:
            runs = instance.get_runs(dg.RunsFilter(tags=dict(tags)))
            ended = [run for run in runs if run.is_finished]
            progress.update(task, completed=len(ended), total=len(runs))
            if not drawn and len(ended) != said:
                said = len(ended)
                console.print(f"  {said} of {len(runs)} runs ended")
            if len(ended) == len(runs):
                return {run.run_id: run.is_success for run in runs}
            pause.wait(FOLLOW_SECONDS)
