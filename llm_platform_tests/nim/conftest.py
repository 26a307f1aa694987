"""Clusters for the life cycle of pods: an emulated API, and a real API server where its binaries are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from llm_platform.nim.cluster import Cluster
from llm_platform_tests.nim.hands import NAMESPACE, Hands
from llm_platform_tests.nim.real_api import WHY_NOT, RealApi
from llm_platform_tests.servers.kubernetes_api import KubernetesApi

Connect = Callable[[], Cluster]


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as running:
        yield running


@pytest.fixture(scope="session")
def real_api() -> Iterator[RealApi]:
    with RealApi.start() as running:
        yield running


@pytest.fixture(params=["emulated", *([] if WHY_NOT else ["kube-apiserver"])])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Connects to an API that holds nothing yet."""
    if request.param == "emulated":
        running = request.getfixturevalue("api")
        return lambda: connected(running.url)
    real: RealApi = request.getfixturevalue("real_api")
    real.empty(NAMESPACE)
    return lambda: real.connect(NAMESPACE)


@pytest.fixture
def cluster(connect: Connect) -> Iterator[Cluster]:
    with connect() as found:
        yield found


@pytest.fixture
def hands(connect: Connect) -> Iterator[Hands]:
    with connect() as found:
        yield Hands(found)


def connected(url: str) -> Cluster:
    from kubernetes import client

    return Cluster(client.ApiClient(client.Configuration(host=url)), NAMESPACE)
