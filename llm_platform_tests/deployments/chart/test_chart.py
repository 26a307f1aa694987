# ruff: noqa: E501 - a message stands on one line, as people see it
"""What the chart makes: all of it, as clusters take it, closed to what is not named, and refused where it is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from llm_platform.nim.manifests.capacity import GpuPool, pool_objects
from llm_platform.settings.page import all_settings
from llm_platform.settings.settings import CHECKOUT, Settings
from llm_platform.workbench.instance import dagster_home
from llm_platform_tests.deployments.chart.rendering import (
    CHART,
    DIGEST,
    NAMESPACE,
    PROFILES,
    Object,
    merged,
    named,
    pods,
    refusal,
    render,
    rendered,
    selects,
    values_of,
    ways_in,
    ways_out,
)

INVENTORY: dict[str, dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_name("inventory.yaml").read_text(encoding="utf-8")
)
OF_OPERATORS = ("monitoring.coreos.com/", "keda.sh/", "external-secrets.io/")
BETWEEN = pytest.mark.slow
VERSIONS = [pytest.param(f"1.{minor}", marks=[BETWEEN] if 31 < minor < 37 else []) for minor in range(31, 38)]
EVERYTHING: dict[str, Any] = {
    "attestations": {"keysConfigMap": "keys", "approvers": ["ada@example.org"]},
    "adapters": {"keysConfigMap": "adapter-keys"},
    "signingKeySecret": {"name": "signing"},
    "encryption": {"enabled": True, "stateVolume": True},
    "serve": {
        "enabled": True,
        "callersSecret": "callers",
        "metricsTokenSecret": {"name": "metrics"},
        "autoscaling": "keda",
        "kedaQuery": "sum(rate(requests[1m]))",
    },
    "training": {"enabled": True, "image": "registry.example.org/finetuning@sha256:" + "2" * 64},
    "review": {"enabled": True, "peopleConfigMap": "people"},
    "externalSecrets": {
        "enabled": True,
        "store": {"name": "vault"},
        "secrets": {"lake-password": {"password": "llm/lake"}},
    },
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_renders_exactly_its_objects(profile: str) -> None:
    """A template that is lost, or a dependency that is missing, renders without an error."""
    found: dict[str, list[str]] = {}
    for one in render(profile):
        place = one["metadata"].get("namespace")
        name = one["metadata"]["name"]
        found.setdefault(one["kind"], []).append(f"{place}/{name}" if place else name)

    assert {kind: sorted(names) for kind, names in found.items()} == INVENTORY[profile]


@pytest.mark.parametrize("version", VERSIONS)
def test_clusters_of_each_version_take_every_object(version: str) -> None:
    """Strictly: a field that Kubernetes does not know is dropped by it in silence."""
    objects = [*render("branch"), *render("single-node"), *render("production", EVERYTHING)]

    checked = 0
    for one in objects:
        if not one["apiVersion"].startswith(OF_OPERATORS):
            kubernetes_validate.validate(one, version, strict=True)
            checked += 1

    assert checked > 90


@pytest.mark.parametrize("profile", PROFILES)
def test_every_image_is_named_by_digest(profile: str) -> None:
    """A tag may be another image tomorrow."""
    objects = render(profile, EVERYTHING)
    images = re.findall(r'"image": "([^"]+)"', json.dumps(objects))
    launcher = yaml.safe_load(named(objects, "ConfigMap", "llm-platform-instance")["data"]["instance.yaml"])
    images.append(launcher["run_launcher"]["config"]["job_image"])
    images.append(named(objects, "ConfigMap", "llm-platform-environment")["data"]["LLM_PLATFORM_TRAINING_IMAGE"])

    assert len(images) > 6
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)


def is_restricted(pod: Object) -> list[str]:
    """What of a pod is against the level `restricted` of Pod Security, or has a disk it can write that is not named."""
    spec, wrong = pod["spec"], []
    whole = spec.get("securityContext", {})
    if any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        wrong.append("the host's namespaces")
    if any(
        not set(volume) & {"configMap", "secret", "emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"]
    ):
        wrong.append("a volume of a kind that is not allowed")
    for container in spec["containers"]:
        own = container.get("securityContext", {})
        checks = {
            "privilege escalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "root": own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True and whole.get("runAsUser") == 10001,
            "seccomp": (own.get("seccompProfile") or whole.get("seccompProfile")) == {"type": "RuntimeDefault"},
            "read-only root": own.get("readOnlyRootFilesystem") is True,
            "limits": bool(container["resources"].get("requests")) and "memory" in container["resources"]["limits"],
        }
        wrong += [name for name, holds in checks.items() if not holds]
    return wrong


@pytest.mark.parametrize("profile", PROFILES)
def test_every_pod_is_restricted_and_only_what_launches_has_a_token(profile: str) -> None:
    """A pod that reads every document is worth attacking."""
    for name, pod in pods(render(profile, EVERYTHING)):
        assert is_restricted(pod) == [], name
        launches = name.removeprefix("llm-platform-") in ("webserver", "daemon")
        assert pod["spec"]["automountServiceAccountToken"] is launches, name
        account = "-launcher" if launches else "-plain" if "proxy" in name else ""
        assert pod["spec"]["serviceAccountName"] == f"llm-platform{account}", name


def test_what_launches_runs_may_do_that_and_nothing_more() -> None:
    """With the right to read Secrets or to start any pod, one page would be the whole namespace."""
    rules = named(render("production"), "Role", "llm-platform-launcher")["rules"]

    rights = {f"{resource}:{verb}" for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert rights == {
        "jobs:create", "jobs:get", "jobs:delete", "jobs/status:get", "pods:list", "pods/log:get", "events:list",
    }  # fmt: skip
    assert not [one for one in render("production", EVERYTHING) if one["kind"].startswith("Cluster")]


def run_pod(objects: list[Object], folder: Path, tags: dict[str, str] | None = None) -> Object:
    """The pod of a run as Dagster's launcher makes it from the rendered instance."""
    import dagster as dg
    from dagster._serdes import ConfigurableClassData
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import construct_dagster_k8s_job
    from dagster_k8s.launcher import K8sRunLauncher
    from kubernetes.client import ApiClient

    instance = yaml.safe_load(named(objects, "ConfigMap", "llm-platform-instance")["data"]["instance.yaml"])
    config = instance["run_launcher"]["config"]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    config = {**config, "load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    data = ConfigurableClassData("dagster_k8s", "K8sRunLauncher", yaml.safe_dump(config))
    launcher = data.rehydrate(as_type=K8sRunLauncher)
    context = K8sContainerContext.create_for_run(
        dg.DagsterRun(job_name="tickets", tags=tags or {}), launcher, include_run_tags=True
    )
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(config["job_image"], launcher),
        args=["dagster", "api", "execute_run", "…"],
        job_name="dagster-run-1",
        user_defined_k8s_config=context.run_k8s_config,
        component="run_worker",
    )
    found: Object = ApiClient().sanitize_for_serialization(job)
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_the_pod_of_a_run_is_as_hardened_and_as_bounded_as_the_code_location(profile: str, tmp_path: Path) -> None:
    """In Dagster's own chart the security context of the code location does not reach run pods."""
    objects = render(profile)
    job = run_pod(objects, tmp_path)
    run, code = job["spec"]["template"], dict(pods(objects))["llm-platform-code-location"]

    kubernetes_validate.validate(job, "1.34", strict=True)
    assert is_restricted(run) == []
    ours, theirs = run["spec"]["containers"][0], code["spec"]["containers"][0]
    assert ours["securityContext"] == theirs["securityContext"]
    assert run["spec"]["securityContext"] == code["spec"]["securityContext"]
    assert ours["image"] == theirs["image"]
    assert run["spec"]["automountServiceAccountToken"] is False
    assert run["spec"]["serviceAccountName"] == "llm-platform"
    assert ours["volumeMounts"] == theirs["volumeMounts"]
    assert run["spec"]["volumes"] == code["spec"]["volumes"]
    assert {"configMapRef": {"name": "llm-platform-environment"}} in ours["envFrom"]
    assert ways_out(objects, run["metadata"]["labels"]) == ways_out(objects, code["metadata"]["labels"])
    # Ended, not left: a run that was killed is begun anew by Dagster, which counts.
    assert job["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("file", ["instance.yaml", "viewer.yaml"])
def test_dagster_takes_the_instance_of_the_pods(profile: str, file: str, tmp_path: Path) -> None:
    """Two ways of saying one limit are an error of Dagster's, which only a pod that starts would show."""
    import dagster as dg

    rendered = tmp_path / file
    rendered.write_text(named(render(profile), "ConfigMap", "llm-platform-instance")["data"][file])
    home = dagster_home(Settings(state=tmp_path / "state", namespace="test", dagster_instance=rendered))

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs in (2, 10)
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled


def test_a_tag_of_a_run_cannot_replace_image_or_security(tmp_path: Path) -> None:
    """Whoever may launch could otherwise run any image, as root, beside every document."""
    harmless = {"dagster-k8s/config": json.dumps({"container_config": {"resources": {"limits": {"memory": "9Gi"}}}})}
    forged = {"dagster-k8s/config": json.dumps({"container_config": {"image": "evil"}})}
    objects = render("production")

    job = run_pod(objects, tmp_path, harmless)
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "9Gi"
    with pytest.raises(Exception, match=r"violated the allowed list: container_config\.image"):
        run_pod(objects, tmp_path, forged)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_pod_starts_a_command_that_there_is(profile: str, tmp_path: Path) -> None:
    """An option that a program does not know is seen by nobody but the pod, again and again."""
    from dagster._cli import create_dagster_cli
    from dagster._daemon.cli import create_dagster_daemon_cli

    from llm_platform.cli.main import program

    programs = {
        "dagster": create_dagster_cli(),
        "dagster-daemon": create_dagster_daemon_cli(),
        "llm-platform": program(),
    }
    here = tmp_path / "workspace.yaml"
    here.touch()
    for name, pod in pods(render(profile, EVERYTHING)):
        container = pod["spec"]["containers"][0]
        probes = [
            container.get(probe, {}).get("exec", {}).get("command", []) for probe in ("startupProbe", "livenessProbe")
        ]
        for command in [container["args"], *(probe for probe in probes if probe)]:
            if command[0] not in programs:
                assert "proxy" in name, command
                continue
            found, rest = programs[command[0]], command[1:]
            while hasattr(found, "commands"):
                # Some groups have a command that is meant where none is named.
                named_one = rest[0] in found.commands
                found, rest = found.commands[rest[0] if named_one else found.default], rest[named_one:]
            # Reads the options as the program would, and runs nothing.
            found.make_context(name, [str(here) if one.endswith("/workspace.yaml") else one for one in rest])


NAMED = {
    "production": {"10.1.0.0/28 5432", "10.2.0.0/28 443", "10.3.0.4/32 5432", "nim-production 8000", "kube-dns 53"},
    "branch": {"10.1.0.0/28 5432", "10.2.0.0/28 443", "10.3.0.4/32 5432", "nim-production 8000", "kube-dns 53"},
    "single-node": {"10.1.0.0/28 5432", "10.2.0.0/28 443", "10.3.0.4/32 5432", "nim-production 8000", "kube-dns 53"},
}
MORE = {"webserver": {"code-location 4000", "10.0.0.1/32 6443"}, "daemon": {"code-location 4000", "10.0.0.1/32 6443"}}
MORE["viewer"] = {"code-location 4000"}


def short(way: str) -> str:
    """A way out in a few words, so that a test reads like a list."""
    peer, _, port = way.rpartition(" ")
    number = port.partition("/")[2]
    found = json.loads(peer)
    if "ipBlock" in found:
        return f"{found['ipBlock']['cidr']} {number}"
    labels = found.get("podSelector", {}).get("matchLabels", {})
    place = found.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", "")
    return f"{labels.get('k8s-app') or labels.get('app.kubernetes.io/component') or place} {number}"


@pytest.mark.parametrize("profile", PROFILES)
def test_no_pod_that_sees_documents_has_a_way_out_but_to_what_is_named(profile: str, tmp_path: Path) -> None:
    """Computed from the policies as they add up, for every pod, runs included."""
    objects = render(profile)
    everything = [*pods(objects), ("llm-platform-run", run_pod(objects, tmp_path)["spec"]["template"])]

    seen = 0
    for name, pod in everything:
        labels = pod["metadata"]["labels"]
        found = ways_out(objects, labels)
        assert found is not None, name
        assert ways_in(objects, labels) is not None, name
        if labels.get("llm-platform/sees") == "documents":
            component = name.removeprefix("llm-platform-")
            assert {short(way) for way in found} == NAMED[profile] | MORE.get(component, set()), name
            seen += 1
    # Those without the label are the proxies, which hold no documents and reach no store of them.
    assert seen == sum("proxy" not in name for name, _ in everything)


@pytest.mark.parametrize("profile", PROFILES)
def test_pages_are_reached_through_the_proxy_and_code_through_the_pages(profile: str) -> None:
    """Whoever reaches the launching page's port may launch runs: Dagster asks nobody who they are."""
    objects = render(profile)
    found = {
        name.removeprefix("llm-platform-"): ways_in(objects, pod["metadata"]["labels"]) or set()
        for name, pod in pods(objects)
    }

    proxied = profile != "single-node"
    for page in {"webserver", "viewer", "review"} & set(found):
        assert {"llm-platform/proxy" in way for way in found[page]} == ({True} if proxied else set()), page
    assert all("webserver" in way for way in found["code-location"])
    assert len(found["code-location"]) == 1
    assert found["daemon"] == set()


def test_another_tool_computes_the_same_connections(tmp_path: Path) -> None:
    """Our own computation would be wrong in the same way as our policies."""
    nca = shutil.which("nca")
    if nca is None:
        pytest.skip("nca is not on the path: pip install network-config-analyzer==2.1.0, in an environment of its own")
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": {"kubernetes.io/metadata.name": n}}}
        for n in (NAMESPACE, "kube-system", "nim-production", "elsewhere")
    ]
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": "elsewhere"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    objects = [one for one in render("production") if one["kind"] in ("Deployment", "NetworkPolicy")]
    for one in objects:
        one["metadata"]["namespace"] = NAMESPACE
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all([*spaces, stranger, *objects]), encoding="utf-8")

    done = subprocess.run(
        [nca, "--resource_list", str(path), "--connectivity", "--output_format", "txt"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    ours = [line for line in done.stdout.splitlines() if f"src_ns: [{NAMESPACE}]" in line]
    named_networks = {"10.0.0.1/32", "10.1.0.0/28", "10.2.0.0/28", "10.3.0.4/32", "192.0.2.10/32"}
    assert {one for line in ours for one in re.findall(r"[0-9.]+/[0-9]+", line)} == named_networks
    assert not [line for line in ours if "All connections" in line or "elsewhere" in line.partition("dst")[2]]
    assert not [line for line in done.stdout.splitlines() if "elsewhere" in line and f"dst_ns: [{NAMESPACE}]" in line]


BAD: list[Any] = [
    pytest.param({"image": {"digest": "latest"}}, 'image.digest is "latest": give sha256: and 64 hexadecimal digits, as `make image` prints it; a tag may be another image tomorrow.', id="tag"),
    pytest.param({"image": {"repository": ""}}, "image.repository is empty: name the image that `make image` pushed, without tag.", id="no-image"),
    pytest.param({"catalog": {"address": "sqlite:lake.sqlite"}}, 'catalog.address is "sqlite:lake.sqlite": give postgres: and libpq\'s words, e.g. postgres:host=db dbname=lake user=lake.', id="catalog-on-a-disk"),
    pytest.param({"catalog": {"address": "postgres:host=db password=x"}}, "catalog.address holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret.", id="password-of-the-catalog"),
    pytest.param({"dagsterStorage": {"address": "postgresql://dagster:x@db/dagster"}}, "dagsterStorage.address holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret.", id="password-of-dagster"),
    pytest.param({"warehouses": {"crm": {"address": "postgres://reader:x@db/crm"}}}, "warehouses.crm.address holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret.", id="password-of-a-warehouse"),
    pytest.param({"data": {"root": "/state/data"}}, 'data.root is "/state/data": give s3://bucket/prefix; a pod\'s disk is gone with the pod.', id="data-on-a-disk"),
    pytest.param({"upstream": "production", "sensors": False}, 'namespace and upstream are both "production": a branch writes a namespace of its own.', id="a-branch-of-itself"),
    pytest.param({"namespace": "branch_1", "upstream": "production", "sensors": True}, "sensors is true on a branch (upstream is set): it would answer every new document again; set sensors to false.", id="sensors-of-a-branch"),
    pytest.param({"network": {"egress": {"postgres": {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}}}, 'network.egress.postgres.to names everywhere ({"ipBlock":{"cidr":"0.0.0.0/0"}}): documents could leave by it; name one network.', id="everywhere"),
    pytest.param({"network": {"egress": {"objectStore": {"to": []}}}}, "network.egress.objectStore.to is empty, which would mean everywhere: name peers as a NetworkPolicy does.", id="nowhere-is-everywhere"),
    pytest.param({"network": {"kubernetesApi": {"cidrs": []}}}, "network.kubernetesApi.cidrs is empty: name the addresses of the API server (kubectl get endpoints kubernetes), or no run can be launched.", id="no-api"),
    pytest.param({"proxy": {"hosts": {"view": ""}}}, "proxy.hosts.view is empty: name the host under which people open that page.", id="no-host"),
    pytest.param({"proxy": {"issuer": "login.example.org"}}, 'proxy.issuer is "login.example.org": name the identity provider, https://…; without the proxy, set proxy.enabled to false and reach the pages by kubectl port-forward.', id="issuer"),
    pytest.param({"encryption": {"enabled": True}}, "encryption.enabled is true and encryption.stateVolume is not: journals and cards on the state volume hold text; name a storage class that encrypts in state.storageClass, and set encryption.stateVolume to true.", id="text-on-a-disk-in-clear"),
    pytest.param({"training": {"enabled": True, "image": "finetuning:latest"}}, 'training.image is "finetuning:latest": name it by digest, repository@sha256:….', id="training-by-tag"),
    pytest.param({"capacity": {"gpus": 4, "productionGpus": 6}}, "capacity.productionGpus is 6 of 4: production cannot be guaranteed more GPUs than there are.", id="more-gpus-than-there-are"),
    pytest.param({"state": {"accessMode": "ReadWriteOnce"}}, "state.accessMode is ReadWriteOnce: pods of other nodes could not mount it; use a class with ReadWriteMany, or the profile single-node.", id="one-writer"),
    pytest.param({"models": {"objects": {"llama": [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "m"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "vllm:latest"}]}}}}]}}}, 'models.objects.llama has an image without digest ("image":"vllm:latest"): render it anew, `llm-platform nim render llama --values FILE`.', id="model-by-tag"),
    pytest.param({"viewer": {"replicas": "two"}}, "at '/viewer/replicas': got string, want integer", id="a-word-for-a-number"),
    pytest.param({"imagee": {"digest": "x"}}, "at '': additional properties 'imagee' not allowed", id="a-misspelt-key"),
    pytest.param({"state": {"accessMode": "Everybody"}}, "at '/state/accessMode': value must be one of 'ReadWriteMany', 'ReadWriteOnce'", id="an-unknown-choice"),
]  # fmt: skip


