"""Plain HTTP for tests: what goes over the wire and nothing else."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

DEADLINE_SECONDS = 60.0


def connection(base_url: str) -> http.client.HTTPConnection:
    """A connection that the caller closes."""
    address = urlsplit(base_url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=DEADLINE_SECONDS)


def call(
    base_url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one exchange; a body that is not bytes is sent as JSON."""
    payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with closing(connection(base_url)) as open_connection:
        open_connection.request(method, path, payload, {"Content-Type": "application/json", **(headers or {})})
        response = open_connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def get(base_url: str, path: str) -> Any:
    """The JSON at a path."""
    return json.loads(call(base_url, "GET", path)[2])


def post(base_url: str, path: str, body: Any) -> Any:
    """The JSON that answers a JSON body."""
    return json.loads(call(base_url, "POST", path, body)[2])


def metric(base_url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry the labels."""
    text = call(base_url, "GET", "/v1/metrics")[2].decode()
    total = 0.0
    for line in text.splitlines():
        matched = re.fullmatch(rf"{re.escape(name)}\{{(.*)\}} (\S+)", line)
        if matched and all(f'{label}="{value}"' in matched[1] for label, value in labels.items()):
            total += float(matched[2])
    return total


def eventually(claim: Callable[[], bool]) -> bool:
    """Whether the claim becomes true before the deadline; asked again and again."""
    pause = threading.Event()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if claim():
            return True
        pause.wait(0.02)
    return False
