"""A Kubernetes API on a local port, as far as our life cycle uses it: it keeps objects and obeys preconditions.

It has no controllers: what pods do is written into their status by whoever tests. Server-side apply knows who holds
which field, lists as a whole. What is claimed of it here is claimed of a real API server too, by running the same tests
on one where its binaries are given (`llm_platform_tests/nim/real_api.py`).
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from llm_platform_tests.servers.local import LocalServer, QuietHandler
from llm_platform_tests.servers.port_forward import forward

Object = dict[str, Any]
Path = tuple[str, ...]
Key = tuple[str, str, str, str]

KINDS = {
    "v1": {
        "pods": "Pod",
        "services": "Service",
        "events": "Event",
        "configmaps": "ConfigMap",
        "persistentvolumeclaims": "PersistentVolumeClaim",
    },
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "apps.nvidia.com/v1alpha1": {"nimservices": "NIMService", "nimcaches": "NIMCache"},
    "monitoring.coreos.com/v1": {"servicemonitors": "ServiceMonitor"},
    "keda.sh/v1alpha1": {"scaledobjects": "ScaledObject"},
}
_PATH = re.compile(r"^/(?:api|apis)/(?P<version>.+?)/namespaces/(?P<ns>[^/]+)/(?P<plural>[^/]+)(?P<rest>/.*)?$")
# Identity and bookkeeping: nobody holds these as fields.
_UNHELD = {
    ("apiVersion",),
    ("kind",),
    *(("metadata", name) for name in ("name", "namespace", "uid", "resourceVersion")),
}


class Refused(Exception):
    """A request that is answered with a `Status`."""

    def __init__(self, code: int, reason: str, message: str, causes: list[Object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
        if causes:
            self.body["details"] = {"causes": causes}


class KubernetesApi:
    """Use it as a context manager.

    Attributes:
        objects: (version, plural, namespace, name) → object.
        requests: Method and path of everything that was asked.
        logs: (pod, previous) → text.
        endpoints: Name of a pod → port of this machine that its port is.
        refusals: Beginning of "METHOD path" → HTTP status that is answered instead, with a message.
        missing: Kinds that this cluster does not have.
        controller: Told of every new object; may write objects and statuses of its own.
    """

    def __init__(
        self,
        *,
        missing: frozenset[str] = frozenset(),
        controller: Callable[[KubernetesApi, Object], None] | None = None,
    ) -> None:
        self.objects: dict[Key, Object] = {}
        self.requests: list[str] = []
        self.logs: dict[tuple[str, bool], str] = {}
        self.endpoints: dict[str, int] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.missing, self.controller = missing, controller
        self._versions, self._uids = itertools.count(1), itertools.count(1)
        self._lock = threading.Lock()
        api = self

        class Handler(QuietHandler):
            def handle_any(self) -> None:
                if self.headers.get("Upgrade", "").lower() == "websocket":
                    forward(self, api.forwarded(self.path))
                    return
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                status, answer = api.answer(self.command, self.path, body, self.headers.get("Content-Type") or "")
                self.reply(status, answer, kind="application/json")

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815

        self._server = LocalServer(Handler)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def put(self, version: str, plural: str, found: Object) -> None:
        """Keep an object, as a controller would have made it."""
        metadata = found["metadata"]
        stored = {**found, "metadata": {**metadata, "uid": f"uid-{next(self._uids)}"}}
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[version, plural, metadata["namespace"], metadata["name"]] = stored

    def forwarded(self, target: str) -> int | None:
        """Port of this machine that stands for the port of a pod which somebody wants to reach."""
        path = urlsplit(target).path
        self.requests.append(f"GET {path}")
        return self.endpoints.get(path.split("/")[-2])

    def answer(self, method: str, target: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        address = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(address.query).items()}
        path = unquote(address.path)
        self.requests.append(f"{method} {path}")
        for start, (status, message) in self.refusals.items():
            if f"{method} {path}".startswith(start):
                return status, json.dumps(Refused(status, "Refused", message).body).encode()
        try:
            with self._lock:
                status, answer = self._answer(method, path, query, body, content_type)
        except Refused as refused:
            status, answer = refused.code, refused.body
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _answer(
        self, method: str, path: str, query: dict[str, str], body: bytes, content_type: str
    ) -> tuple[int, Object | bytes]:
        found = _PATH.match(path)
        if found is None:
            return 200, self._kinds(path)
        version, namespace, plural = found["version"], found["ns"], found["plural"]
        kind = KINDS.get(version, {}).get(plural)
        if kind is None or kind in self.missing:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        name, _, part = (found["rest"] or "").strip("/").partition("/")
        data = json.loads(body) if body else {}
        if not name and method == "POST":
            return 201, self._create((version, plural, namespace), data, query)
        if not name:
            return 200, {"kind": f"{kind}List", "items": list(self._selected(version, plural, namespace, query))}
        key = (version, plural, namespace, name)
        if key not in self.objects:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        if part == "log":
            return 200, self.logs.get((name, query.get("previous") == "true"), "").encode()
        return 200, self._one(f"{method} {part}".strip(), key, data, query, content_type=content_type)

    def _one(self, what: str, key: Key, data: Any, query: dict[str, str], *, content_type: str) -> Object:
        """What becomes of an object that is there."""
        if what == "GET":
            return self.objects[key]
        if what == "DELETE":
            return self._delete(key, data, query)
        if what == "PATCH status":
            return self._store(key, {**self.objects[key], "status": data["status"]}, query)
        if "apply" in content_type:
            return self._apply(key, data, query)
        if "json-patch" in content_type:
            return self._json_patch(key, data, query)
        changed = _merged(self.objects[key], data)
        entries = changed["metadata"].get("managedFields", [])
        changed["metadata"]["managedFields"] = [*entries, _held(query.get("fieldManager", "somebody"), "Update", data)]
        return self._store(key, changed, query)

    def _kinds(self, path: str) -> Object:
        version = path.removeprefix("/apis/").removeprefix("/api/")
        kinds = {plural: kind for plural, kind in KINDS.get(version, {}).items() if kind not in self.missing}
        if not kinds:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        listed = [{"name": plural, "kind": kind, "namespaced": True} for plural, kind in kinds.items()]
        return {"kind": "APIResourceList", "resources": listed}

    def _selected(self, version: str, plural: str, namespace: str, query: dict[str, str]) -> Iterator[Object]:
        for (its_version, its_plural, its_namespace, _), found in sorted(self.objects.items()):
            if (its_version, its_plural, its_namespace) != (version, plural, namespace):
                continue
            fields = dict(part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if part)
            if any(_value(found, tuple(path.split("."))) != value for path, value in fields.items()):
                continue
            if _matches(found["metadata"].get("labels") or {}, query.get("labelSelector", "")):
                yield found

    def _create(self, place: tuple[str, str, str], data: Object, query: dict[str, str]) -> Object:
        key = (*place, data["metadata"]["name"])
        if key in self.objects:
            raise Refused(409, "AlreadyExists", f'{place[1]} "{key[3]}" already exists')
        metadata = {**data["metadata"], "namespace": place[2], "uid": f"uid-{next(self._uids)}", "generation": 0}
        metadata["managedFields"] = [_held(query.get("fieldManager", "somebody"), "Update", data)]
        made = self._store(key, {**data, "metadata": metadata}, query)
        if self.controller is not None and key in self.objects:
            self.controller(self, made)
        return made

    def _store(self, key: Key, found: Object, query: dict[str, str]) -> Object:
        before = self.objects.get(key)
        stored = copy.deepcopy(found)
        if before is not None and _without_version(before) == _without_version(stored):
            return before
        if before is None or before.get("spec") != stored.get("spec"):
            stored["metadata"]["generation"] = int(stored["metadata"].get("generation") or 0) + 1
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        if query.get("dryRun") != "All":
            self.objects[key] = stored
            if "deletionTimestamp" in stored["metadata"] and not stored["metadata"].get("finalizers"):
                del self.objects[key]
        return stored

    def _delete(self, key: Key, options: Object, query: dict[str, str]) -> Object:
        found = self.objects[key]
        _check(found, options.get("preconditions") or {})
        if options.get("dryRun") or query.get("dryRun"):
            return found
        if found["metadata"].get("finalizers"):
            going = {**found["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            return self._store(key, {**found, "metadata": going}, query)
        return self.objects.pop(key)

    def _apply(self, key: Key, data: Object, query: dict[str, str]) -> Object:
        found, manager = self.objects[key], query["fieldManager"]
        _check(found, {name: data["metadata"].get(name) for name in ("uid", "resourceVersion")})
        entries = found["metadata"].get("managedFields") or []
        own = next((one for one in entries if (one["manager"], one["operation"]) == (manager, "Apply")), None)
        others = [one for one in entries if one is not own]
        wanted = _leaves(data)
        lost = [
            (one, path)
            for one in others
            for path, value in wanted.items()
            if list(path) in one["held"] and _value(found, path) != value
        ]
        if lost and query.get("force") != "true":
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{one["manager"]}" using {one["operation"]}',
                    "field": "." + ".".join(path),
                }
                for one, path in lost
            ]
            said = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
            raise Refused(409, "Conflict", f"Apply failed with {len(causes)} conflict: {said}", causes)
        for one, path in lost:
            one["held"].remove(list(path))
        changed = copy.deepcopy(found)
        for path in own["held"] if own else []:
            if tuple(path) not in wanted and not any(path in one["held"] for one in others):
                _remove(changed, path)
        for path, value in wanted.items():
            _set(changed, path, value)
        changed["metadata"]["managedFields"] = [*others, _held(manager, "Apply", data)]
        return self._store(key, changed, query)

    def _json_patch(self, key: Key, operations: list[Object], query: dict[str, str]) -> Object:
        changed = copy.deepcopy(self.objects[key])
        for one in operations:
            path = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].strip("/").split("/")]
            if path == ["metadata", "resourceVersion"]:
                _check(changed, {"resourceVersion": one["value"]})
            elif one["op"] == "remove":
                _remove(changed, path)
            else:
                _set(changed, tuple(path), one["value"])
        return self._store(key, changed, query)


def _check(found: Object, preconditions: Object) -> None:
    for name, wanted in preconditions.items():
        if wanted and found["metadata"][name] != wanted:
            raise Refused(409, "Conflict", f"Precondition failed: {name} is {found['metadata'][name]}, not {wanted}")


def _matches(labels: dict[str, str], selector: str) -> bool:
    for part in filter(None, re.split(r",(?![^(]*\))", selector)):
        if (several := re.match(r"^\s*(\S+) in \((.*)\)$", part)) is not None:
            if labels.get(several[1]) not in [one.strip() for one in several[2].split(",")]:
                return False
        elif labels.get(part.split("=")[0]) != part.split("=")[-1]:
            return False
    return True


def _held(manager: str, operation: str, data: Object) -> Object:
    return {"manager": manager, "operation": operation, "held": [list(path) for path in _leaves(data)]}


def _leaves(data: Object, above: Path = ()) -> dict[Path, Any]:
    """Path of every value that is no dictionary."""
    found: dict[Path, Any] = {}
    for key, value in data.items():
        path = (*above, key)
        if path in _UNHELD or path == ("metadata", "managedFields"):
            continue
        found |= _leaves(value, path) if isinstance(value, dict) and value else {path: value}
    return found


def _value(found: Any, path: Path) -> Any:
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _set(found: Object, path: Path, value: Any) -> None:
    for part in path[:-1]:
        found = found.setdefault(part, {})
    found[path[-1]] = value


def _remove(found: Object, path: list[str]) -> None:
    for part in path[:-1]:
        found = found.get(part) or {}
    found.pop(path[-1], None)


def _merged(found: Object, change: Object) -> Object:
    merged = copy.deepcopy(found)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged


def _without_version(found: Object) -> Object:
    return {**found, "metadata": {**found["metadata"], "resourceVersion": ""}}
