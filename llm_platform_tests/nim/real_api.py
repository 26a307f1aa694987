"""A real kube-apiserver on its etcd, on loopback, from binaries that the environment names.

    LLM_PLATFORM_TEST_KUBE_APISERVER=PATH LLM_PLATFORM_TEST_ETCD=PATH pytest llm_platform_tests/nim

`LLM_PLATFORM_TEST_CRDS` names a folder with the custom resource definitions of the NIM operator. There are no
controllers and no nodes: what they do is written by the tests, as on the emulated API.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from llm_platform.nim.cluster import Cluster
from llm_platform.nim.engine_process import free_port

_SERVER = os.environ.get("LLM_PLATFORM_TEST_KUBE_APISERVER", "")
_ETCD = os.environ.get("LLM_PLATFORM_TEST_ETCD", "")
_CRDS = os.environ.get("LLM_PLATFORM_TEST_CRDS", "")

WHY_NOT = None if _SERVER and _ETCD else "there is no kube-apiserver with its etcd: make tools, then make test-all"
"""Why nothing is tested on a real API server; None when it is."""

HAS_CRDS = bool(_CRDS)
"""Whether a real API server knows the NIM operator's kinds."""

_PATIENCE_SECONDS = 90.0
_TOKEN = "token-of-tests"


class RealApi:
    """A running API server."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.url, self._certificate = url, certificate

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[RealApi]:
        """Start etcd and the server, and end both."""
        folder = Path(tempfile.mkdtemp(prefix="llm_platform_kube_"))
        processes: list[subprocess.Popen[bytes]] = []
        try:
            etcd, peer, port = free_port(), free_port(), free_port()
            _write_certificate(folder)
            processes.append(_start(_etcd_command(folder, etcd, peer), folder / "etcd.log"))
            processes.append(_start(_server_command(folder, etcd, port), folder / "kube-apiserver.log"))
            running = cls(f"https://127.0.0.1:{port}", folder / "server.crt")
            running._wait(processes, folder)
            running._apply_crds()
            yield running
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=30)
            shutil.rmtree(folder, ignore_errors=True)

    def connect(self, namespace: str) -> Cluster:
        """As an administrator."""
        from kubernetes import client

        configuration = client.Configuration(host=self.url)
        configuration.ssl_ca_cert = str(self._certificate)
        configuration.api_key = {"authorization": f"Bearer {_TOKEN}"}
        return Cluster(client.ApiClient(configuration), namespace)

    def empty(self, namespace: str) -> None:
        """Make the namespace, or delete what earlier tests have left in it."""
        with self.connect(namespace) as cluster:
            self._ask(cluster, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}, allowed=(201, 409))
            account = {"metadata": {"name": "default"}}
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
            self._ask(cluster, "POST", path, account, allowed=(201, 409))
            for kind in ("pods", "events", "persistentvolumeclaims", "services"):
                for found in self._ask(cluster, "GET", f"/api/v1/namespaces/{namespace}/{kind}")["items"]:
                    self._remove(cluster, f"/api/v1/namespaces/{namespace}/{kind}/{found['metadata']['name']}")
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
            for found in self._ask(cluster, "GET", path)["items"]:
                self._remove(cluster, f"{path}/{found['metadata']['name']}")

    def _remove(self, cluster: Cluster, path: str) -> None:
        # Without controllers nobody takes finalizers away, and no kubelet ends pods.
        finalizers = {"metadata": {"finalizers": None}}
        cluster.send("PATCH", path, body=finalizers, content_type="application/merge-patch+json")
        cluster.send("DELETE", path, body={"gracePeriodSeconds": 0})

    def _wait(self, processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
        from llm_platform.errors import EndpointUnavailable

        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self.connect("default") as cluster:
            while time.monotonic() < deadline:
                dead = [process.args for process in processes if process.poll() is not None]
                assert not dead, f"{dead}: {(folder / 'kube-apiserver.log').read_text()[-2000:]}"
                try:
                    if cluster.send("GET", "/readyz")[0] == 200:
                        return
                except EndpointUnavailable:
                    pass
                time.sleep(0.2)
        raise AssertionError(f"not ready after {_PATIENCE_SECONDS:g} s: {folder / 'kube-apiserver.log'}")

    def _apply_crds(self) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        with self.connect("default") as cluster:
            for file in sorted(Path(_CRDS).glob("*.yaml")) if _CRDS else ():
                crd = yaml.safe_load(file.read_text(encoding="utf-8"))
                crd = crd if self.knows_rules else _for_old_servers(crd)
                self._ask(cluster, "POST", path, crd, allowed=(201, 409))
                self._wait_served(cluster, crd["spec"])

    def _wait_served(self, cluster: Cluster, spec: Any) -> None:
        """A definition is served a moment after it was taken."""
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while cluster.send("GET", path)[0] != 200:
            assert time.monotonic() < deadline, f"{path} is not served"
            time.sleep(0.1)

    @property
    def knows_rules(self) -> bool:
        """Whether the server can check CEL rules of custom resources; those before 1.25 refuse the definitions."""
        with self.connect("default") as cluster:
            return int(self._ask(cluster, "GET", "/version")["gitVersion"].split(".")[1]) >= 25

    @staticmethod
    def _ask(
        cluster: Cluster, method: str, path: str, body: object = None, *, allowed: tuple[int, ...] = (200,)
    ) -> Any:
        status, answer = cluster.send(method, path, body=body)
        assert status in allowed, f"{method} {path}: HTTP {status}, {answer[:500]!r}"
        return json.loads(answer)


def _for_old_servers(found: Any) -> Any:
    """A definition without what servers before 1.25 refuse: CEL rules, and (in 1.20) defaults that are empty texts."""
    if isinstance(found, list):
        return [_for_old_servers(one) for one in found]
    if isinstance(found, dict):
        kept = {key: one for key, one in found.items() if key != "x-kubernetes-validations"}
        return {key: _for_old_servers(one) for key, one in kept.items() if (key, one) != ("default", "")}
    return found


def _etcd_command(folder: Path, port: int, peer: int) -> list[str]:
    url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    return [
        _ETCD,
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
    ]


def _server_command(folder: Path, etcd: int, port: int) -> list[str]:
    key, tokens = folder / "server.key", folder / "tokens.csv"
    tokens.write_text(f"{_TOKEN},admin,1,system:masters\n", encoding="utf-8")
    return [
        _SERVER,
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={key}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",  # no controller makes tokens
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


def _write_certificate(folder: Path) -> None:
    """A key, and a certificate for 127.0.0.1 that it signs itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
