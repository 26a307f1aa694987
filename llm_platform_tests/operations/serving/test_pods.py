"""From lock entries and settings to Kubernetes objects, and to YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_platform.errors import SpecificationError, StorageError
from llm_platform.models.entries import LockEntry
from llm_platform.operations.adapters.adapters import peft_source
from llm_platform.operations.serving.endpoints import base_urls
from llm_platform.operations.serving.local_nim import LocalNim
from llm_platform.operations.serving.pods import (
    objects_of,
    require_adapter_models,
    route_of,
    served_model,
)
from llm_platform.operations.serving.pods_yaml import as_yaml, write_yaml
from llm_platform.operations.serving.serving import Serving
from llm_platform.resources.handed import serving_of
from llm_platform.settings.settings import Settings

IMAGE = {"repository": "nvcr.io/nim/meta/llama", "tag": "2.1.5", "digest": "sha256:" + "1e" * 32}


def entry(name: str = "llama", **fields: Any) -> LockEntry:
    """A model in a cluster."""
    given = {"mode": "kubernetes", "served_name": "meta/llama", "image": IMAGE, "model": "m", "licence": "none"}
    return LockEntry.model_validate({**given, "context_length": 4096, "name": name, **fields})


def settings(**fields: Any) -> Settings:
    """A deployment that names where its models run."""
    return Settings(**{"deployment": "prod", "namespace": "main", "nim_cluster_namespace": "nim", **fields})


def serving(**fields: Any) -> Serving:
    """How that deployment serves its models."""
    return serving_of(settings(**fields))


def test_an_entry_and_the_settings_become_objects() -> None:
    """The one call that the life cycle and the command both make."""
    objects = objects_of(entry(parallelism={"tensor": 4}), serving(nim_adapter_models="llama,other"))

    service = next(manifest for manifest in objects if manifest["kind"] == "NIMService")
    assert service["metadata"]["labels"]["llm-platform/owner"] == "prod.main"
    assert service["spec"]["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert "initContainers" in service["spec"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        pytest.param({"mode": "external", "base_urls": ("http://nim:8000",)}, "its mode is 'external'", id="external"),
        pytest.param({"dialect": "hosted"}, "dialect 'hosted'", id="hosted"),
    ],
)
def test_an_entry_that_runs_elsewhere_is_refused(changed: dict[str, Any], complaint: str) -> None:
    """Pods nobody asked for cost GPUs."""
    with pytest.raises(SpecificationError, match=complaint):
        objects_of(entry(**changed), serving())


def test_pods_need_a_namespace_that_somebody_named() -> None:
    """Objects without one would land wherever the terminal happens to point."""
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_NIM_CLUSTER_NAMESPACE"):
        objects_of(entry(), serving(nim_cluster_namespace=None))


def test_an_empty_name_means_that_there_is_none() -> None:
    """An environment variable can be empty and cannot be absent in every tool that sets one."""
    found = serving(nim_ngc_secret="", nim_pull_secret="", nim_storage_class="", nim_priority_class="").required_pods()

    assert (found.ngc_secret, found.pull_secret, found.storage_class, found.priority_class) == (None,) * 4


def test_the_gateway_may_ask_the_models_beside_those_who_are_named() -> None:
    """A route whose gateway the policy shuts out answers nothing but errors."""
    alone = serving().required_pods()
    named = serving(nim_client_namespaces="dagster, notebooks", nim_gateway="gateways/public").required_pods()

    assert alone.client_namespaces == ("nim",)
    assert named.client_namespaces == ("dagster", "notebooks", "gateways")


def test_labels_of_nodes_are_read_from_one_line() -> None:
    """A value may hold an equals sign; a key without a value is a mistake that is said at once."""
    found = serving(nim_node_labels="gpu=h100, pool=a=b").required_pods()

    assert found.node_labels == {"gpu": "h100", "pool": "a=b"}
    with pytest.raises(ValueError, match="each label is key=value"):
        settings(nim_node_labels="gpu")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"nim_memory": "32 GB"}, id="quantity"),
        pytest.param({"nim_cpu": "half"}, id="cores"),
        pytest.param({"nim_claim": "Claim_1"}, id="name"),
        pytest.param({"nim_gateway": "public"}, id="gateway-without-namespace"),
        pytest.param({"nim_autoscaling": "vpa"}, id="autoscaler"),
    ],
)
def test_a_setting_that_a_cluster_would_refuse_is_refused_here(wrong: dict[str, str]) -> None:
    """In the cluster it would be an event of an object that nobody looks at."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings(**wrong)


