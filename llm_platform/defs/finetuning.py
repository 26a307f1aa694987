"""`training_examples` and `adapters`: from known answers to a trained adapter, and what is known of it."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
import warnings
from collections.abc import Iterator, Sequence

import dagster as dg

from llm_platform.defs.by_name import ByName, made_by_name
from llm_platform.defs.failures import require_up_to_date
from llm_platform.defs.graph import Graph
from llm_platform.errors import ContractBroken, SpecificationError
from llm_platform.files import write_text
from llm_platform.finetuning.curve import loss_curve
from llm_platform.operations.adapters.finetuning import (
    Training,
    finish_training,
    leaked,
    prepare_training,
    rules_hash,
    trains,
    update_training_set,
)
from llm_platform.operations.adapters.training_pod import training_pod
from llm_platform.operations.adapters.training_process import TrainingEvent, run_training
from llm_platform.records import AdapterManifest, TrainingData, adapter_name, content_hash
from llm_platform.resources.handed import adapter_folders, training_image, training_place
from llm_platform.resources.progress import training_listener
from llm_platform.resources.warehouse import WarehouseResource

TRAINING_POOL = "training"
ENOUGH, APART = "enough_examples", "apart_from_evaluation"
FinetuningEvent = dg.MaterializeResult | dg.AssetCheckResult
Shown = str | int | float | dg.MetadataValue


def training_examples_asset(graph: Graph, name: str, deps: Sequence[dg.AssetsDefinition]) -> ByName:
    """Examples for one adapter: chosen, rendered and frozen."""
    spec = dg.AssetSpec(
        graph.key(f"training_examples_{name}"),
        deps=list(deps),
        group_name=graph.side_group("training"),
        owners=graph.owners,
        kinds={"duckdb"},
        code_version=rules_hash(graph.loaded, name),
        description=f"Known answers of the training split as examples for adapter {name!r}; new labels make a new set.",
    )

    @made_by_name(spec)
    def training_examples(context: dg.OpExecutionContext) -> Iterator[FinetuningEvent]:
        yield from _choose_examples(context.resources.warehouse, graph, name)

    return training_examples


def _choose_examples(warehouse: WarehouseResource, graph: Graph, name: str) -> Iterator[FinetuningEvent]:
    with warehouse.open() as lake:
        try:
            data = update_training_set(lake, graph.loaded, name)
        except SpecificationError as error:
            yield dg.AssetCheckResult(check_name=ENOUGH, passed=False, description=str(error))
            raise
        yield dg.AssetCheckResult(check_name=ENOUGH, passed=True, metadata={"train": data.train})
        leaks = leaked(lake.application(graph.application.name), data)
        yield dg.AssetCheckResult(check_name=APART, passed=not leaks, metadata={"examples": ", ".join(leaks)})
        if leaks:
            raise ContractBroken(
                f"{len(leaks)} training examples of {name!r} have the text of a document that is evaluated on (first: "
                f"{leaks[0]}). Nothing is trained on them."
            )
    yield dg.MaterializeResult(data_version=dg.DataVersion(data.content_hash), metadata=_sizes(data))


def adapter_asset(graph: Graph, name: str, examples: ByName) -> ByName:
    """One adapter, trained unless exactly these inputs have been trained on before."""
    spec = graph.application.finetuning[name]
    asset = dg.AssetSpec(
        graph.key(f"adapter_{name}"),
        deps=[examples.key],
        group_name=graph.side_group("training"),
        owners=graph.owners,
        kinds={"pytorch"},
        code_version=content_hash([spec.model_dump(mode="json"), graph.loaded.prompts[spec.prompt].version]),
        description=f"Adapter of {spec.model} for prompt {spec.prompt!r}: {trains(spec)}.",
    )

    @made_by_name(asset, pool=TRAINING_POOL)
    def adapters(context: dg.OpExecutionContext) -> Iterator[FinetuningEvent]:
        yield from _trained(context, graph, name, examples.key)

    return adapters


def _trained(
    context: dg.OpExecutionContext, graph: Graph, name: str, examples: dg.AssetKey
) -> Iterator[FinetuningEvent]:
    warehouse: WarehouseResource = context.resources.warehouse
    # Training costs money, so it does not begin on examples that are wrong.
    require_up_to_date(context.instance, examples)
    place = training_place(graph.settings)
    with warehouse.open() as lake:
        store = lake.application(graph.application.name)
        training = prepare_training(store, graph.loaded, name, place=place)
        manifest = training.adapter
        if manifest is None:
            with store.completions.lease(training.job.inputs_hash, holder=context.run.run_id):
                train(context, graph, training)
                manifest = finish_training(store, training, place.adapters)
        else:
            # A study may have trained it under another name.
            named = manifest.model_copy(update={"name": name})
            store.adapters.append(named, inputs_hash=training.job.inputs_hash)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(manifest.adapter_id),
        metadata={"trained_now": training.adapter is None, **_measured(graph, manifest)},
    )


def train(context: dg.OpExecutionContext, graph: Graph, training: Training) -> None:
    """Run the training process through Dagster Pipes, here or in a pod: it reports to Dagster's log by itself."""
    with warnings.catch_warnings():
        # In Dagster 1.13 a Pipes session uses names of Dagster's own that are deprecated or in preview.
        warnings.simplefilter("ignore")
        if graph.settings.training_image is None:
            _train_here(context, graph, training)
        else:
            _train_in_pod(context, graph, training)