@pytest.mark.parametrize(("over", "said"), BAD)
def test_values_that_cannot_be_installed_are_refused_in_words(over: dict[str, Any], said: str) -> None:
    """What Helm says otherwise is a nil pointer in a template, or nothing until the pods fail."""
    found = refusal("production", over)

    assert f"- {said}" in found
    assert found.count("\n- ") == 1


def test_odd_values_arrive_as_they_were_written() -> None:
    """A number with seven digits became 1e+07, a name of digits a number, and a lock file that begins with spaces no YAML."""
    lock = "  # of the team\nmodels: {}\n"
    objects = render("production", {
        "image": {"pullSecrets": ["123"]},
        "settings": {"budget_month_tokens": 12_000_000, "nim_background": True},
        "secretSettings": {"alert_webhook_url": {"name": "alerts", "key": "url"}},
        "models": {"lock": lock},
        "runs": {"keepJobsSeconds": 2_592_000, "priorityClass": "true", "resources": {"requests": {"memory": "1500M"}}},
        "warehouses": {"crm": {"address": "postgres:postgresql://reader@db/crm?sslmode=require"}},
        "externalSecrets": {"enabled": True, "store": {"name": "vault"}, "secrets": {"one": {"a": "1", "b": {"key": "2", "property": "p"}}}},
    })  # fmt: skip

    data = named(objects, "ConfigMap", "llm-platform-environment")["data"]
    instance = yaml.safe_load(named(objects, "ConfigMap", "llm-platform-instance")["data"]["instance.yaml"])
    config = instance["run_launcher"]["config"]["run_k8s_config"]
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    assert (data["LLM_PLATFORM_BUDGET_MONTH_TOKENS"], data["LLM_PLATFORM_NIM_BACKGROUND"]) == ("12000000", "true")
    assert json.loads(data["LLM_PLATFORM_WAREHOUSES"]) == {
        "crm": "postgres:postgresql://reader@db/crm?sslmode=require"
        "&password_file=/run/secrets/llm-platform/warehouse-crm/password"
    }
    assert named(objects, "ConfigMap", "llm-platform-models")["data"] == {"models.lock.yaml": lock}
    assert config["job_spec_config"]["ttl_seconds_after_finished"] == 2_592_000
    assert config["pod_spec_config"]["priority_class_name"] == "true"
    assert config["container_config"]["env"][0]["valueFrom"] == {"secretKeyRef": {"name": "alerts", "key": "url"}}
    assert [one["imagePullSecrets"] for one in accounts] == [[{"name": "123"}]] * len(accounts)
    assert [one["remoteRef"] for one in named(objects, "ExternalSecret", "one")["spec"]["data"]] == [
        {"key": "1"}, {"key": "2", "property": "p"},
    ]  # fmt: skip


