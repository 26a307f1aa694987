"""What a team defines in its own Python modules, beside its applications."""

from __future__ import annotations

import importlib

import dagster as dg

from llm_platform.errors import SpecificationError, bare_words, interrupts


def team_definitions(module_name: str) -> dg.Definitions:
    """The `defs` of a module that the deployment names; its assets may take the platform's resources by their keys.

    Raises:
        SpecificationError: the module cannot be imported, or has no `defs`.
    """
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SpecificationError(
            f"LLM_PLATFORM_MODULES names {module_name!r}, which cannot be imported: {error}. "
            "Install it, or put its folder on PYTHONPATH."
        ) from error
    except BaseException as error:
        if interrupts(error):
            raise
        raise SpecificationError(
            f"LLM_PLATFORM_MODULES names {module_name!r}, which cannot be imported: it raised {bare_words(error)}. "
            "What it said is not shown, since it may quote rows."
        ) from None
    found = getattr(module, "defs", None)
    if not isinstance(found, dg.Definitions):
        raise SpecificationError(
            f"LLM_PLATFORM_MODULES names {module_name!r}, which has no `defs`. Add: defs = dg.Definitions(assets=[...])"
        )
    return found
