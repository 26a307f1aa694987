"""Resources that a launch cannot configure: what they are is decided where the deployment's settings are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg


def sealed(resource: dg.ConfigurableResource[Any]) -> dg.ResourceDefinition:
    """`resource` without a configuration of its own.

    Dagster lets every launch override the fields of a configurable resource. So whoever may launch a run could let it
    read another catalog or ask another endpoint, under the name of a release that was approved on this one.
    """

    @contextmanager
    def made(_context: dg.InitResourceContext) -> Iterator[Any]:
        with resource.process_config_and_initialize_cm() as found:
            yield found

    return dg.ResourceDefinition(resource_fn=made, config_schema={}, description=type(resource).__doc__)
