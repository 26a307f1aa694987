"""Validation as a Kubernetes API server does it for custom resources: defaults, structure, rules in CEL.

Unknown fields are mistakes here, as they are to `kubectl apply --validate=strict`; a server alone drops them silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cel
import jsonschema
import yaml

Schema = dict[str, Any]
KEPT = frozenset(
    {"type", "enum", "required", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
)
FILES = {
    "NIMService": "apps.nvidia.com_nimservices.yaml",
    "NIMCache": "apps.nvidia.com_nimcaches.yaml",
    "ScaledObject": "keda.sh_scaledobjects.yaml",
    "HTTPRoute": "gateway.networking.k8s.io_httproutes.yaml",
    "InferenceModelRewrite": "llm-d.ai_inferencemodelrewrites.yaml",
    "ExternalSecret": "external-secrets.io_externalsecrets.yaml",
    "PodMonitor": "monitoring.coreos.com_podmonitors.yaml",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules.yaml",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors.yaml",
    "Application": "application-crd.yaml",
}
"""Names of the CRDs' files in the repositories of their projects."""


@cache
def crd_schema(folder: Path, kind: str) -> Schema | None:
    """The schema of a kind's stored version; None where the folder has no CRD of it."""
    path = folder / FILES[kind]
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    versions = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    return next(version["schema"]["openAPIV3Schema"] for version in versions if version["storage"])


@cache
def written_schemas() -> dict[str, Schema]:
    """Schemas of exactly the fields that this platform writes."""
    return yaml.safe_load((Path(__file__).parent / "written_fields.yaml").read_text(encoding="utf-8"))


def mistakes(schema: Schema, manifest: dict[str, Any]) -> list[str]:
    """What a server would refuse, one line each."""
    value = completed(schema, manifest)
    found = jsonschema.Draft202012Validator(closed(schema)).iter_errors(value)
    structure = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]
    return structure or list(broken_rules(schema, value))


def completed(schema: Schema, value: Any) -> Any:
    """The value with defaults filled in and nulls left out; a server does both before it looks."""
    if isinstance(value, list):
        return [completed(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    given = {
        key: completed(fields.get(key, others if isinstance(others, dict) else {}), item)
        for key, item in value.items()
        if item is not None
    }
    defaults = {key: field["default"] for key, field in fields.items() if "default" in field and key not in given}
    return {**given, **defaults}


def closed(schema: Schema) -> Schema:
    """The structural schema as a JSON schema that refuses unknown fields."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"], **({"pattern": schema["pattern"]} if "pattern" in schema else {})}
    found = {key: value for key, value in schema.items() if key in KEPT}
    if "items" in schema:
        found["items"] = closed(schema["items"])
    if "properties" in schema:
        found["properties"] = {key: closed(field) for key, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = closed(schema["additionalProperties"])
    return found


def broken_rules(schema: Schema, value: Any, path: str = "") -> Iterator[str]:
    """Rules that do not hold; those about a change need an earlier object, and there is none."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"] and compiled(rule["rule"]).execute({"self": escaped(value)}) is not True:
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            yield from broken_rules(fields.get(key, others if isinstance(others, dict) else {}), item, f"{path}.{key}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from broken_rules(schema.get("items", {}), item, f"{path}[{position}]")


@cache
def compiled(rule: str) -> cel.Program:
    """A rule, parsed once."""
    return cel.compile(rule)


def escaped(value: Any) -> Any:
    """A value as rules see it: `namespace` is a word of the language, so the field has another name in them."""
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, dict):
        return {("__namespace__" if key == "namespace" else key): escaped(item) for key, item in value.items()}
    return value


def disagreements(written: Schema, theirs: Schema, path: str = "") -> Iterator[str]:
    """Where the schema of the fields that we write allows what the CRD does not know or does not allow."""
    if theirs.get("x-kubernetes-int-or-string"):
        if written.get("type") not in ("integer", "string"):
            yield f"{path}: a number or text there, {written.get('type')} here"
        return
    if written.get("type") != theirs.get("type"):
        yield f"{path}: {theirs.get('type')} there, {written.get('type')} here"
    missing = set(theirs.get("required", [])) - set(written.get("required", []))
    if missing and "properties" in written:
        yield f"{path}: {sorted(missing)} required there, not here"
    if "enum" in theirs and not set(written.get("enum", [None])) <= set(theirs["enum"]):
        yield f"{path}: one of {theirs['enum']} there, {written.get('enum')} here"
    yield from _looser(written, theirs, path)
    for key, field in written.get("properties", {}).items():
        known = theirs.get("properties", {}).get(key)
        if known is not None:
            yield from disagreements(field, known, f"{path}.{key}")
        elif "properties" in theirs:
            yield f"{path}.{key}: not known there"
    for key in ("items", "additionalProperties"):
        if isinstance(written.get(key), dict):
            yield from disagreements(written[key], theirs.get(key, {}), f"{path}[]")


def _looser(written: Schema, theirs: Schema, path: str) -> Iterator[str]:
    if "enum" in written:
        return
    for key, stricter in (
        ("minimum", max),
        ("maximum", min),
        ("minLength", max),
        ("maxLength", min),
        ("maxItems", min),
    ):
        if key in theirs and stricter(written.get(key, theirs[key]), theirs[key]) != written.get(key):
            yield f"{path}: {key} {theirs[key]} there, {written.get(key)} here"
