"""The chart as objects: profiles, values, and which connections its policies leave open."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from llm_platform.settings.settings import CHECKOUT

CHART = CHECKOUT / "deploy" / "helm" / "llm-platform"
PROFILES = ("production", "branch", "single-node")
NAMESPACE = "llm-platform"
DIGEST = "sha256:" + "1" * 64
Object = dict[str, Any]

VALUES: Object = {
    "image": {"repository": "registry.example.org/llm-platform", "digest": DIGEST},
    "catalog": {
        "address": "postgres:host=db.example.org dbname=lake user=lake",
        "passwordSecret": {"name": "lake-password"},
    },
    "dagsterStorage": {
        "address": "postgresql://dagster@db.example.org:5432/dagster",
        "passwordSecret": {"name": "dagster-password"},
    },
    "data": {"root": "s3://company-lake/llm", "region": "eu-central-1"},
    "warehouses": {
        "crm": {
            "address": "postgres:host=crm.example.org dbname=crm user=reader",
            "passwordSecret": {"name": "crm-reader"},
        }
    },
    "models": {"namespace": "nim-production", "lock": "models: {}\n"},
    "proxy": {
        "issuer": "https://login.example.org",
        "secret": "proxy",
        "tlsSecret": "pages-tls",
        "hosts": {"launch": "launch.example.org", "view": "view.example.org", "review": "review.example.org"},
    },
    "network": {
        "kubernetesApi": {"cidrs": ["10.0.0.1/32"], "port": 6443},
        "identityProvider": {"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]},
        "egress": {
            "postgres": {"to": [{"ipBlock": {"cidr": "10.1.0.0/28"}}], "port": 5432},
            "objectStore": {"to": [{"ipBlock": {"cidr": "10.2.0.0/28"}}], "port": 443},
            "crm": {"to": [{"ipBlock": {"cidr": "10.3.0.4/32"}}], "port": 5432},
        },
    },
}
"""What a team has to say; the rest is the profile's."""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Object:
    """Values as Helm merges files: tables by key, anything else replaced."""
    found = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else copy.deepcopy(value)
    return found


def values_of(profile: str, over: Mapping[str, Any] | None = None) -> Object:
    """A profile, what every team says, and what differs."""
    text = (CHART / "profiles" / f"{profile}.yaml").read_text(encoding="utf-8")
    base = merged(yaml.safe_load(text), VALUES)
    if profile == "branch":
        base = merged(base, {"namespace": "branch_42", "upstream": "production"})
    return merged(base, over or {})


def render(profile: str, over: Mapping[str, Any] | None = None) -> list[Object]:
    """Objects of a profile, in the order of their templates."""
    return rendered(values_of(profile, over))


def rendered(values: Mapping[str, Any]) -> list[Object]:
    """Objects of values that nothing is added to, in the order of their templates."""
    return copy.deepcopy(_rendered(json.dumps(values, sort_keys=True)))


@cache
def _rendered(values: str) -> list[Object]:
    import helm_python

    files = helm_python.Chart.load(str(CHART)).render(json.loads(values), name="llm-platform", namespace=NAMESPACE)
    found: list[Object] = []
    for name, text in sorted(files.items()):
        if not name.endswith("NOTES.txt"):
            found += [one for one in yaml.safe_load_all(text) if one]
    return found


def refusal(profile: str, over: Mapping[str, Any]) -> str:
    """What Helm says of values that cannot be installed."""
    import helm_python

    try:
        helm_python.Chart.load(str(CHART)).render(values_of(profile, over), name="llm-platform", namespace=NAMESPACE)
    except helm_python.HelmError as error:
        return str(error)
    return ""


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of a kind and a name."""
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(name of what makes it, pod: metadata and spec) of everything that runs."""
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for one in selector.get("matchExpressions", []):
        there = one["key"] in labels
        holds = {
            "In": there and labels.get(one["key"]) in one.get("values", []),
            "NotIn": labels.get(one["key"]) not in one.get("values", []),
            "Exists": there,
            "DoesNotExist": not there,
        }[one["operator"]]
        if not holds:
            return False
    return True


def ways_out(objects: list[Object], labels: Mapping[str, str]) -> set[str] | None:
    """Every peer and port that a pod of this namespace may connect to; None where no policy bounds it."""
    policies = [
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy"
        and "Egress" in one["spec"]["policyTypes"]
        and selects(one["spec"]["podSelector"], labels)
    ]
    if not policies:
        return None
    found = set()
    for policy in policies:
        for rule in policy.get("egress", []):
            for peer in rule.get("to") or ["everywhere"]:
                for port in rule.get("ports") or [{}]:
                    where = peer if isinstance(peer, str) else json.dumps(peer, sort_keys=True)
                    found.add(f"{where} {port.get('protocol', 'TCP')}/{port.get('port', 'any')}")
    return found


def ways_in(objects: list[Object], labels: Mapping[str, str]) -> set[str] | None:
    """Every peer and port from which a pod of this namespace may be reached; None where no policy bounds it."""
    policies = [
        one["spec"]
        for one in objects
        if one["kind"] == "NetworkPolicy"
        and "Ingress" in one["spec"]["policyTypes"]
        and selects(one["spec"]["podSelector"], labels)
    ]
    if not policies:
        return None
    return {
        f"{json.dumps(peer, sort_keys=True)} {port.get('protocol', 'TCP')}/{port.get('port', 'any')}"
        for policy in policies
        for rule in policy.get("ingress", [])
        for peer in rule.get("from") or [{}]
        for port in rule.get("ports") or [{}]
    }
