"""What cannot be used, as assets that say why: an application, a lock entry, a team's module.

A broken file that kept the definitions from loading would take every other team's graph with it; one that were left out
in silence would be looked for elsewhere.
"""

# Annotations are evaluated here: Dagster reads those of an asset's context.
from collections.abc import Mapping

import dagster as dg

from llm_platform.application.names import identifier

PART = "cannot_be_used"


def broken_assets(found: Mapping[str, str], *, group: str | None = None) -> list[dg.AssetsDefinition]:
    """An asset for each of these; materialized, it fails with what is wrong.

    Args:
        found: Name of what is broken → its mistakes, one a line.
        group: The group that all of them are in; that of their own name if not given.
    """
    by_key: dict[str, list[tuple[str, str]]] = {}
    for name, mistakes in found.items():
        by_key.setdefault(identifier(name) or "_", []).append((name, mistakes))
    return [_broken_asset(key, same, group=group or key) for key, same in by_key.items()]


def _broken_asset(part: str, same: list[tuple[str, str]], *, group: str) -> dg.AssetsDefinition:
    names = ", ".join(dict.fromkeys(name for name, _ in same))
    mistakes = "\n".join(text for _, text in same)

    @dg.asset(
        key=dg.AssetKey([group, PART] if group == part else [group, PART, part]),
        group_name=group,
        kinds={"yaml"},
        metadata={"mistakes": dg.MetadataValue.text(mistakes)},
        description=f"{names} cannot be used until this is mended:\n\n```\n{mistakes}\n```",
    )
    def cannot_be_used() -> None:
        raise dg.Failure(description=mistakes, allow_retries=False)

    return cannot_be_used
