"""What the chart writes for programs of others: operators, by their CRDs, and the proxy of the pages, by its flags."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_platform.settings.page import all_settings
from llm_platform.settings.settings import CHECKOUT
from llm_platform_tests.deployments.chart.rendering import Object, merged, named, pods, render
from llm_platform_tests.deployments.chart.test_chart import EVERYTHING, OF_OPERATORS, is_restricted
from llm_platform_tests.nim.manifests.structural import FILES, Schema, crd_schema, disagreements, mistakes

CRDS = os.environ.get("LLM_PLATFORM_TEST_CRDS")
PROXY_VERSION = "v7.15.3"
FLAGS = {
    "http-address", "provider", "oidc-issuer-url", "client-id", "client-secret-file", "cookie-secret-file",
    "redirect-url", "upstream", "email-domain", "allowed-group", "reverse-proxy", "cookie-secure", "cookie-samesite",
    "cookie-csrf-per-request", "skip-provider-button", "pass-access-token", "pass-basic-auth", "pass-user-headers",
    "request-logging",
}  # fmt: skip
"""Those of its flags that are used, looked up in `pkg/apis/options` of that version: it does not start with another."""


@cache
def written() -> dict[str, Schema]:
    """Schemas of exactly the fields that the chart writes."""
    return yaml.safe_load(Path(__file__).with_name("written_fields.yaml").read_text(encoding="utf-8"))


@cache
def of_operators() -> list[Object]:
    """Every object of the chart that an operator reads."""
    properties = {
        "externalSecrets": {"secrets": {"crm": {"password": {"key": "crm", "property": "p", "version": "2"}}}}
    }
    objects = render("production", merged(EVERYTHING, properties))
    return [one for one in objects if one["apiVersion"].startswith(OF_OPERATORS)]


def test_objects_of_operators_have_the_fields_that_are_written_down_and_no_others() -> None:
    """An operator drops a field that it does not know and says nothing: a Secret stays empty, a rule never fires."""
    found = of_operators()

    assert {one["kind"] for one in found} == set(written())
    assert [line for one in found for line in mistakes(written()[one["kind"]], one)] == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        pytest.param("ExternalSecret", ("spec", "secretStoreRef", "name"), "", id="no-store"),
        pytest.param("ExternalSecret", ("spec", "data", 0, "remoteRef"), "crm", id="a-key-for-a-reference"),
        pytest.param("ServiceMonitor", ("spec", "endpoints", 0, "bearerToken"), "x", id="a-field-that-is-none"),
        pytest.param("PodMonitor", ("spec", "podMetricsEndpoints", 0, "port"), 8000, id="a-number-for-a-port"),
        pytest.param("ScaledObject", ("spec", "triggers", 0, "metadata", "threshold"), 10, id="a-number-for-a-text"),
        pytest.param("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "soon", id="no-duration"),
    ],
)
def test_a_spoilt_object_is_refused(kind: str, path: tuple[str | int, ...], value: Any) -> None:
    """What accepts everything holds nothing."""
    (spoilt, *_) = (yaml.safe_load(yaml.safe_dump(one)) for one in of_operators() if one["kind"] == kind)
    place = spoilt
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    assert mistakes(written()[kind], spoilt) != []


@pytest.mark.parametrize("kind", written())
def test_what_is_written_down_agrees_with_the_crds(kind: str) -> None:
    """A field that a project renames, types anew or makes mandatory shows up here, by its path."""
    theirs = crd_schema(Path(CRDS), kind) if CRDS else None
    if theirs is None:
        pytest.skip(f"no CRD of {kind}: LLM_PLATFORM_TEST_CRDS=folder with {FILES[kind]}")

    assert list(disagreements(written()[kind], theirs)) == []
    assert [line for one in of_operators() if one["kind"] == kind for line in mistakes(theirs, one)] == []


def test_the_proxy_is_started_with_flags_that_its_version_knows() -> None:
    """It ended at once, on every page: the version that was pinned could not read a cookie secret from a file."""
    proxies = [pod["spec"]["containers"][0] for name, pod in pods(render("production")) if "proxy" in name]

    assert len(proxies) == 3
    for proxy in proxies:
        assert f":{PROXY_VERSION}@sha256:" in proxy["image"]
        assert {re.match(r"--([a-z-]+)=", one)[1] for one in proxy["args"]} <= FLAGS  # type: ignore[index]


def test_only_the_launching_page_asks_for_a_group_and_none_trusts_what_a_reader_sends() -> None:
    """Without the first viewers launch; without the second a header of the reader's says who they are."""
    proxies = {
        name: pod["spec"]["containers"][0]["args"] for name, pod in pods(render("production")) if "proxy" in name
    }

    asks = {
        name.rpartition("-")[2] for name, args in proxies.items() if "--allowed-group=llm-platform-operators" in args
    }
    assert asks == {"launch"}
    for args in proxies.values():
        assert not [one for one in args if one.startswith(("--skip-auth", "--skip-jwt", "--trusted-ip", "--htpasswd"))]
        assert "--pass-user-headers=true" in args


