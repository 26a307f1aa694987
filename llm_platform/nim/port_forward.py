"""Single requests to the pods of a model from outside their cluster, as `kubectl port-forward` reaches them.

The connection enters a pod from its own node, so a network policy that lets in named namespaces only does not stand in
its way, as it would in that of the API's proxy. Each pod is asked by itself.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from llm_platform.errors import EndpointUnavailable
from llm_platform.nim.cluster import Cluster, Object, Ref

# A one-token answer of a loaded 70B model that queues behind others takes tens of seconds.
ANSWER_SECONDS = 60.0


class Forwarded:
    """A client for GET and POST to pods.

    Attributes:
        urls: Root of each pod's endpoint; they mean something to this client only.
    """

    def __init__(self, cluster: Cluster, pods: Sequence[Object], port: int) -> None:
        self._cluster, self._port = cluster, port
        self._pods = {
            f"http://{pod['metadata']['name']}:{port}": Ref(
                "v1", "Pod", pod["metadata"]["namespace"], pod["metadata"]["name"]
            )
            for pod in pods
        }
        self.urls = tuple(self._pods)

    def get(self, url: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            EndpointUnavailable: the pod does not answer.
        """
        return self._send("GET", url, None)

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of a JSON request.

        Raises:
            EndpointUnavailable: the pod does not answer.
        """
        return self._send("POST", url, json.dumps(payload, ensure_ascii=False).encode())

    def _send(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        address = urlsplit(url)
        pod = self._pods[f"{address.scheme}://{address.netloc}"]
        forward = self._cluster.forward(pod, self._port)
        connection = http.client.HTTPConnection(pod.name, self._port, timeout=ANSWER_SECONDS)
        connection.sock = forward.socket(self._port)
        connection.sock.settimeout(ANSWER_SECONDS)
        try:
            # Closed after each answer: a connection that idles is ended by whatever lies between.
            connection.request(method, address.path, body, {"Content-Type": "application/json", "Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = forward.error(self._port) or type(error).__name__
            raise EndpointUnavailable(f"{method} {url}: the pod does not answer ({reason})") from error
        finally:
            connection.close()
            forward.close()