def _train_here(context: dg.OpExecutionContext, graph: Graph, training: Training) -> None:
    listener = training_listener.get()
    asset = f"{graph.application.name}/{training.job.name}"

    def tell(event: TrainingEvent) -> None:
        if listener is not None:
            listener(asset, event)

    with dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()) as session:
        run_training(training, environment=session.get_bootstrap_env_vars(), on_event=tell)


def _train_in_pod(context: dg.OpExecutionContext, graph: Graph, training: Training) -> None:
    from dagster_k8s import PipesK8sClient

    pod = training_pod(training, training_image(graph.settings))
    PipesK8sClient().run(
        context=context,
        image=pod.image,
        command=pod.command,
        namespace=graph.settings.training_namespace,
        base_pod_meta=pod.metadata,
        base_pod_spec=pod.spec,
        pod_wait_timeout=pod.timeout_seconds,
    )


def _sizes(data: TrainingData) -> dict[str, Shown]:
    return {
        "dagster/row_count": data.train + data.validation,
        "train": data.train,
        "validation": data.validation,
        "evaluation_held_out": data.evaluation,
        **{f"label_{label}": count for label, count in data.balance.items()},
        "dropped_duplicates": data.duplicates,
        "dropped_near_evaluation": data.near_evaluation,
        "dropped_conflicting": data.conflicting,
        "split_seed": data.split_seed,
        "references_version": data.references_version,
        "snapshot": data.documents_snapshot or 0,
    }


def _measured(graph: Graph, manifest: AdapterManifest) -> dict[str, Shown]:
    """What training measured, with the curve as a file."""
    found: dict[str, Shown] = {
        "adapter": manifest.adapter_id,
        "served_name": adapter_name(graph.application.name, manifest.adapter_id),
        "folder": dg.MetadataValue.text(str(adapter_folders(graph.settings).path(manifest.adapter_id))),
        "base_sha256": manifest.base_sha256,
        "wall_seconds": manifest.wall_seconds,
    }
    metrics = manifest.metrics
    if metrics is None:
        return found
    picture = write_text(graph.cards_folder / f"training_{manifest.name}.svg", loss_curve(metrics))
    first, last = metrics.validations[0], min(metrics.validations, key=lambda one: one.loss)
    return {
        **found,
        "loss_curve": dg.MetadataValue.text(str(picture)),
        "steps": metrics.steps,
        "best_step": metrics.best_step,
        "stopped": metrics.stopped,
        "validation_loss": last.loss,
        "validation_loss_of_base": first.loss,
        "validation_accuracy": last.accuracy,
        "validation_accuracy_of_base": first.accuracy,
    }
