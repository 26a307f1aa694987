"""The one place that turns errors into Dagster's.

Dagster stores what an exception says and those that it was raised from, and shows them. Only what we have raised on
purpose is in words of ours, so nothing else gets through, and no error keeps its cause.

Dagster skips everything that is downstream of a failed step. What readers get depends, by way of the report and the
decision, on every variant, judge and model, so a step of those does not fail: it ends with what is stored, says in its
metadata and checks why that is not up to date, and a check that nothing depends on fails in its place. So a run with
one dead challenger publishes the champion's new answers, and is a failed run all the same.
"""

# Annotations are evaluated here: Dagster reads those of a check's context.
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import dagster as dg

from llm_platform.defs.measuring import Said, say_unmeasured
from llm_platform.defs.runs import NO_RETRY_TAG, take_up
from llm_platform.errors import PermanentError, PlatformError, TransientError, is_interrupt, unexpected

StepEvent = dg.MaterializeResult | dg.AssetCheckResult
Event = TypeVar("Event", bound=Said)

NOT_UP_TO_DATE = "not_up_to_date"
"""Key of the metadata that says why a step could not do all of its work."""
UP_TO_DATE = "up_to_date"
"""Name of the check that fails for such a step."""
NEVER = "never"
KIND = "error"
"""Key of a failure's metadata that has the name of our error."""


@contextmanager
def dagster_failures(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Iterator[None]:
    """Raise `dagster.Failure` for errors; a permanent one is retried by neither step nor run."""
    try:
        take_up(context)
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except PermanentError as error:
        _forbid_retries(context.instance, context.run.run_id)
        raise _failure(error, allow_retries=False) from None
    except Exception as error:  # noqa: BLE001 - no foreign words get further
        if is_interrupt(error):
            raise dg.DagsterExecutionInterruptedError from None
        raise _failure(error) from None


@contextmanager
def sensor_failures() -> Iterator[None]:
    """The same for the ticks of sensors, which have no runs."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - no foreign words get further
        raise _failure(error) from None


def _failure(error: Exception, *, allow_retries: bool = True) -> dg.Failure:
    return dg.Failure(_in_words(error), metadata={KIND: type(error).__name__}, allow_retries=allow_retries)


def failing_late(
    context: dg.AssetExecutionContext, events: Iterator[Event], *, checks: Sequence[str] = ()
) -> Iterator[Event | StepEvent]:
    """The events of a step that others go on after, whatever becomes of it; `up_to_date_checks` fails in its place.

    Args:
        context: Of the step.
        events: What it does and says. An error ends it; what it had stored stays.
        checks: Its own checks: those that it has not come to have failed.
    """
    take_up(context)
    said: set[str | None] = set()
    try:
        for event in events:
            said.add(None if isinstance(event, dg.MaterializeResult) else event.check_name)
            yield event
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the step's own, and its check raises it again
        trouble = _in_words(error)
        if not isinstance(error, TransientError):
            _forbid_retries(context.instance, context.run.run_id)
    context.log.error(trouble)
    for name in checks:
        if name not in said:
            yield dg.AssetCheckResult(check_name=name, passed=False, description=trouble)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(_last_version(context.instance, context.asset_key)),
        metadata={NOT_UP_TO_DATE: trouble},
    )


def up_to_date_checks(name: str, assets: Sequence[dg.AssetsDefinition]) -> dg.AssetChecksDefinition:
    """A check for each of these assets, in a step of their own that fails for those that are not up to date."""
    specs = [
        dg.AssetCheckSpec(UP_TO_DATE, asset=one, description="The last run could do all of its work.") for one in assets
    ]

    @dg.multi_asset_check(name=f"{name}_{UP_TO_DATE}", specs=specs, can_subset=True)
    def up_to_date(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        troubles = {}
        for check in sorted(context.selected_asset_check_keys):
            if context.instance.get_latest_materialization_event(check.asset_key) is None:
                continue  # never tried, so there is nothing to say
            trouble = trouble_of(context.instance, check.asset_key)
            yield dg.AssetCheckResult(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=trouble is None,
                description=trouble or "",
            )
            if trouble is not None:
                troubles[check.asset_key.to_user_string()] = trouble
        if troubles:
            say_unmeasured(context.instance, context.run.run_id)
            lines = [f"{asset} is not up to date: {trouble}" for asset, trouble in troubles.items()]
            raise dg.Failure(description="\n".join(lines), allow_retries=False)

    return up_to_date


def trouble_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """Why an asset could not be brought up to date when it was last tried; None where it could, or was never tried."""
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event is not None else None
    found = materialization.metadata.get(NOT_UP_TO_DATE) if materialization is not None else None
    return None if found is None else str(found.value)


def require_up_to_date(instance: dg.DagsterInstance, key: dg.AssetKey) -> None:
    """Refuse to build on an asset that could not be brought up to date.

    Raises:
        PermanentError: says why it could not.
    """
    if (trouble := trouble_of(instance, key)) is not None:
        raise PermanentError(f"{key.to_user_string()} is not up to date, and nothing was built on it: {trouble}")


def _in_words(error: Exception) -> str:
    if isinstance(error, PlatformError):
        return str(error)
    if isinstance(error, dg.Failure):
        return error.description or "it failed"
    return unexpected(error)


def _last_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str:
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event is not None else None
    return (materialization.tags or {}).get("dagster/data_version", NEVER) if materialization is not None else NEVER


def _forbid_retries(instance: dg.DagsterInstance, run_id: str) -> None:
    # allow_retries stops step retries only; run retries read this tag.
    instance.add_run_tags(run_id, {NO_RETRY_TAG: "false"})
