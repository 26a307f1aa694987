"""`llm-platform demo --finetune`: an adapter trained on this machine, served, judged, and published if it may be."""

from __future__ import annotations

import importlib.util
import time

from rich.console import Console
from rich.text import Text

from llm_platform.demo.demo import load_documents
from llm_platform.errors import SpecificationError
from llm_platform.evaluation.pairs import Pair
from llm_platform.evaluation.wording import interval_text, probability
from llm_platform.operations.adapters.adapter_reports import adapted_releases
from llm_platform.operations.adapters.training_plan import promotable, training_plan
from llm_platform.operations.evidence.adapter_evidence import AdapterReport, stored_report, verdict
from llm_platform.operations.release.rollout import promote
from llm_platform.operations.releases import LoadedApplication, loaded_application
from llm_platform.records import AdapterManifest
from llm_platform.resources.handed import adapter_bytes
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.settings.settings import Settings
from llm_platform.warehouse.lake import Warehouse
from llm_platform.warehouse.store import ApplicationStore
from llm_platform.workbench.runs import fetch_weights, materialize, train

BY = "demo --finetune: the adapter passed its gates and is better than the champion"
DOCUMENTS = 600
"""Half of them train, half of them judge: what two cores answer and train on in about ten minutes."""
NEEDED = ("torch", "transformers", "peft")


def run_finetune_demo(settings: Settings, *, application: str, documents: int | None, console: Console) -> None:
    """Train, serve, judge, and publish what may be published.

    Args:
        settings: Of the deployment.
        application: One that ships documents and has `finetuning`.
        documents: How many; None takes as many as there are, at least 600.
        console: Where it is said.

    Raises:
        SpecificationError: what trains is not installed, or the application trains nothing.
        PermanentError: a step failed; says which, why, and what to do.
    """
    started = time.monotonic()
    loaded = loaded_application(*settings.application_files, application)
    _require(loaded)
    warehouse = WarehouseResource.of(settings)
    load_documents(settings, application, documents=documents, least=DOCUMENTS)
    with warehouse.open() as lake:
        steps = training_plan(lake, loaded, gpus=settings.training_gpus)
    for step in steps:
        console.print(f"  {step.asset}: {step.reason}")
    if steps:
        fetch_weights(settings, loaded, console=console)
        train(settings, application, console=console)
    promoted = _promoted(settings, loaded, console=console)
    with warehouse.open(read_only=True) as lake:
        print_adapters(lake, loaded, settings, console=console)
    if not steps and not promoted:
        console.print(Text.assemble(("Nothing to do:", "bold"), " nothing was trained, and no request sent."))
    console.print(f"{time.monotonic() - started:.0f} s in all. Run it again: nothing is trained or sent twice.")


def _require(loaded: LoadedApplication) -> None:
    if not loaded.application.finetuning:
        raise SpecificationError(f"{loaded.application.name} has no 'finetuning' in its application.yaml.")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SpecificationError(
            f"Training needs {', '.join(missing)}, which is not installed. Run: make demo-finetune (it installs what "
            "is missing first)."
        )


def _promoted(settings: Settings, loaded: LoadedApplication, *, console: Console) -> bool:
    """Let the best adapter that passed serve, and publish its answers; whether there was one."""
    application = loaded.application
    with WarehouseResource.of(settings).open() as lake:
        store = lake.application(application.name)
        found = promotable(store, loaded)
        if found is None:
            return False
        variant, release = found
        promote(store, loaded, variant, release=release, by=BY, adapter_bytes=adapter_bytes(settings))
    assets = ["rollout", "completions_champion", "published"]
    materialize(settings, application.name, console=console, only=assets)
    return True


def print_adapters(lake: Warehouse, loaded: LoadedApplication, settings: Settings, *, console: Console) -> None:
    """Say how each adapter was made, what it was held against, who serves, and where to look."""
    application = loaded.application
    store = lake.application(application.name)
    for name in application.finetuning:
        for variant, release in adapted_releases(store, loaded, name).items():
            manifest, report = store.adapters.get(str(release.adapter)), stored_report(store, release)
            if manifest is not None:
                _print_training(manifest, console)
            if report is not None:
                _print_report(variant, report, console)
    _print_published(store, loaded, console)
    folder = settings.cards_folder / application.name
    console.print(f"Look at     {folder / 'adapters.html'}", markup=False)
    console.print(f"            {folder / 'card.html'}", markup=False)
    console.print(f"Next        llm-platform adapter list {application.name}   |   make dev   |   docs/finetuning.md")


def _print_training(manifest: AdapterManifest, console: Console) -> None:
    data, metrics, recipe = manifest.data, manifest.metrics, manifest.recipe
    console.print(f"\nAdapter     {manifest.adapter_id} ({manifest.name}) of {manifest.base.served_name}", markup=False)
    if data is None or metrics is None or recipe is None:
        console.print(f"            imported: {manifest.imported_from}", markup=False)
        return
    left_out = data.duplicates + data.near_evaluation + data.conflicting
    balance = ", ".join(f"{count} {label}" for label, count in data.balance.items())
    console.print(
        f"Examples    {data.train} ({balance}), {data.validation} to validate, {data.evaluation} held out; "
        f"{left_out} near-duplicates left out",
        markup=False,
    )
    first, kept = metrics.validations[0], min(metrics.validations, key=lambda one: one.loss)
    console.print(
        f"Training    rank {recipe.rank}, learning rate {recipe.learning_rate:g}, {metrics.steps} steps in "
        f"{manifest.wall_seconds:.0f} s in {manifest.dtype}; ended: {metrics.stopped}",
        markup=False,
    )
    console.print(
        f"            validation loss {first.loss:.3f} → {kept.loss:.3f}, accuracy {first.accuracy:.3f} → "
        f"{kept.accuracy:.3f} at step {kept.step}",
        markup=False,
    )


def _print_report(variant: str, report: AdapterReport, console: Console) -> None:
    if report.pairs:
        ours = report.pairs[0].ours
        console.print(f"Held out    {variant} {interval_text(ours)} of {ours.count} texts", markup=False)
    for found in report.pairs:
        console.print(f"            {_line(found)}", markup=False)
    kept = report.abilities
    if kept.kept is not None:
        console.print(
            f"Abilities   keeps {interval_text(kept.kept)} of the {kept.base_right} (of {kept.asked}) short texts that "
            "its base continues right",
            markup=False,
        )
    console.print(f"Verdict     {'may be published' if report.passed else 'refused'}: {verdict(report)}", markup=False)


def _line(found: Pair) -> str:
    difference = interval_text(found.difference)
    return f"{found.name}: {interval_text(found.theirs)}; difference {difference}, {probability(found.p_value)}"


def _print_published(store: ApplicationStore, loaded: LoadedApplication, console: Console) -> None:
    champion, contract = store.rollout.champion(), store.published.present(loaded.application.publish.contract)
    if champion is None:
        console.print("Published   nothing: no variant passed its gates")
        return
    rows = store.published.table(contract).num_rows
    table = f"{loaded.application.name}.published_v{contract}"
    console.print(
        f"Published   {table}, {rows} rows by {champion.variant} (release {champion.release_id})", markup=False
    )
