"""Tags that people give to runs, as Dagster shows them."""

from __future__ import annotations

import re

import dagster as dg

PREFIX = "llm_platform.tag/"
LONGEST_KEY = 63


def tag_run(instance: dg.DagsterInstance, run_id: str, tag: str, value: str) -> bool:
    """Put a tag on a run of this instance; False when it has no such run."""
    if instance.get_run_by_id(run_id) is None:
        return False
    instance.add_run_tags(run_id, {run_tag_key(tag): value})
    return True


def run_tag_key(tag: str) -> str:
    """A tag in the letters that Dagster takes for the key of a run tag."""
    return PREFIX + re.sub(r"[^a-z0-9.-]+", "_", tag.lower()).strip("_")[:LONGEST_KEY]
