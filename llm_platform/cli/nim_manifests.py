"""`llm-platform nim render|route|pool`: Kubernetes objects as YAML, for a repository that a cluster follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import ModelName, application_named, console, entry_named, errors
from llm_platform.errors import SpecificationError
from llm_platform.settings.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_platform.models.lock import Lock
    from llm_platform.nim.manifests.pods import Manifest
    from llm_platform.operations.serving.serving import Serving

Output = Annotated[Path | None, typer.Option(help="File to write; the terminal if not given.")]


def register(commands: typer.Typer) -> None:
    """Add these commands to `llm-platform nim`."""
    commands.command("render")(nim_render)
    commands.command("route")(nim_route)
    commands.command("pool")(nim_pool)


def nim_render(
    model: ModelName,
    output: Output = None,
    values: Annotated[
        Path | None, typer.Option(help="File to write them into as values of the chart; with other models, one each.")
    ] = None,
) -> None:
    """Write the Kubernetes objects that serve a model; nothing is applied, and no cluster is asked."""
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.serving.pods import objects_of, require_adapter_models
    from llm_platform.resources.handed import serving_of

    settings = load_settings()
    lock = load_lock(settings.models_lock)
    require_adapter_models(lock, serving_of(settings))
    objects = objects_of(entry_named(lock, model), serving_of(settings))
    if values is not None:
        from llm_platform.operations.serving.pods_yaml import write_values

        write_values(model, objects, values)
        console.print(f"Wrote {values}: helm upgrade … --values {values}", markup=False)
        return
    _give(objects, output)


def nim_route(
    name: Annotated[str | None, typer.Argument(help="Name of the route; that of the application if not given.")] = None,
    *,
    to: Annotated[
        list[str] | None, typer.Option(help="ENTRY=WEIGHT, once for each model that shares the requests.")
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="Entry that gets a copy of every request.")] = None,
    from_rollout: Annotated[
        str | None, typer.Option(help="Application whose champion and challengers share the requests.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="InferencePool of the base, where its adapters share the requests.")
    ] = None,
    hostname: Annotated[str | None, typer.Option(help="Name that clients ask; every one if not given.")] = None,
    output: Output = None,
) -> None:
    """Write an HTTPRoute that shares other clients' requests between models, by weight.

    With --from-rollout, weights and mirrors are those of the stored rollout; over adapters of one base it is an
    InferenceModelRewrite of llm-d.
    """
    from llm_platform.models.lock import load_lock
    from llm_platform.operations.serving.pods import route_of
    from llm_platform.resources.handed import serving_of

    settings = load_settings()
    lock, serving = load_lock(settings.models_lock), serving_of(settings)
    if from_rollout is not None:
        if to or mirror:
            raise SpecificationError(
                "--from-rollout takes weights and mirrors from the lake: leave out --to, --mirror."
            )
        _give_rollout(from_rollout, lock, serving, name=name, hostname=hostname, pool=pool, output=output)
        return
    if name is None or not to:
        raise SpecificationError("A route needs a name and --to ENTRY=WEIGHT, or --from-rollout APPLICATION.")
    shares = _shares(to)
    for entry in (*shares, *([mirror] if mirror else [])):
        entry_named(lock, entry)
    mirrors = {mirror: 1.0} if mirror else None
    _give([route_of(name, shares, lock=lock, serving=serving, mirrors=mirrors, hostname=hostname)], output)


def _give_rollout(
    application: str,
    lock: Lock,
    serving: Serving,
    *,
    name: str | None,
    hostname: str | None,
    pool: str | None,
    output: Path | None,
) -> None:
    from llm_platform.operations.live import live_rollouts
    from llm_platform.operations.release.gateways import gateway_objects
    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    application_named(settings, application)
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        store = lake.application(application)
        found = gateway_objects(
            store, live_rollouts(store), lock=lock, serving=serving, name=name, hostname=hostname, pool=pool
        )
    for sentence in found.left_out:
        errors.print(f"left out: {sentence}", markup=False)
    _give(found.objects, output)


def nim_pool(
    gpus: Annotated[int, typer.Option(help="GPUs of the pool.")],
    production_gpus: Annotated[int, typer.Option(help="GPUs that production always has.")],
    production: Annotated[str, typer.Option(help="Kubernetes namespace of production's models.")] = "nim-production",
    development: Annotated[
        list[str] | None, typer.Option(help="Kubernetes namespace of other models; may be given again.")
    ] = None,
    output: Output = None,
) -> None:
    """Write priority classes, namespaces and quotas that share one pool of GPUs."""
    from llm_platform.nim.manifests.capacity import GpuPool, pool_objects

    pool = GpuPool(
        gpus=gpus,
        production_gpus=production_gpus,
        production_namespace=production,
        development_namespaces=tuple(development or ["nim-development"]),
        gpu_resource=load_settings().nim_gpu_resource,
    )
    _give(pool_objects(pool), output)


def _shares(texts: Sequence[str]) -> dict[str, int]:
    shares: dict[str, int] = {}
    for text in texts:
        entry, _, weight = text.rpartition("=")
        if not entry or not weight.isdecimal():
            raise SpecificationError(f"Cannot read the share {text!r}. Write ENTRY=WEIGHT, e.g. llama-8b=90.")
        if entry in shares:
            raise SpecificationError(f"Two shares are for {entry!r}. Give each entry one weight.")
        shares[entry] = int(weight)
    return shares


def _give(objects: Sequence[Manifest], output: Path | None) -> None:
    from llm_platform.operations.serving.pods_yaml import as_yaml, write_yaml

    if output is None:
        typer.echo(as_yaml(objects), nl=False)
        return
    write_yaml(objects, output)
    console.print(f"Wrote {output}: {', '.join(str(found['kind']) for found in objects)}.")
