"""Reactions to tables that others write."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Self

import dagster as dg

from llm_platform.application.model import Application
from llm_platform.defs.documents import NO_MASS_LOSS
from llm_platform.defs.failures import sensor_failures
from llm_platform.defs.graph import Graph
from llm_platform.defs.runs import (
    FOLLOWED_TAG,
    STATE_TAG,
    Attempts,
    attempts,
    end_dead_runs,
    finetune_job,
    under_way,
)
from llm_platform.errors import ContractBroken, PlatformError, TransientError
from llm_platform.models.lock import lock_hash
from llm_platform.operations.answering.documents import consumed_and_current, held_drop, located
from llm_platform.operations.release.plan import plan
from llm_platform.operations.releases import LoadedApplication
from llm_platform.records import content_hash
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.source_slots import MIB

MOST_PERMANENT_FAILURES = 3
"""Runs for one state of the source that failed with an error that comes again; then a person has to look."""

MOST_FAILURES = 10
"""Runs for one state that failed for other reasons: with the pauses between them, an outage of six hours."""

LONGEST_PAUSE_SECONDS = 3600.0
JUDGING_SECONDS = 600.0
"""Who reviews says something every few seconds; so long after the last word of anybody, all of it becomes one run."""
NOT_OF_A_RUN = {"finetuning", "monitoring", "schedules", "review", "owners", "description"}
"""Keys of `application.yaml` that an everyday run does not go by."""
AS_RUN = "what is stored follows it"


@dataclass(frozen=True)
class _Cursor:
    """What the sensor of a source keeps from one tick to the next.

    Attributes:
        mark: State for which rows were counted, and what came of it.
        looked_at: When the source was looked at last, in seconds since 1970.
        notice: The last notice that it was looked at after.
    """

    mark: str = ""
    reason: str = ""
    looked_at: float = 0.0
    notice: int = 0

    @classmethod
    def of(cls, text: str | None) -> Self:
        """As it was kept; also by versions that kept a mark and its reason."""
        if text and text.startswith("{"):
            return cls(**json.loads(text))
        mark, _, reason = (text or "").partition(":")
        return cls(mark=mark, reason=reason)

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    def looked(self, notice: int, *, at: float) -> str:
        """The same after a look."""
        return replace(self, notice=notice, looked_at=at).text

    def wait(self, minutes: float | None, notice: int, *, now: float) -> float:
        """Seconds until the next look; 0 or less where it is time."""
        if minutes is None or notice > self.notice:
            return 0.0
        return self.looked_at + minutes * 60 - now


def source_version(token: str) -> dg.DataVersion:
    """Data version of a source table in a state."""
    return dg.DataVersion(_digest(token))


def source_changed_sensor(
    graph: Graph, *, source: dg.AssetSpec, job_name: str, clock: Callable[[], float] = time.time
) -> dg.SensorDefinition:
    """Ask for a run when the source table has moved past what `documents` consumed.

    What was consumed is committed with the documents, so a run that fails loses nothing: the difference is still there
    at the next tick. A run that failed after that is asked for again as long as the plan says that something is
    missing. The run key holds the state and the number of runs that ended for it, so a repeated tick asks for nothing
    twice and a failed run is asked for again.
    """
    application = graph.application
    address = application.source.address

    @dg.sensor(
        name=f"{application.name}_source_changed",
        job_name=job_name,
        minimum_interval_seconds=graph.settings.sensor_seconds,
        default_status=_status(graph.settings),
        description=f"Follows {address}: inserts, updates and deletes become one run.",
    )
    def source_changed(
        context: dg.SensorEvaluationContext, warehouse: WarehouseResource
    ) -> dg.SensorResult | dg.SkipReason:
        with sensor_failures():
            return look(context, warehouse)

    def look(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        for run_id in end_dead_runs(instance):
            context.log.warning(f"Run {run_id} had lost its process and was reported as failed.")
        if (running := under_way(instance, application.name)) is not None:
            return dg.SkipReason(f"run {running} of {application.name} is under way")
        try:
            with warehouse.open() as lake:
                if (not_yet := _not_yet(context, lake, graph, now=clock())) is not None:
                    return dg.SkipReason(not_yet)
                change = _change(lake, graph.loaded)
                past = attempts(instance, change.state)
                why_not = None if change.consumed else _held(context, lake, graph, change)
                if change.consumed and not (past.failed and plan(lake, graph.loaded)):
                    why_not = f"{address} is as documents consumed it{_held_back(lake, application)}"
        except PlatformError as error:
            return dg.SkipReason(f"Cannot say whether {address} has changed: {error}")
        why_not = why_not or why_not_again(past, application.name, now=clock(), interval=graph.settings.sensor_seconds)
        if why_not is not None:
            return dg.SkipReason(why_not)
        tags = {STATE_TAG: change.state, "llm_platform/trigger": "source changed"}
        request = dg.RunRequest(run_key=f"{change.state}:{past.ended}", tags=tags)
        return dg.SensorResult(run_requests=[request], asset_events=_seen(source, change))

    return source_changed


def files_changed_sensor(graph: Graph, *, job_name: str, clock: Callable[[], float] = time.time) -> dg.SensorDefinition:
    """Ask for one run of the everyday job when the application's files, or what was stored beside its runs, say
    something else than when it last looked.

    A merged prompt, another lock entry or a new gate is brought up to date without anybody's asking, and so are an
    adapter that was imported and a decision whose publication was cut off; what is trained is not in that job.
    What the plan finds missing for other reasons is not asked for here: a run that a budget ended would be started
    again and again.
    """
    said = "Follows prompts, application.yaml, pins, adapters and decisions: a change becomes one run. Never trains."
    look = _Follower(graph, "files changed", clock, state_of=lambda lake: stored_state(lake, graph.loaded))
    return look.sensor(f"{graph.application.name}_files_changed", job_name=job_name, description=said)


def known_answers_changed_sensor(
    graph: Graph, *, job_name: str, clock: Callable[[], float] = time.time
) -> dg.SensorDefinition:
    """The same for known answers: those of their table, and what people have decided once they have stopped judging."""

    def state_of(lake: Warehouse) -> str:
        newest = lake.application(graph.application.name).annotations.newest_at()
        if newest is not None and (left := newest.timestamp() + JUDGING_SECONDS - clock()) > 0:
            raise _NotYetError(f"people are judging; what they say is taken over when nobody has for {left:.0f} s more")
        consumed, current = consumed_and_current(lake, graph.loaded)
        if consumed is not None and consumed.token != current.token:
            # Known answers are often a column of the same table: one change of it is one run.
            raise _NotYetError("the source has changed, too; its run takes them over")
        return known_answers_state(lake, graph.application)

    said = "Follows known answers, of their table and of people: a change becomes one run."
    look = _Follower(graph, "known answers changed", clock, state_of=state_of, assets=("references",))
    return look.sensor(f"{graph.application.name}_known_answers_changed", job_name=job_name, description=said)


class _NotYetError(Exception):
    """What is followed is still moving."""


@dataclass(frozen=True)
class _Follower:
    """Asks for one run for each state in which the plan finds something missing.

    Attributes:
        state_of: Identity of what is followed.
        assets: What has to be missing; empty stands for anything.
    """

    graph: Graph
    trigger: str
    clock: Callable[[], float]
    state_of: Callable[[Warehouse], str]
    assets: tuple[str, ...] = ()

    def sensor(self, name: str, *, job_name: str, description: str) -> dg.SensorDefinition:
        """The sensor of this name."""

        @dg.sensor(
            name=name,
            job_name=job_name,
            minimum_interval_seconds=self.graph.settings.sensor_seconds,
            default_status=_status(self.graph.settings),
            description=description,
        )
        def changed(context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.RunRequest | dg.SkipReason:
            with sensor_failures():
                return self._look(context, warehouse)

        return changed

    def _look(self, context: dg.SensorEvaluationContext, warehouse: WarehouseResource) -> dg.RunRequest | dg.SkipReason:
        application = self.graph.application.name
        try:
            with warehouse.open() as lake:
                state = _digest(f"{application}:{self.trigger}:{self.state_of(lake)}")
                past = attempts(context.instance, state)
                why_not = _looked_at(context, application, state) or self._not_behind(lake, past)
        except _NotYetError as error:
            return dg.SkipReason(str(error))
        except PlatformError as error:
            return dg.SkipReason(f"what is missing cannot be told: {error}")
        if why_not == AS_RUN:
            context.update_cursor(state)
        interval = self.graph.settings.sensor_seconds
        why_not = why_not or why_not_again(past, application, now=self.clock(), interval=interval)
        if why_not is not None:
            return dg.SkipReason(why_not)
        tags = {STATE_TAG: state, "llm_platform/trigger": self.trigger}
        return dg.RunRequest(run_key=f"{state}:{past.ended}", tags=tags)

    def _not_behind(self, lake: Warehouse, past: Attempts) -> str | None:
        """Why what is stored follows what is followed, or cannot be told; None where something is missing."""
        if lake.application(self.graph.application.name).documents.consumed() is None:
            return "nothing was run yet; the first run is the source's, or a person's"
        missing = [step for step in plan(lake, self.graph.loaded) if not self.assets or step.asset in self.assets]
        return AS_RUN if not missing or (past.ended and not past.failed) else None


def adapters_trained_sensor(graph: Graph, *, job_name: str) -> dg.SensorDefinition:
    """Ask for one run of the everyday job after one that trained: it answers with the adapters and judges them."""
    name = graph.application.name

    @dg.sensor(
        name=f"{name}_adapters_trained",
        job_name=job_name,
        minimum_interval_seconds=graph.settings.sensor_seconds,
        default_status=_status(graph.settings),
        description=f"Follows {finetune_job(name)}: its end becomes one run, which judges what was trained.",
    )
    def adapters_trained(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        with sensor_failures():
            done = dg.RunsFilter(job_name=finetune_job(name), statuses=[dg.DagsterRunStatus.SUCCESS])
            newest = next(iter(context.instance.get_runs(done, limit=1)), None)
            if newest is None or newest.run_id == context.cursor:
                return dg.SkipReason(f"{finetune_job(name)} has not ended since the last look")
            if (running := under_way(context.instance, name)) is not None:
                return dg.SkipReason(f"run {running} of {name} is under way")
            context.update_cursor(newest.run_id)
            if FOLLOWED_TAG in newest.tags:
                return dg.SkipReason("the terminal that trained has gone on by itself")
            return dg.RunRequest(run_key=newest.run_id, tags={"llm_platform/trigger": "adapters trained"})

    return adapters_trained


def _looked_at(context: dg.SensorEvaluationContext, application: str, state: str) -> str | None:
    if context.cursor == state:
        return "it is as it was looked at"
    running = under_way(context.instance, application)
    return None if running is None else f"run {running} of {application} is under way"


def stored_state(lake: Warehouse, loaded: LoadedApplication) -> str:
    """Identity of what the files say, and of what was stored beside everyday runs: adapters from elsewhere, and who
    serves. What was trained here is followed by `adapters_trained_sensor`."""
    store = lake.application(loaded.application.name)
    adapters = {name: loaded.adapter(name, store) for name in loaded.application.finetuning}
    imported = {name: one.adapter_id for name, one in adapters.items() if one is not None and one.imported_from}
    served = store.rollout.champion()
    return content_hash([files_state(loaded), imported, served.release_id if served is not None else None])


def known_answers_state(lake: Warehouse, application: Application) -> str:
    """Identity of known answers, of their table and of people."""
    assert application.references is not None
    table = lake.sources.version(located(application.references, application), application.reference_columns())
    return content_hash([table, lake.application(application.name).annotations.data_version()])


def files_state(loaded: LoadedApplication) -> str:
    """Identity of what the files say that an everyday run goes by."""
    application = loaded.application
    said = application.model_dump(mode="json", exclude=NOT_OF_A_RUN)
    prompts = {name: prompt.version for name, prompt in loaded.prompts.items()}
    pins = {name: lock_hash(entry) for name, entry in loaded.lock.items()}
    judges = {name: judge.model_dump(mode="json") for name, judge in loaded.judges.items()}
    return content_hash([said, prompts, pins, judges])


@dataclass(frozen=True)
class _Change:
    """Where the source stands.

    Attributes:
        state: Identity of that state, in the words of a tag.
        version: Data version of the source; None while it cannot be told.
        consumed: Whether documents were made from it.
    """

    state: str
    version: dg.DataVersion | None
    consumed: bool


def _change(lake: Warehouse, loaded: LoadedApplication) -> _Change:
    name = loaded.application.name
    try:
        consumed, current = consumed_and_current(lake, loaded)
    except ContractBroken as error:
        before = lake.application(name).documents.consumed()
        if before is None:
            # Nobody has asked for this application yet, and its table may still be on its way.
            raise TransientError(str(error)) from None
        # A table or a column is gone. A run shows it: the check fails there, where people look.
        return _Change(_digest(f"{name}:{before.token}:{error}"), None, consumed=False)
    same = consumed is not None and consumed.token == current.token
    return _Change(_digest(f"{name}:{current.token}"), source_version(current.token), consumed=same)


def _not_yet(context: dg.SensorEvaluationContext, lake: Warehouse, graph: Graph, *, now: float) -> str | None:
    """Why the source is not looked at now; None where it is, which is written down."""
    source, cursor = graph.application.source, _Cursor.of(context.cursor)
    if graph.is_sample and lake.application(graph.application.name).documents.consumed() is None:
        # Its files are there from the beginning, and it would fetch its model for nobody.
        return "a sample is run for the first time by a person"
    # Read before the source: what is said while it is looked at is looked at once more.
    notice = lake.application(graph.application.name).notices.newest()
    if (wait := cursor.wait(source.look_minutes, notice, now=now)) > 0:
        return f"{source.address} is looked at again in {wait:.0f} s, or when it is notified"
    context.update_cursor(cursor.looked(notice, at=now))
    return None


def _held_back(lake: Warehouse, application: Application) -> str:
    standing = lake.sources.standing(application.source)
    return "" if standing is None else f"; slot {standing.name!r} holds back {standing.held_back // MIB} MB of WAL"


def _held(context: dg.SensorEvaluationContext, lake: Warehouse, graph: Graph, change: _Change) -> str | None:
    """Why nothing is asked for: the source has lost so many rows that somebody has to confirm it.

    Rows are counted once for a state, since that reads a file whole; the check of `documents` fails where people look.
    """
    documents = lake.application(graph.application.name).documents
    mark = _digest(f"{change.state}:{sum(documents.counts().values())}:{graph.application.source.max_drop}")
    cursor = _Cursor.of(context.cursor)
    if cursor.mark == mark:
        return cursor.reason or None
    try:
        found = held_drop(lake, graph.loaded) if change.version is not None else None
    except ContractBroken:
        # A file that is broken has no number of rows. A run shows it: it fails where people look.
        return None
    context.update_cursor(replace(cursor, mark=mark, reason=found or "").text)
    if found is not None:
        failed = dg.AssetCheckEvaluation(
            asset_key=graph.key("documents"), check_name=NO_MASS_LOSS, passed=False, metadata={}, description=found
        )
        context.instance.report_runless_asset_event(failed)
    return found


def why_not_again(past: Attempts, application: str, *, now: float, interval: float) -> str | None:
    """Why a state of the source is not asked for again now, in words; None when it is."""
    most = MOST_PERMANENT_FAILURES if past.permanent else MOST_FAILURES
    if past.failed >= most:
        return (
            f"{past.failed} runs for this state of the source failed, the last one is {past.last_run_id}. See why in "
            f"its log and mend it, then: llm-platform run {application}. The next change is asked for by itself."
        )
    if not past.failed:
        return None
    pause = min(interval * 2**past.failed, LONGEST_PAUSE_SECONDS)
    left = past.last_ended + pause - now
    return f"run {past.last_run_id} failed; it is asked for again in {left:.0f} s" if left > 0 else None


def _seen(source: dg.AssetSpec, change: _Change) -> list[dg.AssetMaterialization]:
    if change.version is None:
        return []
    return [dg.AssetMaterialization(source.key, tags={"dagster/data_version": change.version.value})]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _status(settings: Settings) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if settings.sensors else dg.DefaultSensorStatus.STOPPED