def test_a_misspelt_model_with_adapters_is_said() -> None:
    """Left alone, the model would serve without adapters, and every request for one would be a 404."""
    with pytest.raises(SpecificationError, match="names 'lama', which models"):
        require_adapter_models({"llama": entry()}, serving(nim_adapter_models="llama,lama"))


def test_adapters_are_published_where_the_pods_of_their_model_look(tmp_path: Path) -> None:
    """Publisher and pod each see the claim somewhere else; below that both have to say the same."""
    deployment = serving(nim_peft_source=tmp_path / "adapters")

    published = peft_source(deployment, entry("llama")).relative_to(tmp_path)
    watched = Path(served_model(entry("llama")).adapters_folder).relative_to("/model-store")

    assert published == watched
    assert peft_source(deployment, entry("llama")) != peft_source(deployment, entry("mistral"))


def test_a_service_without_single_pods_is_asked_as_a_whole(tmp_path: Path) -> None:
    """Whoever runs the model may not have made a headless service; `localhost` stands for the one there is."""
    found = base_urls(entry(service="localhost"), LocalNim(tmp_path))

    assert set(found) <= {"http://127.0.0.1:8000", "http://[::1]:8000"}
    assert found


def test_a_route_is_between_models_that_serve_under_one_name() -> None:
    """A request names its model, so one that serves under another name refuses its share."""
    lock = {"old": entry("old"), "new": entry("new"), "other": entry("other", served_name="mistral")}
    deployment = serving(nim_gateway="gateways/public")

    route = route_of("chat", {"old": 9, "new": 1}, lock=lock, serving=deployment)
    with pytest.raises(SpecificationError, match="models of different names: meta/llama, mistral"):
        route_of("chat", {"old": 9}, lock=lock, serving=deployment, mirrors={"other": 1.0})
    twins = {"a": entry("a", service="nim"), "b": entry("b", service="nim")}
    with pytest.raises(SpecificationError, match="one and the same service"):
        route_of("chat", {"a": 9, "b": 1}, lock=twins, serving=deployment)
    with pytest.raises(SpecificationError, match="LLM_PLATFORM_NIM_GATEWAY"):
        route_of("chat", {"old": 1}, lock=lock, serving=serving())

    assert [backend["name"] for backend in route["spec"]["rules"][0]["backendRefs"]] == ["nim-old", "nim-new"]
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways"}]


def test_yaml_is_the_same_objects_again() -> None:
    """What Git keeps is what was rendered, without anchors, in the order of application."""
    objects = objects_of(entry(), serving(nim_autoscaling="keda"))

    text = as_yaml(objects)

    assert list(yaml.safe_load_all(text)) == objects
    assert "&id" not in text


@pytest.mark.parametrize("text", ["12e3", "0x1f", "1_000", "2026-11-21", "-p", ".5", "true", "null", "~", "no"])
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    """A profile of digits with one `e` is a number to other parsers, and a manifest with it is refused."""
    [line] = [line for line in as_yaml([{"value": text}]).splitlines() if line.startswith("value")]

    assert line.removeprefix("value: ")[0] in "'\""


def test_a_file_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    """No traceback for a place that is no folder."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Cannot write"):
        write_yaml([], tmp_path / "file" / "pods.yaml")