def test_pods_are_made_anew_where_what_they_read_at_their_start_changes() -> None:
    """The daemon went on launching runs as before: of the instance only the part without the launcher was looked at."""
    now, then = (
        dict(pods(render("production", {"runs": {"priorityClass": name}})))["llm-platform-daemon"]["metadata"]
        for name in ("urgent", "patient")
    )

    assert now["annotations"] != then["annotations"]


def test_a_migration_reads_what_its_own_release_is_set_to() -> None:
    """Before an upgrade the ConfigMaps are the former release's: another database was migrated than the one that was named."""
    objects = render("production", EVERYTHING)
    spec = named(objects, "Job", "llm-platform-migrate-1")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    own = named(objects, "ConfigMap", "llm-platform-migrate")

    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert given == named(objects, "ConfigMap", "llm-platform-environment")["data"]
    assert "envFrom" not in container
    read = {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume}
    assert read == {"llm-platform-migrate", "keys", "adapter-keys"}
    assert own["metadata"]["annotations"]["helm.sh/hook"] == "post-install,pre-upgrade"
    assert own["data"] == {
        **named(objects, "ConfigMap", "llm-platform-models")["data"],
        "instance.yaml": named(objects, "ConfigMap", "llm-platform-instance")["data"]["instance.yaml"],
    }


