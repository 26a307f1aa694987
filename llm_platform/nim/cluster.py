"""The Kubernetes API as the life cycle of NIM pods needs it: objects of any kind as plain dictionaries.

Requests are made by hand over the official client's connection: it knows kubeconfig files, logins and certificates, but
its typed classes know no NIMService, and its dynamic ones write a cache into the temporary folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from llm_platform.errors import ClusterRefused, EndpointUnavailable
from llm_platform.nim.plain_words import plain

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.stream.ws_client import PortForward

Object = dict[str, Any]

MANAGER = "llm-platform"
"""Who we are in `managedFields`."""

ANSWER_SECONDS = 30.0
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
_MAX_WORDS = 1000
_JSON_PATCH = "application/json-patch+json"


@dataclass(frozen=True)
class Ref:
    """Which object is meant."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


class AlreadyThere(ClusterRefused):
    """An object of this name was made in the meantime."""


class Changed(ClusterRefused):
    """The object is not what it was when it was read."""


class Cluster:
    """One cluster, seen from one namespace.

    Attributes:
        host: Address of its API.
        namespace: Of objects that name none.
        is_inside: Whether this process runs in a pod of it, and so reaches services by name.
    """

    def __init__(self, api: ApiClient, namespace: str, *, is_inside: bool = False) -> None:
        self._api = api
        self.host: str = api.configuration.host
        self.namespace = namespace
        self.is_inside = is_inside
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    def ref(self, manifest: Mapping[str, Any]) -> Ref:
        """Which object a manifest describes."""
        metadata = manifest["metadata"]
        return Ref(
            manifest["apiVersion"], manifest["kind"], metadata.get("namespace") or self.namespace, metadata["name"]
        )

    def get(self, ref: Ref) -> Object | None:
        """The object as it is now, or None."""
        status, body = self.send("GET", self._path(ref))
        return None if status == 404 else self._answer(f"read {ref}", status, body)

    def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Make an object that must not exist.

        Raises:
            AlreadyThere: it does.
            ClusterRefused: the API does not take it.
        """
        ref = self.ref(manifest)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        status, body = self.send("POST", self._collection(ref), query, body=manifest)
        if status == 409:
            raise AlreadyThere(f"Could not create {ref}: {_message(body)}.")
        return self._answer(f"create {ref}", status, body)

    def apply(self, manifest: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Object:
        """Apply an object that exists, on the server's side, under our name.

        Args:
            manifest: With the `uid` and `resourceVersion` that it was read with: another object of this name, or a
                change in the meantime, is refused.
            force: Take over fields that other managers have set.
            dry_run: Let the API check it, and change nothing.

        Raises:
            Changed: it is not the object that was read.
            ClusterRefused: others hold some of its fields, or the API does not take it.
        """
        ref = self.ref(manifest)
        query = {"fieldManager": MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        status, body = self.send("PATCH", self._path(ref), query, body=manifest, content_type=_APPLY)
        if status == 409 and not _field_conflicts(body):
            raise Changed(f"Could not apply {ref}: {_message(body)}.")
        return self._answer(f"apply {ref}", status, body)

    def patch(self, ref: Ref, operations: list[dict[str, Any]]) -> Object:
        """Change an object by a JSON patch."""
        status, body = self.send("PATCH", self._path(ref), body=operations, content_type=_JSON_PATCH)
        if status == 409:
            raise Changed(f"Could not change {ref}: {_message(body)}.")
        return self._answer(f"change {ref}", status, body)

    def delete(self, ref: Ref, *, uid: str, resource_version: str, dry_run: bool = False) -> None:
        """Delete exactly the object that was read, and let Kubernetes remove what belongs to it.

        Raises:
            Changed: it is another one by now, or it was changed.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
            **({"dryRun": ["All"]} if dry_run else {}),
        }
        status, body = self.send("DELETE", self._path(ref), body=options)
        if status == 409:
            raise Changed(f"Could not delete {ref}: {_message(body)}.")
        if status != 404:
            self._answer(f"delete {ref}", status, body)

    def find(self, api_version: str, kind: str, namespace: str, **query: str) -> list[Object]:
        """Objects of a kind; `labelSelector` and `fieldSelector` as in the API."""
        any_of = Ref(api_version, kind, namespace, "")
        status, body = self.send("GET", self._collection(any_of), query)
        return list(self._answer(f"list {kind}s of {namespace!r}", status, body).get("items") or [])

    def log(self, ref: Ref, container: str, *, lines: int, previous: bool) -> str:
        """Last lines that a container of a pod has written; empty where they cannot be read."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        status, body = self.send("GET", f"{self._path(ref)}/log", query)
        return body.decode("utf-8", errors="replace") if status == 200 else ""

    def forward(self, ref: Ref, port: int) -> PortForward:
        """A connection to a port of a pod, which may be one of many.

        Raises:
            ClusterRefused: the role may not.
            EndpointUnavailable: the pod, or the API, cannot be reached.
        """
        from kubernetes import client, stream
        from kubernetes.client.exceptions import ApiException

        call = client.CoreV1Api(self._api).connect_get_namespaced_pod_portforward
        try:
            return stream.portforward(call, ref.name, ref.namespace, ports=str(port))
        except ApiException as error:
            said = f"Could not reach port {port} of {ref} through {self.host}: {error.reason}"
            if "403" in str(error.reason) or "401" in str(error.reason):
                raise ClusterRefused(f"{said}. The role needs `get` and `create` on pods/portforward.") from error
            raise EndpointUnavailable(said) from error

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: object = None,
        content_type: str = _JSON,
    ) -> tuple[int, bytes]:
        """Status and body of one request.

        Raises:
            EndpointUnavailable: nothing answers.
        """
        from urllib3.exceptions import HTTPError

        headers = {**self._api.default_headers, "Accept": "*/*", "Content-Type": content_type}
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{self.host}{path}{'?' + urlencode(query) if query else ''}"
        data = None if body is None else json.dumps(body).encode()
        pool = self._api.rest_client.pool_manager
        try:
            response = pool.request(method, url, body=data, headers=headers, timeout=ANSWER_SECONDS, retries=False)
        except HTTPError as error:
            raise EndpointUnavailable(
                f"{method} {path}: the Kubernetes API at {self.host} does not answer ({type(error).__name__}). "
                "Is it reachable from here, and is the login still valid?"
            ) from error
        return response.status, response.data

    def _answer(self, what: str, status: int, body: bytes) -> Object:
        if 200 <= status < 300:
            found = json.loads(body)
            return found if isinstance(found, dict) else {}
        said = f"Could not {what} in {self.host}: HTTP {status}, {_message(body)}."
        if status == 429 or status >= 500:
            raise EndpointUnavailable(said)
        raise ClusterRefused(f"{said}{_advice(status, body)}")

    def _path(self, ref: Ref) -> str:
        return f"{self._collection(ref)}/{quote(ref.name)}"

    def _collection(self, ref: Ref) -> str:
        plural, namespaced = self._resource(ref.api_version, ref.kind)
        place = f"/namespaces/{quote(ref.namespace)}" if namespaced else ""
        return f"{_root(ref.api_version)}{place}/{plural}"

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Plural name of a kind, and whether it lives in namespaces; asked once."""
        key = (api_version, kind)
        if key not in self._resources:
            status, body = self.send("GET", _root(api_version))
            listed = [] if status == 404 else self._answer(f"list kinds of {api_version}", status, body)["resources"]
            for one in listed:
                if "/" not in one["name"]:
                    self._resources[api_version, one["kind"]] = (one["name"], bool(one["namespaced"]))
        if key not in self._resources:
            raise ClusterRefused(
                f"The cluster at {self.host} has no kind {kind!r} of {api_version}. "
                "Install what brings it (a NIMService: NVIDIA's NIM operator), or have plain Deployments written."
            )
        return self._resources[key]


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _status(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _message(body: bytes) -> str:
    said = _status(body)
    return plain(said.get("message") or said.get("reason") or "no reason given", _MAX_WORDS).rstrip(".")


def _field_conflicts(body: bytes) -> bool:
    causes = (_status(body).get("details") or {}).get("causes") or []
    return any(cause.get("reason") == "FieldManagerConflict" for cause in causes)


def _advice(status: int, body: bytes) -> str:
    if _field_conflicts(body):
        return " Those fields were set by somebody else and are left to them; to take them over, add --force."
    if status in (401, 403):
        return " Log in, or have the role extended: the deployment's documentation lists the verbs that are needed."
    return ""
