"""Plain single requests to an endpoint: discovery, identity, probes. Bulk requests go through `inference`."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import RequestError

from llm_platform.errors import EndpointUnavailable, SpecificationError
from llm_platform.settings.connection import Connection, trusted


class EndpointClient:
    """A client for GET and POST; use it as a context manager."""

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        how = connection or Connection()
        timeout_seconds = timeout_seconds or how.reply_timeout_seconds
        builder = SyncClientBuilder().follow_redirects(False).timeout(timedelta(seconds=timeout_seconds))
        builder = builder.connect_timeout(timedelta(seconds=min(how.connect_timeout_seconds, timeout_seconds)))
        if not how.environment_proxies:
            builder = builder.no_proxy()
        if how.bearer_token:
            builder = builder.default_headers({"Authorization": f"Bearer {how.bearer_token}"})
        self._own = _OwnTls(how, timeout_seconds) if how.ca_file is not None and not how.environment_proxies else None
        if how.ca_file is not None:
            builder = builder.add_root_certificate_pem(_read(how.ca_file))
        self._client: SyncClient = builder.build()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            EndpointUnavailable: nothing answers.
        """
        if self._own is not None:
            return self._own.send("GET", url)
        try:
            response = self._client.get(url).build().send()
            return response.status, bytes(response.bytes())
        except RequestError as error:
            raise EndpointUnavailable(f"GET {url}: {_cause(error)}. Is the endpoint running and reachable?") from error

    def post(self, url: str, payload: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of a JSON request.

        Raises:
            EndpointUnavailable: nothing answers.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        if self._own is not None:
            return self._own.send("POST", url, body)
        try:
            request = self._client.post(url).body_bytes(body).header("Content-Type", "application/json")
            response = request.build().send()
            return response.status, bytes(response.bytes())
        except RequestError as error:
            raise EndpointUnavailable(f"POST {url}: {_cause(error)}. Is the endpoint running and reachable?") from error


class _OwnTls:
    """The same by OpenSSL, for a private authority: Rust's TLS takes no certificate that is its own authority."""

    def __init__(self, how: Connection, timeout_seconds: float) -> None:
        self._tls, self._timeout = trusted(how), timeout_seconds
        self._headers = {"Authorization": f"Bearer {how.bearer_token}"} if how.bearer_token else {}

    def send(self, method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=self._timeout, context=self._tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=self._timeout)
        )
        try:
            with closing(connection):
                headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
                connection.request(method, parts.path or "/", body, headers)
                response = connection.getresponse()
                return response.status, response.read()
        except ssl.SSLCertVerificationError as error:
            why = f"certificate not accepted: {error.verify_message}"
        except OSError as error:
            why = error.strerror or type(error).__name__
        except http.client.HTTPException as error:
            why = type(error).__name__
        raise EndpointUnavailable(f"{method} {url}: {why}. Is the endpoint running and reachable?")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecificationError(f"{path}: the CA file cannot be read ({error.strerror}).") from error


def _cause(error: RequestError) -> str:
    causes = error.details["causes"] or []
    return causes[-1]["message"] if causes else error.message