MORE_OF_THE_SCHEMA: list[tuple[dict[str, Any], str]] = [
    ({"proxy": {"hosts": {"launch": "https://a.example.org"}}}, "at '/proxy/hosts/launch': 'https://a.example.org' does not match pattern"),
    ({"settings": {"s3_secret": "hush"}}, "at '/settings': additional properties 's3_secret' not allowed"),
    ({"daemon": {"resources": {"limits": {"memory": "2 GB"}}}}, "at '/daemon/resources/limits/memory': '2 GB' does not match pattern"),
    ({"runs": {"tolerations": [{"kee": "gpu"}]}}, "at '/runs/tolerations/0': additional properties 'kee' not allowed"),
    ({"warehouses": {"c" * 41: {"address": "postgres:host=db"}}}, f"at '/warehouses': additional properties '{'c' * 41}' not allowed"),
    ({"models": {"namespace": "NIM"}}, "at '/models/namespace': 'NIM' does not match pattern"),
    ({"deployment": ""}, "at '/deployment': '' does not match pattern"),
]  # fmt: skip
MORE_OF_THE_CHECKS: list[tuple[dict[str, Any], str]] = [
    ({"catalog": {"address": "postgresql://lake:hush@db/lake"}}, "catalog.address holds a password: values are kept in clear; put it into a Secret and name that in passwordSecret."),
    ({"upstreamCatalog": {"address": "sqlite:lake"}}, 'upstreamCatalog.address is "sqlite:lake": give postgres: and libpq\'s words, as a role that only reads.'),
    ({"network": {"kubernetesApi": {"cidrs": ["0.0.0.0/0"]}}}, 'network.kubernetesApi.cidrs names everywhere ({"ipBlock":{"cidr":"0.0.0.0/0"}}): documents could leave by it; name one network.'),
    ({"network": {"egress": {"crm": {"to": [{"ipBlock": {"cidr": "128.0.0.0/1"}}]}}}}, 'network.egress.crm.to names everywhere ({"ipBlock":{"cidr":"128.0.0.0/1"}}): documents could leave by it; name one network.'),
    ({"network": {"egress": {"wiki": {"to": [{"namespaceSelector": {}, "podSelector": {}}], "port": 443}}}}, 'network.egress.wiki.to names everywhere ({"namespaceSelector":{},"podSelector":{}}): documents could leave by it; name one network.'),
    ({"network": {"egress": {"docs": {"to": [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}}], "port": 443}}}}, 'network.egress.docs.to names everywhere ({"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["a"]}]}}): documents could leave by it; name one network.'),
    ({"network": {"egress": {"mail": {"to": [{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}}], "port": 25}}}}, 'network.egress.mail.to names everywhere ({"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"Exists"}]}}): documents could leave by it; name one network.'),
    ({"image": {"repository": "registry.example.org:5000/llm-platform:v1"}}, 'image.repository is "registry.example.org:5000/llm-platform:v1": name it without scheme, tag and digest, e.g. registry.example.org/llm-platform.'),
    ({"models": {"lock": "- a list"}}, "models.lock is no lock file, a YAML with `models:`: give it word for word (--set-file models.lock=models.lock.yaml)."),
    ({"network": {"egress": {"search": {"to": [{"ipBlock": {"cidr": "10.1.0.400/28"}}], "port": 443}}}}, 'network.egress.search.to has "10.1.0.400/28", which is no network: write addresses like 10.1.0.0/28, of one machine 10.1.0.4/32.'),
    ({"data": {"endpoint": "https://store.example.org"}}, 'data.endpoint is "https://store.example.org": give host and port without a scheme; data.useSsl says whether it is https.'),
    ({"proxy": {"launchGroup": ""}}, "proxy.launchGroup is empty: everybody who is signed in could launch runs; name the group that may."),
    ({"proxy": {"hosts": {"launch": "a.example.org", "view": "a.example.org"}}}, 'proxy.hosts.launch and proxy.hosts.view are both "a.example.org": each page has a sign-in of its own, so give it a host of its own.'),
    ({"review": {"identityHeader": "X-User"}}, 'review.identityHeader is "X-User": the proxy replaces X-Forwarded-Email, X-Forwarded-User and X-Forwarded-Preferred-Username only; any other says what a reader writes into it.'),
    ({"settings": {"ui_url": "https://x"}}, "settings.ui_url and proxy.hosts.launch both say it: leave one of them out."),
    ({"viewer": {"replicas": 5}}, "viewer.replicas is 5 and viewer.maxReplicas 4: there cannot be more at rest than at most."),
    ({"runs": {"resources": {"requests": {"memory": "8Gi"}}}}, "runs.resources asks for 8Gi of memory and is limited to 6Gi: no such pod is taken."),
    ({"models": {"objects": {name: [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"}, "spec": {"type": name}}] for name in ("a", "b")}}}, "models.objects.a and models.objects.b have each another Service m of namespace llm-platform: rename an entry, or render both anew with the same settings."),
    ({"capacity": {"developmentNamespaces": ["nim-production"]}}, 'capacity.developmentNamespaces has "nim-production", which is production\'s or the release\'s own: name namespaces for models of branches.'),
    ({"externalSecrets": {"enabled": True, "secrets": {"a": {"b": "c"}}}}, "externalSecrets.store.name is empty: name the SecretStore or ClusterSecretStore that the secrets come from."),
]  # fmt: skip


@pytest.mark.parametrize("mistakes", [MORE_OF_THE_SCHEMA, MORE_OF_THE_CHECKS], ids=["schema", "checks"])
def test_every_mistake_is_said_at_once(mistakes: list[tuple[dict[str, Any], str]]) -> None:
    """Whoever installs for the first time has more than one; the schema is read before the rest."""
    values: dict[str, Any] = {}
    for over, _ in mistakes:
        values = merged(values, over)

    found = refusal("production", values)

    for _, said in mistakes:
        assert f"- {said}" in found
    assert found.count("\n- ") == len(mistakes)
    assert "hush" not in found


def test_the_values_of_the_install_page_and_the_profile_are_all_that_it_takes() -> None:
    """Values on that page were no YAML, and two Secrets that they name were nowhere made."""
    page = (CHECKOUT / "docs" / "operations" / "install.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    fillings = {"sha256:…": DIGEST, "models: …": "models: {}", "cidr: …": "cidr: 10.1.0.0/28", "iam::…": "iam::1"}
    for left_out, filling in {**fillings, "…": ".example.org"}.items():
        text = text.replace(left_out, filling)
    profile = yaml.safe_load((CHART / "profiles" / "production.yaml").read_text(encoding="utf-8"))

    objects = json.dumps(rendered(merged(profile, yaml.safe_load(text))), sort_keys=True)

    secrets = set(re.findall(r'"secretName": "([^"]+)"', objects))
    secrets |= set(re.findall(r'"secretKeyRef": {"key": "[^"]+", "name": "([^"]+)"', objects))
    assert secrets == set(re.findall(r"kubectl create secret (?:generic|tls) (\S+)", page))


def test_the_schema_knows_every_value_and_fetches_nothing() -> None:
    """Dagster's own chart cannot be linted without the network: its schema refers to a page."""
    text = (CHART / "values.schema.json").read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert "$ref" not in text
    schema = json.loads(text)
    assert set(schema["properties"]) - {"global"} == set(values)
    assert schema["additionalProperties"] is False


def names_of(pattern: str) -> set[str]:
    """The words of a pattern that is a list of them."""
    return set(pattern.removeprefix("^(").removesuffix(")$").split("|"))


def test_each_setting_is_set_in_one_way_and_no_secret_in_clear() -> None:
    """A ConfigMap with a key twice is none, and a setting that nobody reads is believed to be in force."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    (plain,), (secret,) = (schema[name]["patternProperties"] for name in ("settings", "secretSettings"))
    templates = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())
    ours = {name.lower() for name in re.findall(r"LLM_PLATFORM_([A-Z0-9_]+)\b", templates)}
    secrets = {one.name for one in all_settings() if one.kind == "secret"}

    # A person's token has no place in a deployment.
    assert names_of(secret) == secrets - ours - {"identity_token"}
    assert (
        names_of(plain) - {"models_lock", "ui_url", "review_url"}
        == {one.name for one in all_settings()} - ours - secrets
    )


def test_every_variable_of_the_pods_is_a_setting_of_ours() -> None:
    """A variable that nothing reads is a value that somebody believes to be in force."""
    known = {one.variable for one in all_settings()}

    for profile in PROFILES:
        data = named(render(profile, EVERYTHING), "ConfigMap", "llm-platform-environment")["data"]
        assert set(data) <= known, profile
        assert all(isinstance(value, str) for value in data.values())


def test_the_shares_of_the_gpus_are_those_of_nim_pool() -> None:
    """Two ways of saying it that differ would be two quotas."""
    pool = GpuPool(8, 3, development_namespaces=("nim-a", "nim-b"))
    over = {"capacity": {"gpus": 8, "productionGpus": 3, "developmentNamespaces": ["nim-a", "nim-b"]}}

    rendered = [
        one
        for one in render("production", over)
        if one["metadata"]["labels"].get("app.kubernetes.io/component") == "capacity"
    ]

    assert rendered == pool_objects(pool)


def test_a_branch_cannot_launch_into_production_nor_follow_its_sources() -> None:
    """Its profile is what `branch up --cluster` installs, many times a day and unattended."""
    data = named(render("branch"), "ConfigMap", "llm-platform-environment")["data"]

    assert data["LLM_PLATFORM_SENSORS"] == "false"
    assert data["LLM_PLATFORM_UPSTREAM"] == "production"
    assert data["LLM_PLATFORM_NAMESPACE"] == "branch_42"
    assert int(data["LLM_PLATFORM_RUN_PRIORITY"]) < 0
    assert int(data["LLM_PLATFORM_BUDGET_MONTH_TOKENS"]) > 0
    assert data["LLM_PLATFORM_NIM_BACKGROUND"] == "true"


def test_services_find_their_pods() -> None:
    """A selector that matches nothing is an address that nobody answers."""
    for profile in PROFILES:
        objects = render(profile, EVERYTHING)
        labels = [pod["metadata"]["labels"] for _, pod in pods(objects)]
        for one in objects:
            if one["kind"] == "Service":
                assert sum(selects({"matchLabels": one["spec"]["selector"]}, found) for found in labels) == 1, one


def test_the_lock_file_and_values_of_models_reach_the_pods() -> None:
    """An installed package is not a checkout: without it the pods would know no model."""
    objects = render("production")

    assert values_of("production")["models"]["lock"] in (
        named(objects, "ConfigMap", "llm-platform-models")["data"]["models.lock.yaml"] + "\n"
    )
    data = named(objects, "ConfigMap", "llm-platform-environment")["data"]
    mounts = dict(pods(objects))["llm-platform-code-location"]["spec"]["containers"][0]["volumeMounts"]
    assert any(data["LLM_PLATFORM_MODELS_LOCK"].startswith(f"{mount['mountPath']}/") for mount in mounts)


def test_keys_reach_the_pods_where_settings_say_they_are() -> None:
    """A path without a mount is a key that is not there, and every adapter would be refused."""
    objects = render("production", EVERYTHING)
    data = named(objects, "ConfigMap", "llm-platform-environment")["data"]
    spec = dict(pods(objects))["llm-platform-code-location"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in spec["containers"][0]["volumeMounts"]}

    folder, _, file = data["LLM_PLATFORM_SIGNING_KEY"].rpartition("/")
    assert mounted[folder]["secret"]["secretName"] == "signing"
    assert mounted[folder]["secret"]["items"] == [{"key": "signing.pem", "path": file}]
    assert mounted[data["LLM_PLATFORM_ADAPTER_KEYS"]]["configMap"] == {"name": "adapter-keys"}
    assert data["LLM_PLATFORM_NIM_VERIFIER_IMAGE"] == spec["containers"][0]["image"]
    assert data["LLM_PLATFORM_ENCRYPTED"] == data["LLM_PLATFORM_ENCRYPTED_DISK"] == "true"


def test_models_of_the_lock_file_are_installed_as_nim_render_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objects that were reviewed are the objects that are installed; two models in one file are both there."""
    from typer.testing import CliRunner

    from llm_platform.cli.main import app

    entry = {
        "mode": "external", "dialect": "vllm", "served_name": "m", "model": "org/m", "licence": "none",
        "context_length": 4096, "base_urls": ["http://m.nim-production:8000"],
        "image": {"repository": "registry.example.org/vllm", "tag": "v1", "digest": "sha256:" + "3" * 64},
    }  # fmt: skip
    lock = {
        "models": {name: {**entry, "mode": "kubernetes", "base_urls": None, "service": name} for name in ("one", "two")}
    }
    for one in lock["models"].values():
        del one["base_urls"]
    (tmp_path / "lock.yaml").write_text(yaml.safe_dump(lock))
    monkeypatch.setenv("LLM_PLATFORM_STATE", str(tmp_path))
    monkeypatch.setenv("LLM_PLATFORM_MODELS_LOCK", str(tmp_path / "lock.yaml"))
    monkeypatch.setenv("LLM_PLATFORM_NIM_CLUSTER_NAMESPACE", "nim-production")
    written = tmp_path / "models.yaml"
    cli = CliRunner()

    for name in ("one", "two"):
        done = cli.invoke(app, ["nim", "render", name, "--values", str(written)])
        assert done.exit_code == 0, done.output + str(done.exception)

    values = yaml.safe_load(written.read_text())
    rendered = [one for one in render("production", values) if one["metadata"].get("namespace") == "nim-production"]
    expected = [one for objects in values["models"]["objects"].values() for one in objects]
    assert len(expected) > 4
    # They share a volume, which both bring: Helm would make it twice, and fail.
    assert all(rendered.count(one) == 1 for one in expected)
    written.write_text("- no\n")
    assert "no values of models" in str(cli.invoke(app, ["nim", "render", "one", "--values", str(written)]).exception)
