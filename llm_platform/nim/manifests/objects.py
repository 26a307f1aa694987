"""All objects of one model, in the order in which they are applied."""

from __future__ import annotations

from llm_platform.nim.manifests.adapters import claim
from llm_platform.nim.manifests.engine import vllm_deployment, vllm_service
from llm_platform.nim.manifests.network import disruption_budget, headless_service, network_policy
from llm_platform.nim.manifests.nim_operator import nim_cache, nim_service
from llm_platform.nim.manifests.pods import Manifest, PodSettings, ServedModel
from llm_platform.nim.manifests.scaling import horizontal_autoscaler, scaled_object


def nim_objects(model: ServedModel, pods: PodSettings) -> list[Manifest]:
    """All that one model needs, in the order in which it is applied.

    The claim comes first, since pods mount it; the policy before the pods, so that none ever runs without it. Objects
    without the label `llm-platform/service` are shared with other models.

    Raises:
        SpecificationError: the model cannot run in a cluster of ours, or the bounds of replicas are impossible.
    """
    model.require_servable()
    pods.autoscaling.require_possible()
    objects = [claim(pods), network_policy(model, pods), headless_service(model, pods)]
    objects += _of_operator(model, pods) if model.is_nim else _of_engine(model, pods)
    if pods.autoscaling.kind == "keda":
        objects.append(scaled_object(model, pods))
    if pods.autoscaling.most > 1:
        objects.append(disruption_budget(model, pods))
    return objects


def _of_operator(model: ServedModel, pods: PodSettings) -> list[Manifest]:
    if pods.ngc_secret is None:
        return [nim_service(model, pods, cache=None)]
    cache = nim_cache(model, pods)
    return [cache, nim_service(model, pods, cache=str(cache["metadata"]["name"]))]


def _of_engine(model: ServedModel, pods: PodSettings) -> list[Manifest]:
    objects = [vllm_service(model, pods), vllm_deployment(model, pods)]
    return [*objects, horizontal_autoscaler(model, pods)] if pods.autoscaling.kind == "hpa" else objects
