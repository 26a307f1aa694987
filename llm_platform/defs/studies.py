"""`sweeps` and `learning_curves`: studies of an adapter, in a job of their own, since each trains several."""

# Annotations are evaluated here: Dagster reads those of an asset's context and resources.
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from llm_platform.defs.by_name import ByName, made_by_name
from llm_platform.defs.completions import asking
from llm_platform.defs.failures import require_up_to_date
from llm_platform.defs.finetuning import TRAINING_POOL, train
from llm_platform.defs.graph import Graph
from llm_platform.operations.adapters.adapter_reports import write_page
from llm_platform.operations.adapters.studies import learning_curve, sweep
from llm_platform.operations.answering.sending import Asking
from llm_platform.records import Release, content_hash
from llm_platform.resources.handed import training_place
from llm_platform.resources.nim import resource_key
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.lake import Warehouse


def sweep_asset(graph: Graph, name: str, examples: ByName) -> ByName:
    """A handful of recipes, compared on validation examples only."""
    application = graph.application
    spec = application.finetuning[name]

    asset = dg.AssetSpec(
        graph.key(f"sweep_{name}"),
        deps=[examples.key],
        group_name=graph.side_group("studies"),
        owners=graph.owners,
        kinds={"pytorch"},
        code_version="1",
        description=f"Four recipes for adapter {name!r}, at most {4 * spec.max_minutes:g} minutes; validation decides.",
    )

    @made_by_name(asset, pool=TRAINING_POOL)
    def sweeps(context: dg.OpExecutionContext) -> Iterator[dg.MaterializeResult]:
        warehouse: WarehouseResource = context.resources.warehouse
        with warehouse.open() as lake:
            require_up_to_date(context.instance, examples.key)
            found = sweep(
                lake,
                graph.loaded,
                name,
                place=training_place(graph.settings),
                train=lambda training: train(context, graph, training),
            )
            page = _page(lake, graph)
        best = found.trials[0]
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(content_hash(found.model_dump(mode="json"))),
            metadata={
                "page": dg.MetadataValue.text(str(page)),
                "page_link": graph.page("cards/adapters"),
                "trials": len(found.trials),
                "validation_examples": found.validation,
                "best_rank": best.recipe.rank,
                "best_learning_rate": best.recipe.learning_rate,
                "best_validation_loss": best.loss,
                "best_validation_accuracy": best.accuracy,
            },
        )

    return sweeps


def learning_curve_asset(graph: Graph, name: str, examples: ByName) -> ByName:
    """How much more examples bring, on held-out documents, beside counting words."""
    application = graph.application
    spec = application.finetuning[name]

    asset = dg.AssetSpec(
        graph.key(f"learning_curve_{name}"),
        deps=[examples.key],
        group_name=graph.side_group("studies"),
        owners=graph.owners,
        kinds={"pytorch", "nim"},
        code_version="1",
        description=f"Scores of {name!r} from 50 examples to all; at most {spec.max_minutes:g} minutes a point.",
    )

    @made_by_name(asset, resources={"warehouse", resource_key(spec.model)}, pool=TRAINING_POOL)
    def learning_curves(context: dg.OpExecutionContext) -> Iterator[dg.MaterializeResult]:
        warehouse: WarehouseResource = context.resources.warehouse
        with warehouse.open() as lake:
            require_up_to_date(context.instance, examples.key)
            found = learning_curve(
                lake,
                graph.loaded,
                name,
                place=training_place(graph.settings),
                train=lambda training: train(context, graph, training),
                asking=_asking(context, graph, f"{name}_curve", snapshot=lake.snapshot()),
            )
            page = _page(lake, graph)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(content_hash(found.model_dump(mode="json"))),
            metadata={
                "page": dg.MetadataValue.text(str(page)),
                "page_link": graph.page("cards/adapters"),
                **{f"score_of_{point.examples}": point.score.value for point in found.points},
            },
        )

    return learning_curves


def _page(lake: Warehouse, graph: Graph) -> Path:
    """The page of the application's adapters, with what was just stored."""
    store = lake.application(graph.application.name)
    return write_page(store, graph.loaded, graph.cards_folder / "adapters.html")


def _asking(context: dg.OpExecutionContext, graph: Graph, shown: str, *, snapshot: int) -> Callable[[Release], Asking]:
    return lambda release: asking(context, graph, release, shown, snapshot=snapshot)
