"""Where documents are forgotten: in every namespace of the deployment that this one's lake is of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from llm_platform.errors import SpecificationError
from llm_platform.operations.privacy.forgetting import CopiesOf, ForgetPlace, Forgetting, no_copies
from llm_platform.resources.warehouse import WarehouseResource
from llm_platform.warehouse.coordination_postgres import catalog_schemas


def forgetting(warehouse: WarehouseResource, *, copies: CopiesOf = no_copies) -> Forgetting:
    """What `forget` and `retention.deleted` work on: the lake's own namespace first, then all others.

    Args:
        copies: Where else published tables are, of an application in a namespace.

    Raises:
        SpecificationError: nobody said where the key that signs is.
        TransientError: the catalog's database does not answer.
    """
    if warehouse.signing_key is None or warehouse.runs_folder is None:
        raise SpecificationError(
            "Documents are forgotten with a key that signs: name its file in LLM_PLATFORM_SIGNING_KEY."
        )
    # Loads cryptography, which a graph that forgets nothing does not need.
    from llm_platform.signing.keys import signing_key

    own = Path(warehouse.runs_folder)
    names = dict.fromkeys([own.name, *_names(warehouse)])
    places = [ForgetPlace(name, _beside(warehouse, own.name, name).alone, own.parent / name) for name in names]
    return Forgetting(places, signing_key(Path(warehouse.signing_key), make=True), lambda: datetime.now(UTC), copies)


def _names(warehouse: WarehouseResource) -> list[str]:
    kind, _, target = warehouse.catalog.partition(":")
    if kind == "postgres":
        return catalog_schemas(target)
    return sorted(path.parent.name for path in Path(target).parent.parent.glob(f"*/{Path(target).name}"))


def _beside(warehouse: WarehouseResource, own: str, name: str) -> WarehouseResource:
    """The lake of another namespace of the same deployment: its places differ in the namespace's name alone."""
    if name == own:
        return warehouse
    kind, _, target = warehouse.catalog.partition(":")
    changed = {
        "catalog": warehouse.catalog
        if kind == "postgres"
        else f"{kind}:{Path(target).parent.with_name(name) / Path(target).name}",
        "data_path": _renamed(warehouse.data_path, own, name),
        "metadata_schema": name if kind == "postgres" else None,
        "runs_folder": str(Path(str(warehouse.runs_folder)).with_name(name)),
        "upstream_catalog": None,
        "upstream_data_path": None,
        "upstream_schema": None,
    }
    return warehouse.model_copy(update=changed)


def _renamed(data_path: str, own: str, name: str) -> str:
    """Where another namespace's files are: `…/<namespace>`, or in its folder `…/<namespace>/data`."""
    before, mark, after = f"{data_path.rstrip('/')}/".rpartition(f"/{own}/")
    if not mark:
        raise SpecificationError(
            f"Cannot tell where namespace {name!r} keeps its files: {data_path!r} does not name its own ({own!r})."
        )
    return f"{before}/{name}/{after}".rstrip("/")
