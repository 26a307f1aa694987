"""All objects of one model, in the order in which they are applied."""

from __future__ import annotations

from llm_platform.nim.manifests.operator import nim_service
from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel, require_servable


def nim_objects(model: ServedModel, pods: PodSettings) -> list[Manifest]:
    """All that one model needs, in the order in which it is applied.

    Raises:
        SpecificationError: the model is served by somebody else, or the settings contradict each other.
    """
    require_servable(model)
    return [nim_service(model, pods)]
