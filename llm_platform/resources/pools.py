"""Dagster pools: how many steps of one deployment talk to a model at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dagster as dg

from llm_platform.errors import SpecificationError

PREFIX = "nim-"


def pool_of(entry: str) -> str:
    """Pool of all steps that send documents to a lock entry."""
    return f"{PREFIX}{entry}"


def apply_pool_limits(instance: dg.DagsterInstance, limits: Mapping[str, int], *, entries: Collection[str]) -> None:
    """Give the pools of these lock entries their limits; those without one keep what they have, or get the default.

    Dagster's queue does not see a pool that has never been used, and would start all runs that wait for it at once.

    Raises:
        SpecificationError: a limit names no lock entry.
    """
    if unknown := sorted(set(limits) - set(entries)):
        raise SpecificationError(
            f"LLM_PLATFORM_NIM_POOL_LIMITS names {', '.join(map(repr, unknown))}, and the lock file has no such entry. "
            f"There are: {', '.join(sorted(entries))}."
        )
    storage = instance.event_log_storage
    stored = {pool.name: pool for pool in storage.get_pool_limits()}
    for entry in entries:
        pool = pool_of(entry)
        known, limit = stored.get(pool), limits.get(entry)
        if limit is None and known is None:
            storage.initialize_concurrency_limit_to_default(pool)
        elif limit is not None and (known is None or known.from_default or known.limit != limit):
            storage.set_concurrency_slots(pool, limit)
