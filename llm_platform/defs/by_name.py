"""What is asked for by its name only: training, studies, backfills.

Each is an asset of the graph, with its arrows, its owners and the history of what was made. But no button of the graph
makes it: "Materialize unsynced" after an edited prompt would train, and study for hours, since what nobody has asked
for is missing. A job of its own makes it, and says in Dagster's history that it has.
"""

# Annotations are evaluated here: Dagster reads those of an op's context.
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from llm_platform.defs.failures import NOT_UP_TO_DATE, dagster_failures
from llm_platform.defs.measuring import Said, counted
from llm_platform.errors import PlatformError

DATA_VERSION_TAG = "dagster/data_version"
"""Dagster's own: by it, what depends on the asset knows that there is another one."""

Body = Callable[[dg.OpExecutionContext], Iterator[Said]]


@dataclass(frozen=True)
class ByName:
    """An asset that no button makes, and the op that does."""

    asset: dg.AssetSpec
    op: dg.OpDefinition

    @property
    def key(self) -> dg.AssetKey:
        """Of the asset."""
        return self.asset.key

    def made_by(self, job: str) -> dg.AssetSpec:
        """The asset, with the name of its job where people look for a button."""
        return self.asset.replace_attributes(description=f"{self.asset.description} Made by the job {job}.")


def made_by_name(
    spec: dg.AssetSpec, *, resources: Collection[str] = ("warehouse",), pool: str | None = None
) -> Callable[[Body], ByName]:
    """A decorator: the asset `spec`, whose function yields what an asset's function would."""

    def decorated(body: Body) -> ByName:
        @dg.op(
            name=spec.key.to_python_identifier(),
            description=spec.description,
            ins={"after": dg.In(dg.Nothing)},
            out=dg.Out(dg.Nothing),
            required_resource_keys=set(resources),
            pool=pool,
        )
        def made(context: dg.OpExecutionContext) -> None:
            with dagster_failures(context):
                partition = context.partition_key if context.has_partition_key else None
                try:
                    for event in counted(body(context)):
                        if isinstance(event, dg.MaterializeResult):
                            context.log_event(_made(spec.key, event, partition))
                except PlatformError as error:
                    # What is built on it has to know.
                    trouble = {NOT_UP_TO_DATE: str(error)}
                    context.log_event(dg.AssetMaterialization(spec.key, metadata=trouble, partition=partition))
                    raise

        return ByName(spec, made)

    return decorated


def _made(key: dg.AssetKey, event: dg.MaterializeResult, partition: str | None) -> dg.AssetMaterialization:
    version = event.data_version
    tags = {} if version is None else {DATA_VERSION_TAG: version.value}
    return dg.AssetMaterialization(key, metadata=event.metadata, tags=tags, partition=partition)


def job_by_name(
    name: str,
    chains: Sequence[Sequence[ByName]],
    *,
    description: str,
    tags: dict[str, str],
    partitions: dg.PartitionsDefinition[str] | None = None,
) -> dg.JobDefinition:
    """A job that makes all of them; those of one chain after each other."""

    @dg.job(name=name, description=description, tags=tags, partitions_def=partitions)
    def made() -> None:
        for chain in chains:
            before = None
            for one in chain:
                before = one.op() if before is None else one.op(before)

    return made
