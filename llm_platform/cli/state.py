"""`llm-platform state`: the folder that holds all local state."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from llm_platform.cli.console import console, new_table, show
from llm_platform.errors import SpecificationError, StorageError
from llm_platform.files import is_ours, size_of, strangers
from llm_platform.settings.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from llm_platform.warehouse.usage import TableUsage

STATE = ("namespaces", "upstream", "models", "nim", "peft", "local_models", "nim_cache", "keys")
NAMESPACE = (
    "catalog.sqlite*",
    "catalog_copies",
    ".spill-*",
    "leases.sqlite*",
    "branch.json",
    "data",
    "reports",
    "journal",
    "progress",
    "calls",
    "adapters",
    "training",
    "certificates",
    "dagster",
)
"""What is in such folders; see `files.strangers`."""

commands = typer.Typer(no_args_is_help=True, help="The folder that holds all local state.")


def refuse_strangers(folder: Path, known: Collection[str]) -> None:
    """Delete nothing of a folder that holds files of others.

    Raises:
        StorageError: it does; names them.
    """
    if others := strangers(folder, known):
        raise StorageError(
            f"{folder} holds what is not the platform's ({', '.join(others[:5])}{', …' if others[5:] else ''}), so it "
            "is not deleted. Check LLM_PLATFORM_STATE; if it is the right folder, move those away, then run this again."
        )


@commands.command("path")
def state_path() -> None:
    """Print the state folder."""
    console.print(str(load_settings().state))


@commands.command("encrypt")
def state_encrypt() -> None:
    """Encrypt the tables of this namespace, with keys in its catalog; past snapshots cannot be read afterwards.

    Nothing else may have the namespace open meanwhile, and nobody who may read a catalog in Postgres may be connected
    to its database. What is killed is begun anew by the next call.
    """
    from llm_platform.resources.warehouse import WarehouseResource
    from llm_platform.warehouse.encrypting import encrypt_lake

    settings = load_settings()
    if not settings.encrypted:
        raise SpecificationError(
            "Set LLM_PLATFORM_ENCRYPTED=true first, for everything that opens this namespace from now on; then run "
            "this again."
        )
    rows = encrypt_lake(WarehouseResource.of(settings).location)
    console.print(f"Encrypted: {rows} rows were written anew." if rows else "It is encrypted; nothing was left to do.")


@commands.command("usage")
def state_usage(
    tables: Annotated[bool, typer.Option("--tables", help="Each table by itself.")] = False,
) -> None:
    """Say how much room this namespace takes: tables by application, and what else is in its folder."""
    from rich.filesize import decimal

    from llm_platform.resources.warehouse import WarehouseResource

    settings = load_settings()
    with WarehouseResource.of(settings).open(read_only=True) as lake:
        found = lake.usage()
    table = new_table("what", "files", "size", "only for past snapshots")
    of: dict[str, list[TableUsage]] = {}
    for one in found:
        of.setdefault(f"{one.application}.{one.table}" if tables else one.application, []).append(one)
    for name, ones in of.items():
        sums = (sum(one.files for one in ones), sum(one.bytes for one in ones), sum(one.past_bytes for one in ones))
        table.add_row(name, str(sums[0]), decimal(sums[1]), decimal(sums[2]))
    folder = settings.namespace_folder
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # Its tables are counted above, where the catalog says that they are.
        if path.name != "data" and (taken := size_of(path)):
            table.add_row(f"{folder.name}/{path.name}", "", decimal(taken), "")
    show(table)


@commands.command("reset")
def state_reset(
    everything: Annotated[
        bool, typer.Option("--all", help="All namespaces, the sample tables and the weights.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the state of this namespace, or of all of them. What is deleted cannot be brought back."""
    settings = load_settings()
    target = settings.state if everything else settings.namespace_folder
    if not target.exists():
        console.print(f"{target} does not exist; nothing to delete.")
        return
    refuse_strangers(target, STATE if everything else NAMESPACE)
    if everything and next(target.iterdir(), None) is not None and not is_ours(target, "namespaces"):
        raise StorageError(
            f"{target} has no namespaces and no mark of the platform's, so it may be somebody else's and is not "
            "deleted. Check LLM_PLATFORM_STATE; if it is the right folder, delete it by hand."
        )
    if not yes:
        typer.confirm(f"Delete {target}?", abort=True)
    try:
        shutil.rmtree(target)
    except OSError as error:
        raise StorageError(f"Cannot delete {target}: {error.strerror}.") from error
    console.print(f"Deleted {target}.")
