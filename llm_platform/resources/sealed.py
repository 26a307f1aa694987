"""Resources that a launch cannot configure: what they are is decided where the deployment's settings are read."""

from __future__ import annotations

from typing import Any

import dagster as dg


def sealed(resource: dg.ConfigurableResource[Any]) -> dg.ResourceDefinition:
    """`resource` without a configuration of its own.

    Dagster lets every launch override the fields of a configurable resource. So whoever may launch a run could let it
    read another catalog or ask another endpoint, under the name of a release that was approved on this one.
    """
    definition = resource.get_resource_definition()
    values = definition.config_schema.default_value
    # A function, since values alone would leave a schema that takes anything, and ignores it.
    return definition.configured(lambda _: values, config_schema={}, description=type(resource).__doc__)