def test_the_alert_on_endpoints_that_are_down_sees_those_that_the_chart_watches() -> None:
    """The operator names a job after its PodMonitor, so the one alert that wakes somebody could not fire."""
    (monitor,) = (one for one in of_operators() if one["kind"] == "PodMonitor")
    (rules,) = (one for one in of_operators() if one["kind"] == "PrometheusRule")
    alerts = {
        rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule
    }

    (wanted,) = re.findall(r'job=~"([^"]+)"', alerts["LLMEndpointDown"])
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    jobs = [one["replacement"] for one in endpoint["relabelings"] if one["targetLabel"] == "job"]
    assert len(jobs) == 1
    assert re.fullmatch(wanted, jobs[0])


def test_each_alert_of_the_chart_has_its_page() -> None:
    """Whoever is woken by it looks for its name."""
    page = (CHECKOUT / "docs" / "operations" / "alerts.md").read_text(encoding="utf-8")
    (rules,) = (one for one in of_operators() if one["kind"] == "PrometheusRule")

    alerts = {rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    assert set(re.findall(r"^## (LLM\w+)$", page, flags=re.MULTILINE)) == alerts


def test_argo_cd_migrates_after_what_a_migration_needs_and_before_pods_of_the_new_version() -> None:
    """It takes Helm's `pre-upgrade` for the beginning of every sync, the first included: the job waited for ever."""
    objects = render("production", EVERYTHING)

    def wave(kind: str, name: str) -> int:
        annotations = named(objects, kind, name)["metadata"].get("annotations", {})
        return int(annotations.get("argocd.argoproj.io/sync-wave", "0"))

    job = named(objects, "Job", "llm-platform-migrate-1")
    spec, at = job["spec"]["template"]["spec"], wave("Job", job["metadata"]["name"])
    made = {(one["kind"], one["metadata"]["name"]) for one in objects}
    needed = {("ServiceAccount", spec["serviceAccountName"])}
    for volume in spec["volumes"]:
        needed |= {("ConfigMap", found["name"]) for key, found in volume.items() if key == "configMap"}
        needed |= {("ExternalSecret", found["secretName"]) for key, found in volume.items() if key == "secret"}
    first = {*(needed & made), *(one for one in made if one[0] == "NetworkPolicy")} - {
        ("ConfigMap", "llm-platform-migrate")
    }
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"
    assert len(first) == 10
    assert {wave(*one) < at for one in first} == {True}
    # A claim of which nobody has a pod yet is not bound, and Argo CD waits for that before it goes on.
    assert wave("PersistentVolumeClaim", "llm-platform-state") == wave("ConfigMap", "llm-platform-migrate") == at
    assert {wave(*one) > at for one in made if one[0] in ("Deployment", "Ingress", "HorizontalPodAutoscaler")} == {True}


def test_argo_cd_takes_the_application_and_finds_the_files_that_it_names() -> None:
    """What it names of this repository is moved by somebody who does not look there."""
    application = yaml.safe_load((CHECKOUT / "deploy" / "argocd" / "application.yaml").read_text(encoding="utf-8"))
    source = application["spec"]["source"]
    chart = CHECKOUT / source["path"]

    assert (chart / "Chart.yaml").is_file()
    # The team's own values stand beside the chart, in a repository of theirs.
    assert [name for name in source["helm"]["valueFiles"] if (chart / name).is_file()] == ["profiles/production.yaml"]
    theirs = crd_schema(Path(CRDS), "Application") if CRDS else None
    if theirs is None:
        pytest.skip(f"no CRD of Application: LLM_PLATFORM_TEST_CRDS=folder with {FILES['Application']}")
    assert mistakes(theirs, application) == []
    application["spec"]["syncPolicy"]["automatd"] = {}
    assert mistakes(theirs, application) != []


def test_a_code_location_of_dagster_plus_is_hardened_finds_its_files_and_names_no_namespace() -> None:
    """A namespace that is written down there is every branch deployment's: each would have written production's."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    text = (CHECKOUT / "deploy" / "dagster-plus" / "dagster_cloud.yaml").read_text(encoding="utf-8")
    (location,) = yaml.safe_load(text)["locations"]
    # Refuses a key that it does not know.
    context = K8sContainerContext.create_from_config(location["container_context"])
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image=location["image"], dagster_home="/state"),
        args=["dagster"], job_name="run", user_defined_k8s_config=context.run_k8s_config,
    )  # fmt: skip
    pod = ApiClient().sanitize_for_serialization(job)["spec"]["template"]

    assert is_restricted(pod) == []
    assert pod["spec"]["automountServiceAccountToken"] is False
    (container,) = pod["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("LLM_PLATFORM_")}
    assert set(given) <= {one.variable for one in all_settings()}
    assert not set(given) & {"LLM_PLATFORM_NAMESPACE", "LLM_PLATFORM_UPSTREAM", "LLM_PLATFORM_DEPLOYMENT"}
    there = {*(one["mountPath"] for one in container["volumeMounts"]), "/applications"}
    files = re.findall(r"(?<![\w:/])(/[a-z/_-]+)/[\w.-]+", " ".join(given.values()))
    assert len(files) == 3
    assert set(files) <= there
