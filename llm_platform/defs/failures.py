"""The one place that turns the platform's errors into Dagster's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from llm_platform.defs.runs import NO_RETRY_TAG, take_up
from llm_platform.errors import PermanentError, TransientError


@contextmanager
def dagster_failures(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Raise `dagster.Failure` for errors raised on purpose; a permanent one is retried by neither step nor run."""
    take_up(context)
    try:
        yield
    except PermanentError as error:
        # allow_retries stops step retries only; run retries read this tag.
        context.instance.add_run_tags(context.run.run_id, {NO_RETRY_TAG: "false"})
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except TransientError as error:
        raise dg.Failure(description=str(error)) from error
